"""Go on 9 x 9, many games at once: captures, no suicide, positional superko, area scoring with komi 7.

Chains are labelled on all boards in one numpy expression; a position's hash is a sum, so that what a capture leaves is
known before it is played. The rules are Tromp and Taylor's, but that suicide is forbidden, and that a game of 162 moves
is scored as it lies.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8, UInt64

from daybreak.systems.rl.envs.board.games import Game, Positions

SIZE = 9
POINTS = SIZE * SIZE
PASS = POINTS
KOMI = 7
"""Points that the second player gets for moving second. It is a whole number: a game can be drawn."""
OFF = POINTS
"""Stands for what lies off the board."""


def _neighbours() -> Int[np.ndarray, "points 4"]:
    points = np.arange(POINTS).reshape(SIZE, SIZE)
    around = np.pad(points, 1, constant_values=OFF)
    return np.stack([around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]], -1).reshape(POINTS, 4)


NEAR = _neighbours()
"""The points above, below, left and right of each; `OFF` at the edge."""
KEYS = np.random.default_rng(9).integers(2**63, size=(2, POINTS), dtype=np.uint64)
"""One number for each player's stone on each point (Zobrist 1970): a position's hash is their sum, modulo 2^64."""


def beside(values: np.ndarray, off: int) -> np.ndarray:
    """The values at each point's four neighbours: [games, points] -> [games, points, 4]; `off` at the edge."""
    edge = np.full((len(values), 1), off, values.dtype)
    return np.asarray(np.concatenate([values, edge], axis=1)[:, NEAR])


def chains(board: Int[np.ndarray, "games points"]) -> Int[np.ndarray, "games points"]:
    """The least point of each point's chain: points of one colour (empty is one) that are joined along lines."""
    labels = np.broadcast_to(np.arange(POINTS), board.shape).copy()
    same = beside(board, 2) == board[..., None]
    while True:
        joined = np.minimum(labels, np.where(same, beside(labels, OFF), OFF).min(axis=2))
        joined = np.take_along_axis(joined, joined, axis=1)  # a chain's least point may have a lesser one by now
        if (joined == labels).all():
            return labels
        labels = joined


def area(board: Int[np.ndarray, "games points"]) -> Int[np.ndarray, games]:
    """The first player's points less the second's: stones, and empty regions that touch one colour alone."""
    labels = chains(board)
    near = beside(board, 0)
    flat = (np.arange(len(board))[:, None] * POINTS + labels).reshape(-1)
    touched = []
    for colour in (1, -1):
        touches = ((near == colour).any(axis=2) & (board == 0)).reshape(-1)
        touched.append(np.bincount(flat, touches, len(board) * POINTS)[flat].reshape(board.shape) > 0)
    own, other = touched
    empty = board == 0
    return np.asarray(board.sum(axis=1, dtype=np.int64) + (empty & own & ~other).sum(1) - (empty & other & ~own).sum(1))


