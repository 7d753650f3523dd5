"""What a service says about itself: the OpenAPI document and a page to read and to try it, both from the types.

The limits of the weights that answer now stand in them. It knows schemas; it answers nothing.
"""

from __future__ import annotations

import html
import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from daybreak import __version__
from daybreak.lab.ship.serve.wire import EVENTS, FORM, JSON, form_schema

if TYPE_CHECKING:
    from daybreak.lab.ship.serve.app import Route, Service

ERRORS = {
    "400": "The body is no JSON or form.",
    "403": "From a host or a page that may not ask.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "Neither JSON nor a form.",
    "409": "The request fits the types, but this model cannot do it, or not within the time.",
    "422": "The request does not fit the types.",
    "500": "The action failed inside.",
    "503": "Too many requests are waiting; Retry-After says when to try again.",
}
ERROR = {
    "type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"], "title": "Error",
}  # fmt: skip


def document(service: Service) -> dict[str, Any]:
    """OpenAPI 3.1 of the actions, with the limits of the models that answer now."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Error": ERROR}
    for route in service.routes:
        paths[route.path] = {"post": _operation(route, schemas, bool(service.token))}
    about: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "daybreak",
            "version": __version__,
            "description": "; ".join(f"{w.named.slug}: {w.named.current.title}" for w in service.workers),
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if service.token:
        about["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        about["security"] = [{"token": []}]
    return about


def _operation(route: Route, schemas: dict[str, Any], token: bool) -> dict[str, Any]:
    prefix = f"{route.slug}.{route.action.name}.".replace("@", "-")
    asked, answered = route.wire.schemas(route.worker.named.current.limits, prefix)
    for schema in (asked, answered):
        for name, found in schema.pop("$defs", {}).items():
            schemas[f"{prefix}{name}"] = found
    content = {JSON: {"schema": asked}}
    if route.wire.media:
        content[FORM] = {"schema": form_schema(asked, route.wire.media)}
    headers = {"Daybreak-Model": {"description": "The version that answered.", "schema": {"type": "string"}}}
    if route.action.streams:
        said = "Each event is an answer; then comes an event `end`, or `error` with its line."
        last = {"type": "object", "maxProperties": 0}
        kinds = {"anyOf": [answered, {"$ref": "#/components/schemas/Error"}, last]}
        data = {"type": "string", "contentMediaType": JSON, "contentSchema": kinds}
        name = {"type": "string", "enum": ["message", "end", "error"]}
        event = {"type": "object", "properties": {"event": name, "data": data}, "required": ["data"]}
        answer: dict[str, Any] = {EVENTS: {"schema": {**event, "description": said}}}
    else:
        answer = {JSON: {"schema": answered}}
    errors = {**ERRORS, **({"401": "The token is missing or wrong."} if token else {})}
    refused = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "operationId": f"{route.slug}.{route.action.name}",
        "summary": route.action.line,
        "description": f"At most {route.most:,} bytes.",
        "tags": [route.slug],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {"description": "The answer.", "content": answer, "headers": headers},
            **{status: {"description": said, "content": refused} for status, said in sorted(errors.items())},
        },
    }


@cache
def _page() -> str:
    return (files("daybreak.lab.ship.serve") / "docs.html").read_text()


def page(service: Service) -> str:
    """A page that shows the document and sends requests, with nothing from elsewhere."""
    # "</" would end the script element that holds the document.
    data = json.dumps(document(service), ensure_ascii=False).replace("</", "<\\/").replace("<!--", "<\\u0021--")
    return _page().replace("__TITLE__", html.escape("daybreak")).replace("__DOCUMENT__", data)
