"""Board games as arrays: many games at once, two players who take turns. TicTacToe and Connect Four.

Positions are a dict of arrays whose first axis is the game; a `Game` knows the rules and holds none. It knows nothing
about environments, opponents or learning.
"""

from __future__ import annotations

import abc
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

Positions = dict[str, np.ndarray]
""""board" int8 [games, cells]: 1 the first player's, -1 the second's, 0 empty, row by row from the top. "mover" int8
[games]: 1 or -1. "moves" int64 [games]: moves made. A game may add its own."""


class Game(abc.ABC):
    """The rules. A move is a number; what it means is the game's."""

    NAME: ClassVar[str]
    ROWS: ClassVar[int]
    COLUMNS: ClassVar[int]
    MOVES: ClassVar[int]
    """How many different moves there are."""
    PLANES: ClassVar[int] = 2
    """Planes of an observation."""
    NUMBERS: ClassVar[int] = 0
    """Numbers of an observation beside its planes."""
    LONGEST: ClassVar[int]
    """Moves of the longest game."""

    def start(self, count: int) -> Positions:
        """The positions with which games begin."""
        cells = self.ROWS * self.COLUMNS
        return {
            "board": np.zeros((count, cells), np.int8),
            "mover": np.ones(count, np.int8),
            "moves": np.zeros(count, np.int64),
        }

    @abc.abstractmethod
    def legal(self, positions: Positions) -> Bool[np.ndarray, "games moves"]:
        """Which moves the mover has. Of games that are over, it says nothing that matters."""

    @abc.abstractmethod
    def play(
        self, positions: Positions, moves: Int[np.ndarray, games]
    ) -> tuple[Float[np.ndarray, games], Bool[np.ndarray, games]]:
        """Make a legal move in each game, in place. The result for who moved (1, 0, -1; 0 while it goes on), and
        whether the game is over."""

    def planes(
        self, positions: Positions, legal: Bool[np.ndarray, "games moves"]
    ) -> UInt8[np.ndarray, "games planes rows columns"]:
        """The mover's view: where the own stones lie, where the other's."""
        own = positions["board"] * positions["mover"][:, None]
        seen = np.stack([own == 1, own == -1], axis=1).astype(np.uint8)
        return seen.reshape(-1, 2, self.ROWS, self.COLUMNS)

    def numbers(self, positions: Positions) -> Float[np.ndarray, "games numbers"]:
        """What else the mover sees."""
        return np.zeros((len(positions["mover"]), self.NUMBERS), np.float32)

    def name(self, move: int) -> str:
        """A move in words."""
        return f"cell {move}"


def lines(rows: int, columns: int, length: int) -> Int[np.ndarray, "lines length"]:
    """Cells of every straight line of `length` on a board: along, down and both diagonals."""
    found = []
    for row in range(rows):
        for column in range(columns):
            for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
                last_row, last_column = row + down * (length - 1), column + right * (length - 1)
                if last_row < rows and 0 <= last_column < columns:
                    found.append([(row + down * k) * columns + column + right * k for k in range(length)])
    return np.array(found)


class InARow(Game):
    """Who first has `LENGTH` in a straight line wins; a full board is a draw."""

    LENGTH: ClassVar[int]

    def __init__(self) -> None:
        self.lines = lines(self.ROWS, self.COLUMNS, self.LENGTH)

    def cell(self, positions: Positions, moves: Int[np.ndarray, games]) -> Int[np.ndarray, games]:
        """Where a move puts its stone."""
        return moves

    def play(
        self, positions: Positions, moves: Int[np.ndarray, games]
    ) -> tuple[Float[np.ndarray, games], Bool[np.ndarray, games]]:
        board, mover = positions["board"], positions["mover"]
        board[np.arange(len(board)), self.cell(positions, moves)] = mover
        won = (board[:, self.lines].sum(axis=2) == self.LENGTH * mover[:, None]).any(axis=1)
        over = won | (board != 0).all(axis=1)
        positions["mover"] = -mover
        positions["moves"] += 1
        return won.astype(np.float32), over


class TicTacToe(InARow):
    """Three in a row on 3 x 3. Move k takes cell k."""

    NAME, ROWS, COLUMNS, MOVES, LONGEST, LENGTH = "tictactoe", 3, 3, 9, 9, 3

    def legal(self, positions: Positions) -> Bool[np.ndarray, "games moves"]:
        return np.asarray(positions["board"] == 0)


class ConnectFour(InARow):
    """Four in a row on 6 x 7. Move k drops a stone into column k."""

    NAME, ROWS, COLUMNS, MOVES, LONGEST, LENGTH = "connect4", 6, 7, 7, 42, 4

    def legal(self, positions: Positions) -> Bool[np.ndarray, "games moves"]:
        return np.asarray(positions["board"][:, : self.COLUMNS] == 0)

    def cell(self, positions: Positions, moves: Int[np.ndarray, games]) -> Int[np.ndarray, games]:
        columns = positions["board"].reshape(-1, self.ROWS, self.COLUMNS)
        taken = (columns[np.arange(len(moves)), :, moves] != 0).sum(axis=1)
        return np.asarray((self.ROWS - 1 - taken) * self.COLUMNS + moves)

    def name(self, move: int) -> str:
        """A move in words."""
        return f"column {move}"
