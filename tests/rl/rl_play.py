"""What the tests of rl share: blocks of play with known content, and configs that learn in a second."""

from __future__ import annotations

import numpy as np

from daybreak.systems.rl.spec import Space, Spec
from daybreak.systems.rl.store import Block, Ring

VECTOR = Spec(name="test", action=Space.discrete(3), vector=1)
FRAMES = Spec(name="test", action=Space.discrete(3), image=(1, 2, 2), stack=4)


def played(random: np.random.Generator, ring: Ring, times: int, number: int = 0) -> Block:
    """A block of random play.

    Observations are numbers that never repeat, so that each tells where it comes from.
    """
    seeds, copies = ring.seeds, ring.copies
    shape = (times, seeds, copies)
    terminated = random.random(shape) < 0.15
    truncated = (random.random(shape) < 0.15) & ~terminated
    unique = (number * times * seeds * copies + np.arange(np.prod(shape))).reshape(shape)
    columns = {
        "action": random.integers(3, size=shape), "reward": random.normal(size=shape).astype(np.float32),
        "terminated": terminated, "truncated": truncated,
    }  # fmt: skip
    finals = {}
    if ring.spec.vector:
        columns["vector"] = unique[..., None].astype(np.float32)
        for key in zip(*np.nonzero(truncated), strict=True):
            finals[tuple(map(int, key))] = {"vector": np.array([-1.0 - unique[key]], np.float32)}
    else:
        columns["image"] = np.broadcast_to((unique % 200)[..., None, None, None], (*shape, 1, 2, 2)).astype(np.uint8)
        for key in zip(*np.nonzero(truncated), strict=True):
            finals[tuple(map(int, key))] = {"image": np.full((1, 2, 2), 255, np.uint8)}
    return Block(columns, finals)
