"""MinAtar (Young and Tian 2019): five games of 10 x 10 cells; each channel is one kind of thing, 0 or 1.

The games are plain Python, so their state is read and written attribute by attribute and comes back with the same
bits. Freeway ends by its clock alone, which nobody sees: that is a truncation here.
"""

from __future__ import annotations

import copy
import importlib
import logging
from typing import Any, cast

import numpy as np

from daybreak.errors import UserError, nearest
from daybreak.systems.rl.envs.base import VectorEnv
from daybreak.systems.rl.envs.singles import Single, Singles
from daybreak.systems.rl.spec import Space, Spec

GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")
FREEWAY = 2501
"""Steps after which Freeway stops: its timer starts at 2,500 and must fall below 0."""
COLOURS = ((24, 26, 34), (64, 160, 214), (226, 122, 55), (96, 184, 108), (190, 102, 190), (216, 190, 80), (200, 84, 84))
MORE = ((120, 130, 220), (70, 190, 180), (230, 150, 180), (150, 150, 150))
FIXED = ("random", "channels", "action_map")


class MinAtarSingle:
    """One game. An observation is bool [10, 10, channels]."""

    def __init__(self, game: str, sticky: float, ramping: bool, minimal: bool) -> None:
        self.game: Any = importlib.import_module(f"minatar.environments.{game}").Env(ramping=ramping)
        self.sticky, self.last = sticky, 0
        self.actions = self.game.minimal_action_set() if minimal else list(range(len(self.game.action_map)))
        self.timed = game == "freeway"

    def reset(self, seed: int | None) -> np.ndarray:
        if seed is not None:
            self.game.random, self.last = np.random.RandomState(seed), 0
        self.game.reset()
        return np.asarray(self.game.state())

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool]:
        # With a small probability the last action is taken again (Machado et al. 2018), as MinAtar's own wrapper does.
        if self.game.random.rand() >= self.sticky:
            self.last = self.actions[int(action)]
        reward, over = self.game.act(self.last)
        return self.game.state(), float(reward), bool(over) and not self.timed, bool(over) and self.timed

    def state(self) -> dict[str, Any]:
        rest = {name: copy.deepcopy(value) for name, value in vars(self.game).items() if name not in FIXED}
        kind, keys, place, has_gauss, gauss = self.game.random.get_state()
        return {"game": rest, "last": self.last, "random": [kind, keys, int(place), int(has_gauss), float(gauss)]}

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        vars(self.game).update(copy.deepcopy(state["game"]))
        self.last = int(state["last"])
        self.game.random.set_state(tuple(state["random"]))
        return np.asarray(self.game.state())

    def frame(self) -> np.ndarray:
        cells = self.game.state()
        palette = np.array([*COLOURS, *MORE], np.uint8)
        # A later channel lies above an earlier one, as in MinAtar's own pictures.
        top = (cells * np.arange(1, cells.shape[2] + 1)).max(axis=2)
        picture: np.ndarray = palette[top].repeat(20, axis=0).repeat(20, axis=1)
        picture[::20] = picture[:, ::20] = COLOURS[0]  # Thin lines between the cells.
        return picture

    def close(self) -> None:
        pass


def make(id: str, count: int, sticky: float = 0.1, ramping: bool = True, minimal: bool = False) -> VectorEnv:
    """`count` copies of a game. `sticky`: probability that the last action is taken again; `ramping`: it gets harder;
    `minimal`: only the actions that do something (else 6, the same in each game). Raises `UserError` for others."""
    if id not in GAMES:
        raise UserError(f"no MinAtar game {id!r}; {nearest(id, GAMES)}")
    if not 0 <= sticky <= 1:
        raise UserError(f"minatar:{id}: sticky is a probability, not {sticky}")
    # The package logs that it cannot draw without two others: here it need not.
    logging.disable(logging.WARNING)
    try:
        singles = [MinAtarSingle(id, sticky, ramping, minimal) for _ in range(count)]
    finally:
        logging.disable(logging.NOTSET)
    height, width, channels = singles[0].game.state_shape()
    spec = Spec(
        name=f"minatar:{id}",
        action=Space.discrete(len(singles[0].actions)),
        image=(channels, height, width),
        episode=FREEWAY if id == "freeway" else 0,
    )
    return Singles(spec, cast("list[Single]", singles), write)


def write(seen: np.ndarray, arrays: dict[str, np.ndarray], row: int) -> None:
    """Channels first."""
    arrays["image"][row] = seen.transpose(2, 0, 1)
