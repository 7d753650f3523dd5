"""Super Mario Bros on the NES: "nes:SuperMarioBros-v0", or one stage of it, "nes:SuperMarioBros-1-1-v0".

nes-py and gym-super-mario-bros stopped before NumPy 2, whose bytes refuse to overflow: two small shims give them whole
numbers. Four frames for an action, a grey picture of 84 x 84, the package's own reward (Kauten 2018: progress, minus
time, minus 15 for a death, in -15 to 15 for each frame). The emulator's state cannot be taken out of it.
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from typing import Any, cast

import numpy as np

from daybreak.errors import UserError, nearest
from daybreak.systems.rl.envs.base import VectorEnv
from daybreak.systems.rl.envs.singles import Single, Singles
from daybreak.systems.rl.spec import Space, Spec

SKIP, SIDE = 4, 84
SCREENS = ("vanilla", "downsample", "pixel", "rectangle")
"""-v0 to -v3: how much the ROM's pictures were simplified."""
A, B, DOWN, LEFT, RIGHT, UP = 1, 2, 32, 64, 128, 16
RIGHTS = (0, RIGHT, RIGHT | A, RIGHT | B, RIGHT | A | B)
MOVES = {
    "right": RIGHTS,
    "simple": (*RIGHTS, A, LEFT),
    "complex": (*RIGHTS, A, LEFT, LEFT | A, LEFT | B, LEFT | A | B, DOWN, UP),
}
"""Buttons held for each action; the package's three sets."""


class Ram:
    """The emulator's memory; reads give whole numbers, so that sums do not overflow."""

    def __init__(self, memory: np.ndarray) -> None:
        self.memory = memory

    def __getitem__(self, place: int | slice) -> Any:
        found = self.memory[place]
        return found.tolist() if isinstance(place, slice) else int(found)

    def __setitem__(self, place: int, value: int) -> None:
        self.memory[place] = value


@cache
def console() -> Any:
    """The package's environment with both shims. Raises ModuleNotFoundError where it is missing."""
    # gym prints at import that it has a successor; nothing here uses more of it than its spaces.
    importlib.import_module("gym_notices.notices").notices.clear()
    library: Any = importlib.import_module("nes_py.nes_env")
    game: Any = importlib.import_module("gym_super_mario_bros.smb_env")

    class Rom(library.ROM):  # type: ignore[misc]
        @property
        def header(self) -> Any:
            return np.asarray(self.raw_data[:16], np.int64)

    class Mario(game.SuperMarioBrosEnv):  # type: ignore[misc]
        def _ram_buffer(self) -> Ram:
            return Ram(super()._ram_buffer())

        @property
        def _left_x_position(self) -> int:
            return int(self.ram[0x86] - self.ram[0x071C]) % 256

    library.ROM = Rom
    return Mario


class NesSingle:
    """One console. An observation is uint8 [84, 84]."""

    def __init__(self, options: dict[str, Any], moves: tuple[int, ...], noops: int) -> None:
        from PIL import Image

        self.game, self.moves, self.noops = console()(**options), moves, noops
        self.random = np.random.default_rng(0)
        self._image: Any = Image

    def reset(self, seed: int | None) -> np.ndarray:
        if seed is not None:
            self.random = np.random.default_rng(seed)
        self.game.reset()
        # The console knows no chance: waiting a little is what makes episodes differ.
        for _ in range(int(self.random.integers(self.noops + 1))):
            self.game.step(0)
        return self._seen()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool]:
        buttons, total, over = self.moves[int(action)], 0.0, False
        for _ in range(SKIP):
            _, reward, over, _ = self.game.step(buttons)
            total += reward
            if over:
                break
        return self._seen(), total, over, False

    def state(self) -> None:
        return None

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        raise NotImplementedError("the emulator's state cannot be set")

    def frame(self) -> np.ndarray:
        return np.array(self.game.screen)

    def close(self) -> None:
        self.game.close()

    def _seen(self) -> np.ndarray:
        picture = self._image.fromarray(np.ascontiguousarray(self.game.screen)).convert("L")
        return np.asarray(picture.resize((SIDE, SIDE), self._image.Resampling.BOX), np.uint8)


def parse(id: str) -> dict[str, Any]:
    """Options of the package for an id. Raises `UserError` with the nearest ids."""
    match = re.fullmatch(r"SuperMarioBros(2?)(?:-(\d)-(\d))?-v(\d)", id)
    last = 1 if match and match[1] else 3
    if not match or int(match[4]) > last:
        known = [f"SuperMarioBros-v{n}" for n in range(4)] + ["SuperMarioBros2-v0", "SuperMarioBros2-v1"]
        stages = [f"SuperMarioBros-{world}-{stage}-v0" for world in range(1, 9) for stage in range(1, 5)]
        raise UserError(f"no NES game {id!r}; {nearest(id, [*known, *stages])}")
    world, stage = (int(match[n]) if match[n] else None for n in (2, 3))
    if world is not None and not (1 <= world <= 8 and 1 <= (stage or 0) <= 4):
        raise UserError(f"nes:{id}: worlds are 1 to 8 and stages 1 to 4, not {world}-{stage}")
    return {
        "rom_mode": SCREENS[int(match[4])],
        "lost_levels": bool(match[1]),
        "target": None if world is None else (world, stage),
    }


def make(id: str, count: int, moves: str = "simple", noops: int = 30) -> VectorEnv:
    """`count` consoles. `moves`: right (5 actions), simple (7) or complex (12); `noops`: frames waited at most before
    an episode, drawn anew for each. Raises `UserError` for an unknown game or set of moves."""
    options = parse(id)
    if moves not in MOVES:
        raise UserError(f"nes:{id}: no moves {moves!r}; {nearest(moves, MOVES)}")
    singles = [NesSingle(options, MOVES[moves], noops) for _ in range(count)]
    spec = Spec(name=f"nes:{id}", action=Space.discrete(len(MOVES[moves])), image=(1, SIDE, SIDE), stack=4)
    return Singles(spec, cast("list[Single]", singles), write)


def write(seen: np.ndarray, arrays: dict[str, np.ndarray], row: int) -> None:
    """One channel."""
    arrays["image"][row, 0] = seen
