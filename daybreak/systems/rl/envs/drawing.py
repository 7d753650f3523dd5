"""Pictures of the classic environments: a state in, 200 x 300 pixels out, drawn by Pillow (extra "rl").

Everything is drawn three times as large and scaled down, so that edges are smooth. It knows what a state's numbers
mean and nothing about how they come to be. Lengths follow Gymnasium's pictures where the dynamics say none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from daybreak.errors import UserError, nearest

WIDTH, HEIGHT = 300, 200
SMOOTH = 3
"""Drawn this many times as large."""
SKY, GROUND, INK = (247, 248, 250), (222, 226, 232), (44, 52, 66)
BLUE, ORANGE, GREEN, GREY = (59, 130, 196), (217, 119, 43), (63, 154, 95), (150, 158, 170)

Point = tuple[float, float]
Colour = tuple[int, int, int]


class Sheet:
    """A picture in units of final pixels, y downwards."""

    def __init__(self) -> None:
        try:
            from PIL import Image, ImageDraw
        except ModuleNotFoundError as error:
            raise UserError("pictures need Pillow, which is not installed: pip install 'daybreak[rl]'") from error
        self._image = Image.new("RGB", (WIDTH * SMOOTH, HEIGHT * SMOOTH), SKY)
        self._draw: Any = ImageDraw.Draw(self._image)

    def area(self, points: list[Point], colour: Colour) -> None:
        """A filled polygon."""
        self._draw.polygon([(x * SMOOTH, y * SMOOTH) for x, y in points], fill=colour)

    def path(self, points: list[Point], width: float, colour: Colour) -> None:
        """A line with round ends and joints."""
        scaled = [(x * SMOOTH, y * SMOOTH) for x, y in points]
        self._draw.line(scaled, fill=colour, width=round(width * SMOOTH), joint="curve")
        for x, y in (points[0], points[-1]):
            self.disc((x, y), width / 2, colour)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """A filled circle."""
        x, y, r = centre[0] * SMOOTH, centre[1] * SMOOTH, radius * SMOOTH
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float, round_by: float, colour: Colour) -> None:
        """A filled rectangle with round corners."""
        corners = tuple(v * SMOOTH for v in (left, top, right, bottom))
        self._draw.rounded_rectangle(corners, round_by * SMOOTH, fill=colour)

    def pixels(self) -> UInt8[np.ndarray, "height width 3"]:
        """The picture at its final size."""
        return np.asarray(self._image.reduce(SMOOTH), np.uint8)


def cartpole(sheet: Sheet, state: Float[np.ndarray, " 4"]) -> None:
    """A cart on a rail; the flags stand where the episode ends, at 2.4 m."""
    place, _, angle, _ = (float(x) for x in state)
    metre, floor = WIDTH / 5.4, 158.0
    sheet.area([(0, floor), (WIDTH, floor), (WIDTH, HEIGHT), (0, HEIGHT)], GROUND)
    sheet.path([(0, floor), (WIDTH, floor)], 2, GREY)
    for side in (-2.4, 2.4):
        x = WIDTH / 2 + side * metre
        sheet.path([(x, floor - 14), (x, floor)], 2, ORANGE)
    x = WIDTH / 2 + place * metre
    for wheel in (-14, 14):
        sheet.disc((x + wheel, floor - 6), 6, INK)
    sheet.box(x - 25, floor - 28, x + 25, floor - 7, 4, BLUE)
    hinge = (x, floor - 28)
    length = 1.6 * metre  # One metre, drawn longer: so small angles show.
    sheet.path([hinge, (x + length * math.sin(angle), hinge[1] - length * math.cos(angle))], 8, ORANGE)
    sheet.disc(hinge, 4, INK)


def mountaincar(sheet: Sheet, state: Float[np.ndarray, " 2"], goal: float = 0.5) -> None:
    """A car in a valley of height sin(3 x); the flag stands at the goal."""
    place = float(state[0])
    scale = WIDTH / 1.8

    def at(x: float) -> Point:
        return (x + 1.2) * scale, 172 - 62 * (math.sin(3 * x) + 1)

    hill = [at(-1.2 + 1.8 * n / 120) for n in range(121)]
    sheet.area([*hill, (WIDTH, HEIGHT), (0, HEIGHT)], GROUND)
    sheet.path(hill, 2.5, GREY)
    x, y = at(goal)
    sheet.path([(x, y), (x, y - 30)], 2, INK)
    sheet.area([(x, y - 30), (x + 17, y - 24), (x, y - 18)], GREEN)
    x, y = at(place)
    slope = math.atan2(-62 * 3 * math.cos(3 * place), scale)
    along, up = (math.cos(slope), math.sin(slope)), (math.sin(slope), -math.cos(slope))

    def on(a: float, b: float) -> Point:
        return x + a * along[0] + b * up[0], y + a * along[1] + b * up[1]

    sheet.area([on(-16, 5), on(16, 5), on(16, 12), on(8, 13), on(4, 20), on(-10, 20), on(-14, 13), on(-16, 12)], BLUE)
    for wheel in (-9, 9):
        sheet.disc(on(wheel, 5), 5, INK)


def mountaincar_continuous(sheet: Sheet, state: Float[np.ndarray, " 2"]) -> None:
    """The same valley; the goal is a little nearer."""
    mountaincar(sheet, state, 0.45)


def acrobot(sheet: Sheet, state: Float[np.ndarray, " 4"]) -> None:
    """Two links of one metre; the tip must pass the line."""
    one, two = float(state[0]), float(state[1])
    link, root = 42.0, (WIDTH / 2, HEIGHT / 2 + 8)
    elbow = (root[0] + link * math.sin(one), root[1] + link * math.cos(one))
    tip = (elbow[0] + link * math.sin(one + two), elbow[1] + link * math.cos(one + two))
    line = root[1] - link
    for n in range(15):
        sheet.path([(5 + 20 * n, line), (15 + 20 * n, line)], 1.5, GREEN)
    sheet.path([root, elbow], 11, BLUE)
    sheet.path([elbow, tip], 9, ORANGE)
    sheet.disc(root, 4, INK)
    sheet.disc(elbow, 3.5, INK)


def pendulum(sheet: Sheet, state: Float[np.ndarray, " 2"]) -> None:
    """A rod; straight up is angle 0, and positive angles turn against the clock."""
    angle = float(state[0])
    length, root = 74.0, (WIDTH / 2, HEIGHT / 2)
    for n in range(60):
        turn = n * math.pi / 30
        sheet.disc((root[0] + 88 * math.sin(turn), root[1] - 88 * math.cos(turn)), 1.6 if n % 5 else 2.4, GROUND)
    sheet.disc((root[0], root[1] - 88), 3.5, GREEN)
    tip = (root[0] - length * math.sin(angle), root[1] - length * math.cos(angle))
    sheet.path([root, tip], 14, ORANGE)
    sheet.disc(root, 5, INK)


DRAWERS: Mapping[str, Callable[[Sheet, np.ndarray], None]] = {
    "CartPole-v1": cartpole,
    "MountainCar-v0": mountaincar,
    "MountainCarContinuous-v0": mountaincar_continuous,
    "Acrobot-v1": acrobot,
    "Pendulum-v1": pendulum,
}


def draw(name: str, state: Float[np.ndarray, " dims"]) -> UInt8[np.ndarray, "height width 3"]:
    """The picture of a state of the classic environment `name`. Raises `UserError` for a name without one."""
    if name not in DRAWERS:
        raise UserError(f"{name} cannot be drawn; {nearest(name, DRAWERS)}")
    sheet = Sheet()
    DRAWERS[name](sheet, np.asarray(state))
    return sheet.pixels()
