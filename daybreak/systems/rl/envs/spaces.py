"""Gymnasium's spaces as ours: observations become one vector and one image, actions a `Space`.

It reads spaces by what they have (`shape`, `n`, `nvec`, ...), so that spaces of Gymnasium's relatives fit as well.
Names inside a Dict keep the order of the space. What does not fit is refused in one line, with the part's name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from daybreak.errors import UserError
from daybreak.systems.rl.spec import Space

Part = tuple[tuple[Any, ...], Any]
"""Path inside the observation, and the space there."""


class Reader:
    """How to write an observation of `space` into rows of "vector" and "image". Raises `UserError` where it cannot."""

    def __init__(self, name: str, space: Any) -> None:
        self.image: tuple[int, int, int] | None = None
        """Channels, height, width."""
        self.vector = 0
        self.names: list[str] = []
        """The parts of the vector, in order."""
        self._vectors: list[tuple[tuple[Any, ...], Callable[[Any], np.ndarray], slice]] = []
        self._image: tuple[tuple[Any, ...], Callable[[np.ndarray], np.ndarray]] | None = None
        images = []
        for path, part in leaves(space):
            label = ".".join(map(str, path)) or "observation"
            if is_image(part):
                images.append(label)
                self.image, turn = image_shape(part.shape)
                self._image = (path, turn)
                continue
            length, read = vector_part(name, label, part)
            self._vectors.append((path, read, slice(self.vector, self.vector + length)))
            self.vector += length
            self.names.append(label)
        if len(images) > 1:
            raise UserError(f"{name} shows {len(images)} images ({', '.join(images)}); one can be learned from")
        if not self.vector and not images:
            raise UserError(f"{name} shows nothing: {space}")
        # The common case without a loop: one plain vector.
        self._plain = not images and len(self._vectors) == 1 and not self._vectors[0][0]

    def write(self, seen: Any, arrays: dict[str, np.ndarray], row: int) -> None:
        """Write one observation."""
        if self._plain:
            arrays["vector"][row] = self._vectors[0][1](seen)
            return
        for path, read, where in self._vectors:
            arrays["vector"][row, where] = read(at(seen, path))
        if self._image is not None:
            path, turn = self._image
            arrays["image"][row] = turn(np.asarray(at(seen, path)))


def leaves(space: Any, path: tuple[Any, ...] = ()) -> list[Part]:
    """The parts of a space, through Dict and Tuple."""
    inner = getattr(space, "spaces", None)
    if inner is None:
        return [(path, space)]
    items = inner.items() if hasattr(inner, "items") else enumerate(inner)
    return [leaf for key, part in items for leaf in leaves(part, (*path, key))]


def at(seen: Any, path: tuple[Any, ...]) -> Any:
    """The part of an observation at a path."""
    for key in path:
        seen = seen[key]
    return seen


def is_image(space: Any) -> bool:
    """A Box of bytes with two or three dimensions."""
    return kind(space) == "Box" and space.dtype == np.uint8 and len(space.shape) in (2, 3)


def image_shape(shape: tuple[int, ...]) -> tuple[tuple[int, int, int], Callable[[np.ndarray], np.ndarray]]:
    """Channels, height and width, and how to bring a picture into that order. Channels are the shorter end."""
    if len(shape) == 2:
        return (1, shape[0], shape[1]), lambda picture: picture[None]
    if shape[2] <= 4 or shape[2] < shape[0]:
        return (shape[2], shape[0], shape[1]), lambda picture: picture.transpose(2, 0, 1)
    return (shape[0], shape[1], shape[2]), lambda picture: picture


def vector_part(name: str, label: str, space: Any) -> tuple[int, Callable[[Any], np.ndarray]]:
    """Length of a part of the vector, and how to read it: choices one-hot, everything else as numbers."""
    match kind(space):
        case "Box" if len(space.shape) == 1:
            return int(space.shape[0]), lambda seen: seen
        case "Box":
            return math.prod(space.shape), np.ravel
        case "MultiBinary":
            return math.prod(np.atleast_1d(space.n)), np.ravel
        case "Discrete":
            start, eye = int(getattr(space, "start", 0)), np.eye(int(space.n), dtype=np.float32)
            return len(eye), lambda seen: eye[int(seen) - start]
        case "MultiDiscrete":
            sizes = np.ravel(space.nvec).astype(int)
            starts = np.ravel(getattr(space, "start", np.zeros(len(sizes)))).astype(int)
            firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]])

            def read(seen: Any) -> np.ndarray:
                hot = np.zeros(sizes.sum(), np.float32)
                hot[firsts + np.ravel(seen) - starts] = 1
                return hot

            return int(sizes.sum()), read
    raise UserError(f"{name} shows {label} as {kind(space)}, which cannot be learned from (Box, Discrete, Dict can)")


def kind(space: Any) -> str:
    """The name of Gymnasium's space that this is or derives from."""
    known = ("Box", "Discrete", "MultiDiscrete", "MultiBinary", "Dict", "Tuple")
    return next((c.__name__ for c in type(space).__mro__ if c.__name__ in known), type(space).__name__)


def action_space(name: str, space: Any) -> tuple[Space, Callable[[np.ndarray], Any]]:
    """Our space, and how an action of ours becomes theirs. Raises `UserError` for one that no agent here can take."""
    match kind(space):
        case "Discrete":
            start = int(getattr(space, "start", 0))
            return Space.discrete(int(space.n)), lambda action: start + int(action)
        case "MultiDiscrete":
            shape, starts = np.shape(space.nvec), getattr(space, "start", 0)
            sizes = tuple(int(n) for n in np.ravel(space.nvec))
            return Space(kind="multi", choices=sizes), lambda action: np.reshape(action, shape) + starts
        case "MultiBinary":
            shape = tuple(np.atleast_1d(space.n))
            return (
                Space(kind="multi", choices=(2,) * math.prod(shape)),
                lambda action: np.reshape(action, shape).astype(np.int8),
            )
        case "Box" if np.issubdtype(space.dtype, np.floating):
            low, high = (tuple(float(x) for x in np.ravel(bound)) for bound in (space.low, space.high))
            try:
                ours = Space.box(low, high)
            except ValueError as error:
                raise UserError(
                    f"{name}: {error}; wrap it in gymnasium.wrappers.RescaleAction or bound its action space"
                ) from error
            shape, dtype = space.shape, space.dtype
            return ours, lambda action: np.asarray(action, dtype).reshape(shape)
    raise UserError(f"{name} takes {space}, which no agent here can act in (Discrete, MultiDiscrete, float Box can)")
