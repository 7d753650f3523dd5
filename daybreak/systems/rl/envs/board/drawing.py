"""Pictures of boards: stones of two colours on cells, on a rack or on crossings, drawn by Pillow (extra "rl")."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, UInt8

from daybreak.systems.rl.envs.drawing import BLUE, GREY, GROUND, HEIGHT, INK, ORANGE, SKY, WIDTH, Sheet

WOOD, WHITE = (226, 188, 126), (250, 250, 250)


def draw(game: str, board: Int[np.ndarray, "rows columns"]) -> UInt8[np.ndarray, "height width 3"]:
    """The picture of a board of the game `game`: 1 the first player's stones, -1 the second's."""
    sheet = Sheet()
    rows, columns = board.shape
    size = min((WIDTH - 20) / columns, (HEIGHT - 16) / rows)
    left, top = (WIDTH - size * columns) / 2, (HEIGHT - size * rows) / 2
    right, bottom = WIDTH - left, HEIGHT - top
    go = game == "go9"
    sheet.box(left - 4, top - 4, right + 4, bottom + 4, 6, WOOD if go else BLUE if game == "connect4" else GROUND)
    if go:
        for k in range(rows):
            at = size * (k + 0.5)
            sheet.path([(left + size / 2, top + at), (right - size / 2, top + at)], 0.8, INK)
            sheet.path([(left + at, top + size / 2), (left + at, bottom - size / 2)], 0.8, INK)
    elif game == "tictactoe":
        for k in range(1, rows):
            sheet.path([(left, top + k * size), (right, top + k * size)], 1.5, GREY)
            sheet.path([(left + k * size, top), (left + k * size, bottom)], 1.5, GREY)
    for row, column in np.ndindex(rows, columns):
        centre = left + size * (column + 0.5), top + size * (row + 0.5)
        stone = int(board[row, column])
        if game == "tictactoe" and stone:
            _mark(sheet, centre, 0.28 * size, stone)
        elif stone or game == "connect4":
            colours = {1: INK if go else (232, 84, 72), -1: WHITE if go else (244, 206, 84), 0: SKY}
            sheet.disc(centre, 0.45 * size if go else 0.4 * size, colours[stone])
    return sheet.pixels()


def _mark(sheet: Sheet, centre: tuple[float, float], size: float, stone: int) -> None:
    """A cross for the first player, a ring for the second."""
    x, y = centre
    if stone == 1:
        sheet.path([(x - size, y - size), (x + size, y + size)], 6, ORANGE)
        sheet.path([(x - size, y + size), (x + size, y - size)], 6, ORANGE)
    else:
        sheet.disc(centre, 1.2 * size, BLUE)
        sheet.disc(centre, 1.2 * size - 6, GROUND)
