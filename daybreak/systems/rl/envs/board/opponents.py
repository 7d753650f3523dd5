"""Who an agent is judged against: one who moves by chance, and one who never errs (TicTacToe).

An opponent answers all positions of a batch at once, with the chance it is given. It knows rules; it knows nothing
about environments.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from functools import cache
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from daybreak.systems.rl.envs.board.games import Game, Positions, TicTacToe


class Opponent(abc.ABC):
    """One player."""

    NAME: ClassVar[str]
    GAMES: ClassVar[tuple[str, ...]] = ("tictactoe", "connect4", "go9")
    """What it can play."""

    def __init__(self, game: Game) -> None:
        self.game = game

    @abc.abstractmethod
    def moves(
        self, positions: Positions, legal: Bool[np.ndarray, "games moves"], random: np.random.Generator
    ) -> Int[np.ndarray, games]:
        """A legal move in each position."""


def draw(among: Bool[np.ndarray, "games moves"], random: np.random.Generator) -> Int[np.ndarray, games]:
    """One of the moves that are true in each row, each as likely."""
    return np.asarray(np.where(among, random.random(among.shape), -1.0).argmax(axis=1))


class Random(Opponent):
    """Any legal move, each as likely."""

    NAME = "random"

    def moves(
        self, positions: Positions, legal: Bool[np.ndarray, "games moves"], random: np.random.Generator
    ) -> Int[np.ndarray, games]:
        return draw(legal, random)


class Minimax(Opponent):
    """A move of the best result against best play; among several, any, each as likely."""

    NAME = "minimax"
    GAMES = ("tictactoe",)

    def moves(
        self, positions: Positions, legal: Bool[np.ndarray, "games moves"], random: np.random.Generator
    ) -> Int[np.ndarray, games]:
        own = positions["board"] * positions["mover"][:, None]
        worth = np.array([values(tuple(board)) for board in own.tolist()])
        return draw(legal & (worth == np.where(legal, worth, -2).max(axis=1, keepdims=True)), random)


LINES = TicTacToe().lines.tolist()


@cache
def values(board: tuple[int, ...]) -> Float[np.ndarray, " 9"]:
    """What each move of TicTacToe is worth to the mover (1, 0, -1) against best play; -2 where the cell is taken.

    The board is the mover's view: 1 own, -1 other. All 5,478 positions are looked at once.
    """
    worth = np.full(9, -2.0)
    for cell in range(9):
        if board[cell]:
            continue
        after = (*board[:cell], 1, *board[cell + 1 :])
        if any(all(after[c] == 1 for c in line) for line in LINES):
            worth[cell] = 1.0
        elif all(after):
            worth[cell] = 0.0
        else:
            worth[cell] = -values(tuple(-x for x in after)).max()
    return worth


OPPONENTS: dict[str, type[Opponent]] = {"random": Random, "minimax": Minimax}


def every_reply(
    game: Game, decide: Callable[[Positions, np.ndarray], Int[np.ndarray, games]], first: bool
) -> tuple[int, int, int]:
    """Games won, drawn and lost by `decide` (positions, legal moves -> moves), where the other side plays every legal
    move in turn: all games that can happen to a player without chance. For small games: TicTacToe has some hundreds.
    """
    side = 1 if first else -1
    positions, found = game.start(1), {1: 0, 0: 0, -1: 0}
    while len(positions["mover"]):
        legal, mover = game.legal(positions), int(positions["mover"][0])
        if mover == side:
            which, moves = np.arange(len(legal)), decide(positions, legal)
        else:
            which, moves = np.nonzero(legal)
        positions = {name: value[which].copy() for name, value in positions.items()}
        result, over = game.play(positions, moves)
        for value in (1, 0, -1):
            found[value] += int((result[over] * mover * side == value).sum())
        positions = {name: value[~over] for name, value in positions.items()}
    return found[1], found[0], found[-1]
