"""Drawings as SVG text. It knows how to stand in a page; it knows nothing about what is drawn."""

from __future__ import annotations

import re
from typing import ClassVar, Self

from daybreak.errors import UserError
from daybreak.media.base import Media

_ACTIVE = re.compile(rb"<script|<foreignObject|javascript:|\son[a-z]+\s*=|<!ENTITY", re.IGNORECASE)


class Svg(Media):
    """An SVG drawing. Those that could run something are refused."""

    mime: ClassVar[str] = "image/svg+xml"
    suffix: ClassVar[str] = ".svg"
    largest: ClassVar[int] = 8 * 2**20

    def __init__(self, text: str) -> None:
        self.text = text

    def to_bytes(self) -> bytes:
        return self.text.encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Check and read. Raises `UserError`."""
        import xml.etree.ElementTree as ElementTree

        if active := _ACTIVE.search(data):
            raise UserError(f"the drawing holds {active.group().decode()!r}, which a page must not run")
        try:
            root = ElementTree.fromstring(data.decode())
        except (ElementTree.ParseError, UnicodeDecodeError) as error:
            raise UserError(f"not an SVG drawing: {error}") from error
        if root.tag.rpartition("}")[2] != "svg":
            raise UserError(f"not an SVG drawing: its root is {root.tag!r}")
        return cls(data.decode())

    def html(self) -> str:
        return self.text[self.text.index("<svg") :]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Svg) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)
