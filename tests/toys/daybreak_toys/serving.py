"""A model for the service's and the kiosk's tests: every kind of field, batches, streams, and every way to fail."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field

from daybreak.errors import UserError
from daybreak.lab.model import Model, Request, Response, action
from daybreak.media import Media


class Letter(Media):
    """Text as media, which can be wrong."""

    mime, suffix, largest = "text/plain", ".txt", 2**20

    def __init__(self, text: str) -> None:
        self.text = text

    def to_bytes(self) -> bytes:
        return self.text.encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Letter:
        try:
            return cls(data.decode())
        except UnicodeDecodeError as error:
            raise UserError(f"not text: {error.reason}") from error

    def html(self) -> str:
        return "<p>letter</p>"


class Size(BaseModel):
    factor: float = 1.0
    """What a number is multiplied by; it tells versions apart."""


class Style(Request):
    """How a word is said."""

    loud: bool = False
    """In capitals."""


class Number(Request):
    x: float = Field(ge=-1000, le=1000)
    """A number."""


class Scaled(Response):
    y: float
    """The number times the model's factor."""


class Say(Request):
    word: str = Field("", max_length=40)
    """A word that the weights know."""
    kind: Literal["plain", "twice"] = "plain"
    """How often."""
    letter: Letter | None = None
    """A text to begin with."""
    style: Style = Style()
    tags: tuple[str, ...] = Field((), max_length=4)
    """Words that go with it."""


class Said(Response):
    text: str
    letter: Letter
    """The same as a file."""


class Count(Request):
    to: int = Field(3, ge=0, le=1000)
    """How far."""
    pause: float = Field(0, ge=0, le=60)
    """Seconds between."""
    fail: int = Field(-1, ge=-1, le=1000)
    """At which number to say no."""


class Step(Response):
    n: int


class Wait(Request):
    seconds: float = Field(0, ge=0, le=60)
    """How long."""
    fault: Literal["", "crash", "refuse", "nan"] = ""
    """What goes wrong."""


class Book:
    """A resource: a file of words."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    @classmethod
    def open(cls, path: Any) -> Book:
        try:
            return cls(Path(path).read_text().split())
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error


class Server(Model):
    Config = Size
    resources: ClassVar[dict[str, str]] = {"book": "daybreak_toys.serving:Book"}
    batches: ClassVar[list[int]] = []
    stopped: ClassVar[list[str]] = []

    def describe(self) -> dict[str, Any]:
        return {"word": ["yes", "no"], "most": 3}

    @action(batch=8)
    def scale(self, request: Number) -> Scaled:
        """Multiply."""
        return Scaled(y=request.x * self.config.factor)

    def scale_many(self, requests: Sequence[Number]) -> list[Scaled]:
        self.batches.append(len(requests))
        if any(request.x == 13 for request in requests):
            raise ValueError("thirteen")
        return [self.scale(request) for request in requests]

    @action
    def say(self, request: Say) -> Said:
        """Say a word."""
        text = (request.letter.text if request.letter else "") + request.word
        text = text * 2 if request.kind == "twice" else text
        text = text.upper() if request.style.loud else text
        return Said(text=text, letter=Letter(text))

    @action
    def count(self, request: Count) -> Iterator[Step]:
        """Count up."""
        try:
            for n in range(request.to):
                if n == request.fail:
                    raise UserError(f"no further than {n}")
                time.sleep(request.pause)
                yield Step(n=n)
        finally:
            self.stopped.append("count")

    @action
    def wait(self, request: Wait) -> Scaled:
        """Take a while."""
        if request.fault == "crash":
            raise RuntimeError("secret words")
        if request.fault == "refuse":
            raise UserError("this cannot be done")
        try:
            end = time.monotonic() + request.seconds
            while time.monotonic() < end:
                time.sleep(0.002)
        finally:
            self.stopped.append("wait")
        return Scaled(y=float("nan") if request.fault == "nan" else request.seconds)

    @action
    def look(self, request: Number) -> Said:
        """Look a word up in the book."""
        if self.book is None:
            raise UserError("no book is open; serve with --resource server.book=PATH")
        word = self.book.words[int(request.x) % len(self.book.words)]
        return Said(text=word, letter=Letter(word))
