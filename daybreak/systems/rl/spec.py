"""What an environment shows and takes: spaces, as frozen values that a Config can hold and JSON can carry.

It knows shapes and bounds. It knows nothing about environments, networks or learning.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

Observation = Literal["vector", "image", "mask"]


class Space(BaseModel):
    """What an agent can do. Derive nothing: a kind and its numbers.

    "discrete" takes one of `choices[0]`; "multi" takes one of each of `choices`; "box" takes a vector of reals between
    `low` and `high`. Actions are int64 [envs], int64 [envs, parts] and float32 [envs, dims].
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Literal["discrete", "multi", "box"]
    choices: tuple[int, ...] = ()
    """Number of choices, one number for each part."""
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @classmethod
    def discrete(cls, choices: int) -> Space:
        """One of `choices`."""
        return cls(kind="discrete", choices=(choices,))

    @classmethod
    def box(cls, low: tuple[float, ...], high: tuple[float, ...]) -> Space:
        """A vector of reals. Raises ValueError for bounds that are not finite: such an action has no scale."""
        if not all(math.isfinite(x) for x in (*low, *high)):
            raise ValueError(f"an action needs finite bounds, not {low} to {high}")
        return cls(kind="box", low=low, high=high)

    @property
    def size(self) -> int:
        """Length of the action's vector: 1 for one choice."""
        return len(self.low) if self.kind == "box" else len(self.choices)

    def __str__(self) -> str:
        if self.kind == "box":
            return f"Box({self.size})"
        return f"Discrete({self.choices[0]})" if self.kind == "discrete" else f"MultiDiscrete{self.choices}"


class Spec(BaseModel):
    """What an environment shows and takes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """As it was asked for."""
    action: Space
    vector: int = 0
    """Length of the vector observation (float32); 0 where there is none."""
    image: tuple[int, int, int] | None = None
    """Channels, height, width of one frame (uint8)."""
    stack: int = 1
    """Frames that a network sees at once. The environment gives one; the store and the actor stack them."""
    masked: bool = False
    """Whether each observation carries the choices that are allowed (bool)."""
    players: int = 1
    """2: the reward is the mover's, and the observation is always the next mover's own view."""
    episode: int = 0
    """Steps after which an episode is cut off; 0 where it is not."""
    best: float | None = None
    """A return that counts as solved, where the field has one."""
    judged: str = ""
    """The environment that whole episodes are judged in, where it is another one: a game against a named opponent."""

    @property
    def observations(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of each part of one observation, by name."""
        parts: dict[str, tuple[tuple[int, ...], str]] = {}
        if self.vector:
            parts["vector"] = ((self.vector,), "float32")
        if self.image:
            parts["image"] = (self.image, "uint8")
        if self.masked:
            parts["mask"] = ((sum(self.action.choices),), "bool")
        return parts
