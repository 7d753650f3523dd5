"""Board games as environments: one net plays both sides, or one side against a named opponent.

With two players the reward is the mover's and the observation the next mover's own view. Against an opponent it is an
environment like any other: the opponent answers inside the step, and who moves first alternates between episodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt8

from daybreak.errors import UserError
from daybreak.systems.rl.envs.base import Observations, Step, VectorEnv
from daybreak.systems.rl.envs.board.games import Game, Positions
from daybreak.systems.rl.envs.board.opponents import Opponent
from daybreak.systems.rl.spec import Space, Spec


def spec_of(game: Game, name: str, players: int, judged: str = "", best: float | None = None) -> Spec:
    """What a board shows and takes."""
    return Spec(
        name=name, action=Space.discrete(game.MOVES), image=(game.PLANES, game.ROWS, game.COLUMNS),
        vector=game.NUMBERS, masked=True, players=players, episode=game.LONGEST, judged=judged, best=best,
    )  # fmt: skip


class Board(VectorEnv):
    """`count` games in which every step is the move of whose turn it is."""

    def __init__(self, game: Game, count: int, judged: str, best: float | None = None) -> None:
        self.game, self.count = game, count
        self.spec = spec_of(game, f"board:{game.NAME}", 2, judged, best)
        self._begin()

    def _begin(self) -> None:
        self.positions: Positions = self.game.start(self.count)
        self.legal = self.game.legal(self.positions)

    def reset(self, seed: int) -> Observations:
        self._begin()
        return self._observe()

    def step(self, actions: np.ndarray) -> Step:
        reward, over = self._move(actions)
        reached = self._observe(over)
        self._renew(over)
        nobody = np.zeros(self.count, bool)
        return Step(reached, self._observe() if over.any() else reached, reward, over, nobody)

    def _move(self, actions: Int[np.ndarray, envs]) -> tuple[np.ndarray, Bool[np.ndarray, envs]]:
        """Make a move in each game. Raises `UserError` for one that is not allowed."""
        moves = np.asarray(actions)
        known = (moves >= 0) & (moves < self.game.MOVES)
        fine = known & self.legal[np.arange(self.count), np.where(known, moves, 0)]
        if not fine.all():
            which = int(np.flatnonzero(~fine)[0])
            allowed = np.flatnonzero(self.legal[which])
            raise UserError(
                f"{self.spec.name}, copy {which}: {self.game.name(int(moves[which]))} is not a legal move after "
                f"{self.positions['moves'][which]} moves; legal: {', '.join(map(str, allowed))}"
            )
        reward, over = self.game.play(self.positions, moves)
        self.legal = self.game.legal(self.positions)
        return reward, over

    def _renew(self, over: Bool[np.ndarray, envs]) -> None:
        """Begin new games where they are over."""
        if not over.any():
            return
        fresh = self.game.start(int(over.sum()))
        for name, values in fresh.items():
            self.positions[name][over] = values
        self.legal[over] = self.game.legal(fresh)

    def _observe(self, over: Bool[np.ndarray, envs] | None = None) -> Observations:
        """What the movers see. Of games that are over nothing is forbidden: nothing is asked there."""
        seen: dict[str, np.ndarray] = {"image": self.game.planes(self.positions, self.legal)}
        if self.game.NUMBERS:
            seen["vector"] = self.game.numbers(self.positions)
        seen["mask"] = self.legal.copy() if over is None else self.legal | over[:, None]
        return seen

    def state(self) -> dict[str, Any]:
        return {"positions": {name: value.copy() for name, value in self.positions.items()}}

    def restore(self, state: dict[str, Any]) -> Observations:
        self.positions = {name: value.copy() for name, value in state["positions"].items()}
        self.legal = self.game.legal(self.positions)
        return self._observe()

    def frame(self) -> UInt8[np.ndarray, "height width 3"]:
        from daybreak.systems.rl.envs.board.drawing import draw

        return draw(self.game.NAME, self.positions["board"][0].reshape(self.game.ROWS, self.game.COLUMNS))


class Versus(Board):
    """`count` games against an opponent, who opens every second game of a copy, and of odd copies the first."""

    def __init__(self, game: Game, count: int, opponent: Opponent, best: float | None = None) -> None:
        self.opponent = opponent
        self.random = np.random.default_rng(0)
        self.second = np.arange(count) % 2 == 1
        """Whether the agent moves second in the game that is played."""
        super().__init__(game, count, "", best)
        self.spec = spec_of(game, f"board:{game.NAME}-{opponent.NAME}", 1, best=best)

    def reset(self, seed: int) -> Observations:
        self.random = np.random.default_rng(seed)
        self.second = np.arange(self.count) % 2 == 1
        self._begin()
        self._answer(self.second)
        return self._observe()

    def step(self, actions: np.ndarray) -> Step:
        reward, over = self._move(actions)
        lost, ended = self._answer(~over)
        reward, over = reward - lost, over | ended
        reached = self._observe(over)
        self._renew(over)
        self.second ^= over
        self._answer(over & self.second)
        nobody = np.zeros(self.count, bool)
        return Step(reached, self._observe() if over.any() else reached, reward, over, nobody)

    def _answer(self, where: Bool[np.ndarray, envs]) -> tuple[np.ndarray, Bool[np.ndarray, envs]]:
        """The opponent moves in some games: its result there, and which are over by it."""
        reward, over = np.zeros(self.count, np.float32), np.zeros(self.count, bool)
        if where.any():
            part = {name: value[where] for name, value in self.positions.items()}
            moves = self.opponent.moves(part, self.legal[where], self.random)
            reward[where], over[where] = self.game.play(part, moves)
            for name, value in part.items():
                self.positions[name][where] = value
            self.legal[where] = self.game.legal(part)
        return reward, over

    def state(self) -> dict[str, Any]:
        return {**super().state(), "second": self.second.copy(), "random": self.random.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> Observations:
        self.second = state["second"].copy()
        self.random.bit_generator.state = state["random"]
        return super().restore(state)
