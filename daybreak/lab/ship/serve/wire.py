"""An action on the wire: bytes -> request, answer -> bytes, and the schemas of both.

JSON is strict: a number in quotes is no number. Media are base64 in JSON, or parts of a form. This file knows types; it
knows nothing about connections.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import pydantic_core
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from daybreak.errors import UserError, nearest
from daybreak.lab import limits
from daybreak.lab.config import leaves
from daybreak.lab.model import Action, media_of
from daybreak.media import Media

JSON = "application/json"
FORM = "multipart/form-data"
EVENTS = "text/event-stream"
REQUEST = "request"
"""The part of a form that holds the fields which are no media, as JSON."""


class Refused(Exception):
    """An answer that is no answer: a status of HTTP, and one line for a person."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Schemas(GenerateJsonSchema):
    """Pydantic's, but an answer's number may be null: JSON has no NaN."""

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        found = super().float_schema(schema)
        return found if self.mode == "validation" else {"anyOf": [found, {"type": "null"}]}


class Wire:
    """One action's two types, as bytes and as schemas."""

    def __init__(self, action: Action) -> None:
        self.action = action
        self.answer: TypeAdapter[Any] = TypeAdapter(action.response)
        self.media = media_of(action.request)
        self.floats = '"number"' in str(_schema(action.request)).replace("'", '"')

    @property
    def largest(self) -> int:
        """Bytes that a body of a request can need: its media in base64, and a megabyte for the rest."""
        return 2**20 + sum(4 * kind.largest // 3 for kind in self.media.values())

    def read(self, body: bytes, kind: str, known: Mapping[str, Any]) -> BaseModel:
        """The request in a body, or `Refused`: 400 for what is no JSON or form, 422 for what does not fit the type.

        `kind` is the Content-Type; `known` are the limits of the weights that will answer.
        """
        if kind.partition(";")[0].strip().lower() == FORM:
            body = self._form(body, kind)
        try:
            try:
                request = self.action.request.model_validate_json(body, strict=True)
            except ValidationError as error:
                request = self.action.request.model_validate_json(_whole(body, error), strict=True)
        except ValidationError as error:
            raise self._refused(error) from None
        if self.floats and (where := infinite(request)):
            raise Refused(422, f"{where}: a number must be finite")
        if found := limits.unknown(request, known):
            field, word, words = found
            raise Refused(422, f"{field}: these weights know no {short(word)}; {nearest(word, words)}")
        return request

    def write(self, answer: Any) -> bytes:
        """The JSON of an answer: media in base64, numbers that are not finite as null."""
        return self.answer.dump_json(answer)

    def _form(self, body: bytes, kind: str) -> bytes:
        """A form's JSON: its part "request", with the files of its other parts in their fields."""
        from python_multipart.exceptions import FormParserError
        from python_multipart.multipart import FormParser, parse_options_header

        parts: list[tuple[str, bytes]] = []
        boundary = parse_options_header(kind)[1].get(b"boundary")
        if not boundary:
            raise Refused(400, "the form's Content-Type names no boundary")
        most = {"MAX_MEMORY_FILE_SIZE": len(body) + 1, "MAX_FIELDS": 1000}

        def on_file(part: Any) -> None:
            part.file_object.seek(0)
            parts.append(((part.field_name or b"").decode("utf-8", "replace"), part.file_object.read()))

        def on_field(part: Any) -> None:
            parts.append(((part.field_name or b"").decode("utf-8", "replace"), part.value or b""))

        try:
            parser = FormParser("multipart/form-data", on_field, on_file, boundary=boundary, config=most)
            parser.write(body)
            parser.finalize()
        except (FormParserError, ValueError) as error:
            raise Refused(400, f"not a form: {one_line(str(error))}") from None
        return self._joined(parts)

    def _joined(self, parts: list[tuple[str, bytes]]) -> bytes:
        texts = [data for name, data in parts if name == REQUEST]
        try:
            values = pydantic_core.from_json(texts[0]) if texts else {}
        except ValueError as error:
            raise Refused(400, f"the part {REQUEST!r} is not JSON: {one_line(str(error))}") from None
        if not isinstance(values, dict) or len(texts) > 1:
            raise Refused(400, f"a form has one part {REQUEST!r}, a JSON object; its files stand beside it")
        for name, data in parts:
            if name == REQUEST:
                continue
            if name not in self.media:
                raise Refused(422, f"{self.action.name} takes no file {short(name)}; {nearest(name, self.media)}")
            *way, last = name.split(".")
            holder = values
            for step in way:
                holder = holder.setdefault(step, {})
                if not isinstance(holder, dict):
                    raise Refused(422, f"{step}: takes fields")
            holder[last] = base64.b64encode(data).decode()
        return pydantic_core.to_json(values)

    def _refused(self, error: ValidationError) -> Refused:
        first = error.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            return Refused(400, f"not JSON: {one_line(first['msg'].removeprefix('Invalid JSON: '))}")
        where = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            return Refused(422, f"unknown field {short(where)}; {nearest(where, leaves(self.action.request))}")
        said = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ").replace("Input", "it")
        return Refused(422, one_line(f"{where or 'the request'}: {said}"))

    def schemas(self, known: Mapping[str, Any], prefix: str) -> tuple[JsonSchemaValue, JsonSchemaValue]:
        """JSON Schemas of request (limits of the weights merged in) and answer; their definitions begin with `prefix`.

        Definitions stand under "$defs", and references lead to #/components/schemas/.
        """
        template = f"#/components/schemas/{prefix}{{model}}"
        asked = self.action.request.model_json_schema(ref_template=template, schema_generator=Schemas)
        answered = self.answer.json_schema(ref_template=template, schema_generator=Schemas, mode="serialization")
        for flag in leaves(self.action.request):
            if (place := _property(asked, flag, template)) is not None and flag in known:
                _limit(place, known, flag)
        return asked, answered


def infinite(value: Any, where: str = "") -> str:
    """The way to the first number that is not finite; "" where all are."""
    if isinstance(value, float):
        return "" if math.isfinite(value) else where or "the request"
    if isinstance(value, BaseModel):
        pairs: Any = ((name, getattr(value, name)) for name in type(value).model_fields)
    elif isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, (list, tuple, set, frozenset)):
        pairs = enumerate(value)
    else:
        return ""
    for name, item in pairs:
        if found := infinite(item, f"{where}.{name}" if where else str(name)):
            return found
    return ""


