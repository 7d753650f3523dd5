"""Small catalogues for the tests: rows by number, vectors by seed."""

from __future__ import annotations

import os

import numpy as np

from daybreak.systems.commerce.catalogue import Catalogue, Row

SPACES = {"instance": 16, "product": 16, "colour": 8}


def unit(count: int, width: int, seed: int = 0) -> np.ndarray:
    """Vectors of length 1."""
    x = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def vectors(count: int, seed: int = 0, spaces=SPACES) -> dict[str, np.ndarray]:
    """Vectors of every space."""
    return {space: unit(count, width, seed * 10 + i) for i, (space, width) in enumerate(spaces.items())}


def row(i: int, **more) -> Row:
    """The item of a number: its category, colour, price and sender follow from it."""
    usual = {
        "digest": f"{i:032x}",
        "category": ("dress", "shoe", "hat")[i % 3],
        "tags": {"colour": (("red", "blue")[i % 2],)},
        "price": float(i),
        "group": f"sender{i % 5}",
    }
    return Row(id=f"i{i}", **(usual | more))


def filled(folder, count: int = 60, **options) -> tuple[Catalogue, dict[str, np.ndarray]]:
    """A catalogue of so many items in two segments, and their vectors."""
    catalogue = Catalogue.create(folder, "shopnet-1", SPACES, **options)
    every = vectors(count)
    with catalogue.writing() as writer:
        for part in np.array_split(np.arange(count), 2):
            writer.add([row(int(i)) for i in part], {space: x[part] for space, x in every.items()})
    return catalogue, every


def in_child(work) -> int:
    """Run in a forked process; its exit status, negative for the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
