"""Board games by name: "board:tictactoe" plays itself, "board:tictactoe-minimax" an opponent.

TicTacToe, Connect Four and Go on 9 x 9, vectorised, with exact rules and states that restore.
"""

from __future__ import annotations

from collections.abc import Mapping

from daybreak.errors import UserError, nearest
from daybreak.systems.rl.envs.board.env import Board, Versus
from daybreak.systems.rl.envs.board.games import ConnectFour, Game, TicTacToe
from daybreak.systems.rl.envs.board.go import Go
from daybreak.systems.rl.envs.board.opponents import OPPONENTS, Opponent

__all__ = ["GAMES", "OPPONENTS", "Board", "ConnectFour", "Game", "Go", "Opponent", "TicTacToe", "Versus", "make"]

GAMES: Mapping[str, type[Game]] = {"tictactoe": TicTacToe, "connect4": ConnectFour, "go9": Go}
JUDGES: Mapping[str, str] = {"tictactoe": "minimax", "connect4": "random", "go9": "random"}
"""Whom an agent that plays itself is judged against: the strongest that there is."""
BEST: Mapping[tuple[str, str], float] = {("tictactoe", "minimax"): 0.0}
"""A mean result that is best play."""


def make(id: str, count: int) -> Board:
    """`count` copies of a game, or of one against an opponent. Raises `UserError` with the nearest names."""
    name, dash, who = id.partition("-")
    known = [*GAMES, *(f"{game}-{one}" for one, found in OPPONENTS.items() for game in found.GAMES)]
    if id not in known:
        raise UserError(f"no board game {id!r}; {nearest(id, known)}")
    game = GAMES[name]()
    if dash:
        return Versus(game, count, OPPONENTS[who](game), BEST.get((name, who)))
    judge = JUDGES[name]
    return Board(game, count, f"board:{name}-{judge}", BEST.get((name, judge)))
