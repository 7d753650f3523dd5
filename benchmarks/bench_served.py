"""A model that does next to nothing, so that what is measured is the service around it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from pydantic import BaseModel, Field

from daybreak.lab.model import Model, Request, Response, action


class Size(BaseModel):
    """What a model is made of."""

    factor: float = 1.0
    """What a number is multiplied by: it tells versions apart."""


class Number(Request):
    """One number."""

    x: float = Field(ge=-1000, le=1000)
    """A number."""


class Scaled(Response):
    """One number."""

    y: float
    """The number times the factor."""


class Work(Request):
    """What to be busy with."""

    seconds: float = Field(0, ge=0, le=3600)
    """Of a loop in Python."""
    tag: str = Field("", max_length=20)
    """Carried along."""
    words: tuple[str, ...] = Field((), max_length=4)
    """Carried along."""


class Count(Request):
    """Where to stop."""

    to: int = Field(3, ge=0, le=100)
    """How far."""


class Step(Response):
    """One step."""

    n: int


class Served(Model):
    """Answers at once, works, or streams."""

    Config = Size

    @action
    def scale(self, request: Number) -> Scaled:
        """Multiply."""
        return Scaled(y=request.x * self.config.factor)

    @action
    def work(self, request: Work) -> Scaled:
        """Be busy for a while."""
        end = time.monotonic() + request.seconds
        while time.monotonic() < end:
            pass
        return Scaled(y=request.seconds)

    @action
    def count(self, request: Count) -> Iterator[Step]:
        """Count up."""
        for n in range(request.to):
            yield Step(n=n)