class Go(Game):
    """9 x 9. Move k < 81 puts a stone on point k; move 81 passes; two passes end the game.

    Beside board, mover and moves, positions hold "passed" (the last move was a pass), "hashes" [games, 163] (the
    position after each move, the empty board first), and what the next move asks for: each point's chain ("label"),
    which of its chains one move takes ("atari", and where, "last"), and "hash" of each chain.
    """

    NAME, ROWS, COLUMNS, MOVES, LONGEST = "go9", SIZE, SIZE, POINTS + 1, 2 * POINTS
    PLANES: ClassVar[int] = 3
    NUMBERS: ClassVar[int] = 2

    def start(self, count: int) -> Positions:
        positions = super().start(count)
        positions["passed"] = np.zeros(count, bool)
        positions["hashes"] = np.zeros((count, self.LONGEST + 1), np.uint64)
        self._look(positions)
        return positions

    def _look(self, positions: Positions) -> None:
        """Find the chains, and those that one move takes."""
        board = positions["board"]
        count = len(board)
        labels = chains(board)
        flat = np.arange(count)[:, None] * POINTS + labels
        free = (beside(board, 2) == 0) & (board != 0)[..., None]
        where = np.where(free, NEAR, 0)
        # A chain has one liberty if all that its stones see are the same point: n sum(p^2) = sum(p)^2.
        number, total, square = (
            np.bincount(flat.reshape(-1), value.sum(axis=2).reshape(-1), count * POINTS)
            for value in (free, where, where**2)
        )
        atari = (number > 0) & (number * square == total**2)
        last = np.where(atari, total / np.maximum(number, 1), OFF).astype(np.int64)
        sums = np.zeros(count * POINTS, np.uint64)
        np.add.at(sums, flat.reshape(-1), self._keys(board).reshape(-1))
        positions["label"], positions["hash"] = labels, sums[flat]
        positions["atari"], positions["last"] = atari[flat] & (board != 0), last[flat]

    def _keys(self, board: np.ndarray) -> UInt64[np.ndarray, "games points"]:
        return np.asarray(np.where(board == 1, KEYS[0], np.where(board == -1, KEYS[1], np.uint64(0))))

    def _taken(self, positions: Positions) -> Bool[np.ndarray, "games points 4"]:
        """Which neighbours' chains a stone of the mover on each point would take."""
        mover = positions["mover"][:, None, None]
        other = beside(positions["board"], 2) == -mover
        return np.asarray(other & beside(positions["atari"], 0) & (beside(positions["last"], OFF) == self._here))

    @property
    def _here(self) -> Int[np.ndarray, "1 points 1"]:
        return np.arange(POINTS)[None, :, None]

    def legal(self, positions: Positions) -> Bool[np.ndarray, "games moves"]:
        board, mover = positions["board"], positions["mover"][:, None, None]
        near = beside(board, 2)
        taken = self._taken(positions)
        own_lives = (near == mover) & ~beside(positions["atari"], 0)
        allowed = (board == 0) & ((near == 0) | taken | own_lives).any(axis=2)
        # What the board's hash would be: a chain that touches a point twice is taken once.
        label = beside(positions["label"], OFF)
        once = taken.copy()
        for side in range(1, 4):
            for before in range(side):
                once[..., side] &= ~(taken[..., before] & (label[..., before] == label[..., side]))
        hashes = positions["hashes"]
        now = hashes[np.arange(len(board)), positions["moves"]]
        stone = np.where(positions["mover"][:, None] == 1, KEYS[0], KEYS[1])
        gone = np.where(once, beside(positions["hash"], 0), np.uint64(0)).sum(axis=2, dtype=np.uint64)
        after = now[:, None] + stone - gone
        longest = int(positions["moves"].max(initial=0)) + 1
        # Unused places of the history are 0, the empty board's hash, which no stone leads to.
        allowed &= ~(after[..., None] == hashes[:, None, :longest]).any(axis=2)
        return np.concatenate([allowed, np.ones((len(board), 1), bool)], axis=1)

    def play(
        self, positions: Positions, moves: Int[np.ndarray, games]
    ) -> tuple[Float[np.ndarray, games], Bool[np.ndarray, games]]:
        board, mover = positions["board"], positions["mover"]
        each = np.arange(len(board))
        stone = moves != PASS
        where = np.where(stone, moves, 0)
        taken = self._taken(positions)[each, where] & stone[:, None]
        label = beside(positions["label"], OFF)[each, where]
        gone = ((positions["label"][:, None] == label[..., None]) & taken[..., None]).any(axis=1)
        board[gone] = 0
        board[each[stone], where[stone]] = mover[stone]
        over = ~stone & positions["passed"]
        positions["passed"] = ~stone
        positions["moves"] += 1
        positions["hashes"][each, positions["moves"]] = self._keys(board).sum(axis=1, dtype=np.uint64)
        positions["mover"] = -mover
        over |= positions["moves"] >= self.LONGEST
        self._look(positions)
        result = np.zeros(len(board), np.float32)
        if over.any():
            result[over] = np.sign(area(board[over]) - KOMI) * mover[over]
        return result, over

    def planes(
        self, positions: Positions, legal: Bool[np.ndarray, "games moves"]
    ) -> UInt8[np.ndarray, "games planes rows columns"]:
        """The mover's stones, the other's, and the empty points where the mover may not play."""
        barred = ((positions["board"] == 0) & ~legal[:, :PASS]).astype(np.uint8).reshape(-1, 1, SIZE, SIZE)
        return np.concatenate([super().planes(positions, legal), barred], axis=1)

    def numbers(self, positions: Positions) -> Float[np.ndarray, "games numbers"]:
        """Whether the mover moved first (and gives komi), and whether the last move was a pass."""
        return np.stack([positions["mover"] == 1, positions["passed"]], axis=1).astype(np.float32)

    def name(self, move: int) -> str:
        """A move in words."""
        return "pass" if move == PASS else f"point {move}"