def one_line(text: str, most: int = 300) -> str:
    """The text on one line, printable and not long: what came in a request may stand in it."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def short(word: str) -> str:
    """A word of a request, quoted."""
    return repr(one_line(word, 60))


def refused(error: UserError) -> Refused:
    """An action's own "no": the request fits the types, and this model, as it is, cannot do it."""
    return Refused(409, one_line(str(error), 1000))


def form_schema(asked: JsonSchemaValue, media: Mapping[str, type[Media]]) -> JsonSchemaValue:
    """The schema of a request as a form: files are parts, the rest is the part "request"."""
    rest = {key: value for key, value in asked.items() if key not in ("properties", "required")}
    rest["properties"] = {name: value for name, value in asked.get("properties", {}).items() if name not in media}
    required = asked.get("required", [])
    rest["required"] = [name for name in required if name not in media]
    files = {name: {"type": "string", "contentMediaType": kind.mime} for name, kind in media.items()}
    needed = [name for name in required if name in media] + ([REQUEST] if rest["required"] else [])
    fields = {REQUEST: rest, **files}
    return {"type": "object", "properties": fields, "required": needed, "additionalProperties": False}


def _whole(body: bytes, error: ValidationError) -> bytes:
    """The body with 2 in the place of 2.0 where a whole number is wanted: JSON Schema takes both for one.

    Raises the error where anything else is wrong.
    """
    wrong = error.errors(include_url=False)
    if any(one["type"] != "int_type" or not isinstance(one["input"], float) for one in wrong):
        raise error
    values = pydantic_core.from_json(body)
    for one in wrong:
        holder, (*way, last) = values, one["loc"]
        try:
            for step in way:
                holder = holder[step]
            if not float(holder[last]).is_integer():
                raise error
            holder[last] = int(holder[last])
        except (LookupError, TypeError, ValueError, OverflowError):
            raise error from None
    return pydantic_core.to_json(values)


def _schema(request: type[BaseModel]) -> JsonSchemaValue:
    return request.model_json_schema(schema_generator=Schemas)


def _property(schema: JsonSchemaValue, flag: str, template: str) -> JsonSchemaValue | None:
    """The schema of a dotted field, resolved through references into "$defs"."""
    at: JsonSchemaValue = schema
    for step in flag.split("."):
        options = [at, *at.get("anyOf", []), *at.get("allOf", [])]
        names = [o["$ref"].removeprefix(template.format(model="")) for o in options if "$ref" in o]
        options += [schema.get("$defs", {}).get(name, {}) for name in names]
        found = [o["properties"][step] for o in options if step in o.get("properties", {})]
        if not found:
            return None
        (at, *_) = found
    return at


def _limit(place: JsonSchemaValue, known: Mapping[str, Any], flag: str) -> None:
    """Merge a limit of the weights into a field's schema: words as an enumeration, all else as text."""
    said = ", ".join(map(str, known[flag])) if isinstance(known[flag], (list, tuple)) else str(known[flag])
    place["description"] = f"{place.get('description', '')} These weights: {said}.".strip()
    allowed = limits.words(known, flag)
    if not allowed:
        return
    for part in [place, *place.get("anyOf", [])]:
        inner = part.get("items") if part.get("type") == "array" else part
        if isinstance(inner, dict) and inner.get("type") == "string":
            inner["enum"] = list(dict.fromkeys([*allowed, ""]))
