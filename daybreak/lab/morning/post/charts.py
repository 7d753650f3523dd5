"""The night's curves as PNG, for what shows no SVG. It knows the morning's data and draws with Pillow."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from daybreak.errors import UserError
from daybreak.lab.codec import number
from daybreak.lab.morning import plots

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1000, 420, 80, 190, 50, 50
MOST = 8
"""Curves in a chart; the title says how many there are more."""
NAME = 22
"""Height of a name."""
COLOURS = {"better": "#17663a", "worse": "#a1261c", "undecided": "#7a5200", "grey": "#6b6b6b"}
Curve = tuple[str, str, list[tuple[float, float]]]
"""Name, colour, points."""


def charts(data: Mapping[str, Any]) -> dict[str, bytes]:
    """A picture for each group of runs that has a curve: what it shows -> PNG."""
    drawn = {}
    for group in data["groups"]:
        lines = _lines(data, group)
        if lines:
            more = len(group["runs"]) - MOST
            left = f"; {more} more runs are on the page" if more > 0 else ""
            about = (
                f"{group['recipe']}: {group['goal']['name'] or 'goal'} over {group['clock'].replace('_', ' ')}{left}"
            )
            drawn[about] = _png(about, lines)
    return drawn


def _lines(data: Mapping[str, Any], group: Mapping[str, Any]) -> list[Curve]:
    """Name, colour and points of each curve: what the night is held against, then its runs, the best first."""
    rows = {row["id"]: row for row in data["runs"]}
    reference = group["reference"]
    wanted = [reference["id"]] if reference else []
    wanted += [run for run in group["runs"] if run not in wanted][:MOST]
    lines = []
    for run in wanted:
        points = [(float(x), number(y)) for x, y in data["curves"].get(run, {}).get("goal", ()) if y is not None]
        points = [(x, y) for x, y in points if math.isfinite(y)]
        if points:
            tone = "grey" if reference and run == reference["id"] else rows[run]["tone"] if run in rows else "grey"
            word = tone
            if tone == "grey":
                word = "best so far" if group["earlier"] else ""
            elif rows[run]["failed"]:
                word = rows[run]["state"]
            name = f"#{data['curves'][run]['number']} {word}".strip()
            lines.append((name, COLOURS.get(tone, COLOURS["grey"]), points))
    return lines


def _png(title: str, lines: Sequence[Curve]) -> bytes:
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise UserError("charts for OneNote need Pillow: pip install 'daybreak[notify]'") from None
    xs = [x for _, _, points in lines for x, _ in points]
    x0, x1 = min(xs), max(max(xs), min(xs) + 1)
    y0, y1 = plots.scale([points for _, _, points in lines])
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return (x - x0) / (x1 - x0) * width, (y1 - y) / (y1 - y0) * height

    image, inside = Image.new("RGB", (WIDTH, HEIGHT), "white"), Image.new("RGB", (width, height), "white")
    draw, curves, font = ImageDraw.Draw(image), ImageDraw.Draw(inside), ImageFont.load_default(17)
    draw.text((LEFT, 14), title, fill="black", font=ImageFont.load_default(20))
    for y in plots.ticks_of(y0, y1):
        curves.line([place(x0, y), place(x1, y)], fill="#dddddd")
        draw.text((LEFT - 8, TOP + place(x0, y)[1]), f"{y:.4g}", fill="#444444", font=font, anchor="rm")
    for x in plots.ticks_of(x0, x1, 4):
        draw.text((LEFT + place(x, y0)[0], HEIGHT - BOTTOM + 10), f"{x:,.0f}", fill="#444444", font=font, anchor="mt")
    ends = []
    for name, colour, points in lines:
        places = [place(x, y) for x, y in points]
        if len(places) > 1:
            curves.line(places, fill=colour, width=3, joint="curve")
        x, y = places[-1]
        curves.ellipse([x - 4, y - 4, x + 4, y + 4], fill=colour)
        ends.append((min(max(y, 0), height), name, colour))
    image.paste(inside, (LEFT, TOP))
    ends.sort()
    at = [y for y, _, _ in ends]
    for n in range(1, len(at)):  # names do not lie on one another
        at[n] = max(at[n], at[n - 1] + NAME)
    for n in range(len(at) - 1, -1, -1):
        at[n] = min(at[n], height - NAME * (len(at) - 1 - n))
    for y, (_, name, colour) in zip(at, ends, strict=True):
        draw.text((WIDTH - RIGHT + 12, TOP + y), name, fill=colour, font=font, anchor="lm")
    held = io.BytesIO()
    image.save(held, "PNG", optimize=True)
    return held.getvalue()
