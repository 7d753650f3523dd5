"""What every media type promises. It knows files and pages; it knows nothing about models."""

from __future__ import annotations

import abc
import base64
import binascii
import os
from pathlib import Path
from typing import Any, ClassVar, Self

from daybreak.errors import UserError


class Media(abc.ABC):
    """A sound, a picture, a score, a text: immutable, and equal when its bytes are equal."""

    mime: ClassVar[str]
    suffix: ClassVar[str]
    largest: ClassVar[int] = 64 * 2**20
    """Bytes above which a file is refused before it is read."""

    @abc.abstractmethod
    def to_bytes(self) -> bytes:
        """The file's bytes. The same value gives the same bytes."""

    @classmethod
    @abc.abstractmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a file's bytes. Raises `UserError` with the reason when they are not of this type."""

    @abc.abstractmethod
    def html(self) -> str:
        """A fragment that shows or plays the value in a page. It holds everything it needs."""

    def traits(self) -> dict[str, float]:
        """A few numbers that tell what kind of file it is and nothing of what is in it (brightness, length).

        The same value gives the same numbers, in well under a millisecond or from a sample of it: they are what is
        kept of what a service is asked.
        """
        return {"bytes": float(len(self.to_bytes()))}

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file. Raises `UserError` naming the path and the reason."""
        path = Path(path)
        try:
            if path.is_dir():
                raise UserError(f"{path} is a folder, not a {cls.suffix} file")
            size = path.stat().st_size
            if size > cls.largest:
                raise UserError(f"{path} has {size / 2**20:.0f} MiB; at most {cls.largest // 2**20} MiB can be read")
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        try:
            return cls.from_bytes(data)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the file, whole or not at all. Returns the path."""
        path = Path(path)
        beside = path.with_name(f".{path.name}.part")
        beside.write_bytes(self.to_bytes())
        beside.replace(path)
        return path

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """In a request: an instance or the file's bytes; in JSON, the bytes in base64, both ways.

        Never a path or an address: only the command line opens paths.
        """
        from pydantic_core import core_schema as schema

        def read(value: Any) -> Any:
            if isinstance(value, bytes):
                if len(value) > cls.largest:
                    size, most = len(value) / 2**20, cls.largest // 2**20
                    raise ValueError(f"has {size:.0f} MiB; at most {most} MiB can be read")
                try:
                    return cls.from_bytes(value)
                except UserError as error:
                    raise ValueError(str(error)) from error
            return value

        def decode(text: str) -> Any:
            try:
                return read(base64.b64decode(text, validate=True))
            except binascii.Error as error:
                said = f"takes the bytes of a {cls.suffix} file in base64, never a path or an address"
                raise ValueError(said) from error

        def encode(value: Any) -> Any:
            return base64.b64encode(value.to_bytes()).decode() if isinstance(value, Media) else value

        return schema.json_or_python_schema(
            schema.no_info_after_validator_function(decode, schema.str_schema(max_length=cls._most_letters())),
            schema.no_info_before_validator_function(read, schema.is_instance_schema(cls)),
            serialization=schema.plain_serializer_function_ser_schema(encode, when_used="json"),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        """A string of base64, as JSON Schema 2020-12 and OpenAPI 3.0 each say it."""
        words = {"contentEncoding": "base64", "contentMediaType": cls.mime, "format": "byte"}
        return {"type": "string", **words, "maxLength": cls._most_letters()}

    @classmethod
    def _most_letters(cls) -> int:
        """Letters of base64 that the largest file takes."""
        return 4 * ((cls.largest + 2) // 3)
