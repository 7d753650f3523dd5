"""Pictures of numbers, as inline SVG: curves, sparklines, stacked bars, weekly columns.

It knows points and tones; it knows nothing about runs. Every text is escaped; colours are CSS classes, so that light
and dark come from the page's tokens and the SVG holds no colour of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import ArrayLike

from daybreak.lab.morning.figures import figure

MOST = 400
"""Points in one curve."""

LONGEST_NAME = 16
"""Letters of a curve's name; a longer one is cut."""
FEWEST_WEEKS = 6
"""Room in a picture of weeks: one week alone is a column, not a wall."""

Point = tuple[float, float | None]


@dataclass(frozen=True)
class Mark:
    """A moment on a curve, tied to the text that explains it."""

    x: float
    label: str
    target: str
    """The id of the element that holds the text."""
    tone: str = "worse"


@dataclass(frozen=True)
class Line:
    """One curve. `tone` is "better", "worse", "undecided" or "grey", with " faint" for one among many.

    A curve without a name is drawn and not labelled.
    """

    name: str
    points: Sequence[Point]
    tone: str = "undecided"
    marks: Sequence[Mark] = field(default_factory=tuple)
    band: Sequence[tuple[float, float, float]] = ()
    """(x, low, high): an interval around the curve, shaded."""


def thin(xs: ArrayLike, ys: ArrayLike, most: int = MOST) -> list[Point]:
    """At most `most` points that keep the least and the greatest of each stretch, so that no spike is averaged away.

    A value that is not finite becomes None: the curve is broken there. The first and the last point stay.
    """
    x, y = np.asarray(xs, float), np.asarray(ys, float)
    fine = np.isfinite(y)
    if len(x) <= most:
        return [(_short(a), _short(b) if ok else None) for a, b, ok in zip(x.tolist(), y.tolist(), fine, strict=True)]
    buckets = (most - 2) // (2 if fine.all() else 3)
    keep = {0, len(x) - 1}
    edges = np.linspace(0, len(x), buckets + 1).astype(int)
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        inside = fine[start:stop]
        if inside.any():
            part = y[start:stop]
            keep.add(start + int(np.argmin(np.where(inside, part, np.inf))))
            keep.add(start + int(np.argmax(np.where(inside, part, -np.inf))))
        if not inside.all():
            keep.add(start + int(np.argmin(inside)))
    return [(_short(float(x[i])), _short(float(y[i])) if fine[i] else None) for i in sorted(keep)]


def chart(
    lines: Sequence[Line],
    *,
    label: str,
    x: str = "steps",
    width: int = 430,
    height: int = 220,
    positive: bool = False,
) -> Markup:
    """Curves on the same axes, named at their ends. The scale fits what they settle to; a start or a spike far
    above it leaves through the frame, with the value it reached written there.

    Args:
        lines: the curves; grey ones are drawn first and thin.
        label: what the figure shows, read aloud by a screen reader.
        x: unit of the horizontal axis.
        width: user units, about CSS pixels.
        height: as `width`.
        positive: values are never below zero, so neither is the axis.
    """
    names = [len(line.name) for line in lines]
    left, right, top, bottom = 46, max(52, 14 + 7 * min(LONGEST_NAME, max(names, default=0))), 12, 26
    finite = [(px, py) for line in lines for px, py in line.points if py is not None]
    if not finite:
        return Markup("")
    x0, x1 = min(p[0] for p in finite), max(p[0] for p in finite)
    x1 = x1 if x1 > x0 else x0 + 1
    y0, y1 = scale([line.points for line in lines])
    if positive:
        y0 = max(0.0, y0)
    places = _places(y0, y1)

    def at(px: float) -> float:
        return left + (px - x0) / (x1 - x0) * (width - left - right)

    def height_of(py: float) -> float:
        return top + (1 - (py - y0) / (y1 - y0)) * (height - top - bottom)

    parts: list[Markup] = []
    for tick in ticks_of(y0, y1):
        y = height_of(tick)
        parts.append(_tag("line", cls="grid", x1=left, x2=width - right, y1=_r(y), y2=_r(y)))
        parts.append(_tag("text", figure(tick, places), cls="tick end", x=left - 7, y=_r(y + 4)))
    for tick in ticks_of(x0, x1, 4):
        side = "end" if tick > x1 - 0.04 * (x1 - x0) else "mid"
        parts.append(_tag("text", f"{tick:,.0f}", cls=f"tick {side}", x=_r(at(tick)), y=height - 8))
    parts.append(_tag("text", x, cls="tick", x=width - right + 8, y=height - 8))
    ends: list[tuple[float, str, str]] = []
    for line in sorted(lines, key=lambda line: (line.tone != "grey", "faint" not in line.tone)):
        if line.band:
            edge = [(x, high) for x, _, high in line.band] + [(x, low) for x, low, _ in reversed(line.band)]
            around = [(at(px), min(max(height_of(py), top), height - bottom)) for px, py in edge]
            corners = " ".join(f"{_r(px)},{_r(py)}" for px, py in around)
            parts.append(_tag("polygon", cls=f"band {line.tone}", points=corners))
        drawn = [(at(px), None if py is None else height_of(py)) for px, py in line.points]
        parts.append(_path(drawn, f"line {line.tone}", top, height - bottom))
        last = next(((px, py) for px, py in reversed(drawn) if py is not None), None)
        if last:
            y = min(max(last[1] or 0, top), height - bottom)
            parts.append(_tag("circle", cls=f"dot {line.tone}", cx=_r(last[0]), cy=_r(y), r=2.6))
            if line.name:
                ends.append((y, line.name, line.tone))
        peak = max((p for p in line.points if p[1] is not None), key=lambda p: p[1] or 0, default=None)
        marked = peak and any(abs(at(mark.x) - at(peak[0])) < 24 for mark in line.marks)
        if peak and peak[1] is not None and peak[1] > y1 and peak[0] > x0 + 0.05 * (x1 - x0) and not marked:
            text = f"\u25b4 {figure(peak[1], places)}"
            parts.append(_tag("text", text, cls=f"tick mid {line.tone}", x=_r(at(peak[0])), y=top + 10))
        for mark in line.marks:
            parts.append(_mark(mark, at(mark.x), _near(drawn, at(mark.x), top), top, width - right))
    parts += _labels(ends, width - right + 8, top, height - bottom)
    inside = Markup("").join(parts)
    return _tag("svg", inside, cls="chart", viewBox=f"0 0 {width} {height}", role="img", aria_label=label)


def spark(points: Sequence[Point], tone: str, width: int = 76, height: int = 20) -> Markup:
    """A curve the size of a word."""
    held = [p for p in points if p[1] is not None]
    if len(held) < 2:
        return Markup("")
    y0, y1 = scale([points])
    x0, x1 = held[0][0], held[-1][0]
    step = max(1, len(points) // 60)
    thinned = [*points[::step], points[-1]]
    drawn = [
        (
            2 + (px - x0) / ((x1 - x0) or 1) * (width - 6),
            None if py is None else 2 + (1 - (min(max(py, y0), y1) - y0) / (y1 - y0)) * (height - 4),
        )
        for px, py in thinned
    ]
    end = next(p for p in reversed(drawn) if p[1] is not None)
    dot = _tag("circle", cls=f"dot {tone}", cx=_r(end[0]), cy=_r(end[1] or 0), r=2)
    path = _path(drawn, f"line {tone}", 0, height)
    return _tag("svg", path + dot, cls="spark", viewBox=f"0 0 {width} {height}", aria_hidden="true")


def stack(parts: Iterable[tuple[str, float]], total: float, label: str, width: int = 1000, height: int = 26) -> Markup:
    """One bar cut into parts; each part's class is its name, so that the legend can share it."""
    x, drawn = 0.0, []
    for name, value in parts:
        w = width * value / total if total else 0.0
        if w > 0:
            drawn.append(
                _tag("rect", _tag("title", name), cls=f"part {_class(name)}", x=_r(x), y=0, width=_r(w), height=height)
            )
        x += w
    inside = Markup("").join(drawn)
    return _tag(
        "svg", inside, cls="stack", viewBox=f"0 0 {width} {height}", preserveAspectRatio="none", role="img",
        aria_label=label,
    )  # fmt: skip


def columns(names: Sequence[str], heights: Sequence[Sequence[tuple[str, int]]], label: str) -> Markup:
    """A stacked column a week. `heights` holds, per name, (part, count) from the bottom up."""
    width, height, bottom, top = 430, 160, 24, 18
    most = max([sum(n for _, n in column) for column in heights] + [1])
    slot = width / max(FEWEST_WEEKS, len(names))
    drawn: list[Markup] = []
    for i, (name, column) in enumerate(zip(names, heights, strict=True)):
        y = float(height - bottom)
        for part, n in column:
            h = (height - bottom - top) * n / most
            y -= h
            shape = {"x": _r(i * slot + slot * 0.22), "y": _r(y), "width": _r(slot * 0.56), "height": _r(max(0, h - 1))}
            drawn.append(_tag("rect", _tag("title", f"{part}: {n}"), cls=f"part {_class(part)}", **shape))
        total = sum(n for _, n in column)
        middle = _r((i + 0.5) * slot)
        drawn.append(_tag("text", str(total), cls="tick mid", x=middle, y=_r(y - 5)))
        drawn.append(_tag("text", name, cls="tick mid", x=middle, y=height - 6))
    base = _tag("line", cls="grid", x1=0, x2=width, y1=height - bottom, y2=height - bottom)
    inside = base + Markup("").join(drawn)
    return _tag("svg", inside, cls="chart", viewBox=f"0 0 {width} {height}", role="img", aria_label=label)


def weekly(names: Sequence[str], points: Sequence[Point], label: str) -> Markup:
    """A value a week as a line with its figures; weeks without one are gaps."""
    width, height, bottom, top = 430, 160, 24, 30
    slot = width / max(FEWEST_WEEKS, len(names))
    held = [py for _, py in points if py is not None]
    low, high = min(held, default=0.0), max(held, default=1.0)
    span = (high - low) or 1.0
    places = min(6, max(0, 3 - math.floor(math.log10(max(abs(high), abs(low), 1e-9)))))
    drawn: list[Markup] = []
    path: list[tuple[float, float | None]] = []
    for px, py in points:
        x = (px + 0.5) * slot
        y = None if py is None else top + (1 - (py - low) / span) * (height - bottom - top - 14)
        if y is None:
            continue
        path.append((x, y))
        drawn.append(_tag("circle", cls="dot undecided", cx=_r(x), cy=_r(y), r=3))
        drawn.append(_tag("text", figure(py, places), cls="tick mid", x=_r(x), y=_r(y - 9)))
    for i, name in enumerate(names):
        drawn.append(_tag("text", name, cls="tick mid", x=_r((i + 0.5) * slot), y=height - 6))
    base = _tag("line", cls="grid", x1=0, x2=width, y1=height - bottom, y2=height - bottom)
    inside = base + _path(path, "line undecided", 0, height) + Markup("").join(drawn)
    return _tag("svg", inside, cls="chart", viewBox=f"0 0 {width} {height}", role="img", aria_label=label)


def _tag(name: str, inside: str | Markup = "", /, **attributes: object) -> Markup:
    held = "".join(
        f' {("class" if key == "cls" else key.replace("_", "-"))}="{escape(value)}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{held}>{escape(inside)}</{name}>")


def _class(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower())


def _r(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _short(value: float) -> float:
    """Six significant digits: what a picture can show, and a third of the bytes."""
    return float(f"{value:.6g}")


def _path(points: Iterable[tuple[float, float | None]], cls: str, top: float, bottom: float) -> Markup:
    """A polyline, broken at None and where it leaves the frame (a clip path would need an id in the page)."""
    words: list[str] = []
    before: tuple[float, float] | None = None
    drawing = False
    for x, y in points:
        if y is None:
            before, drawing = None, False
            continue
        if before is None:
            inside = [(x, y)] if top <= y <= bottom else []
        else:
            inside = _cut(before, (x, y), top, bottom)
            drawing = drawing and len(inside) > 0
        for a, b in inside:
            words.append(f"{'L' if drawing else 'M'}{_r(a)} {_r(b)}")
            drawing = True
        drawing = drawing and top <= y <= bottom
        before = (x, y)
    return _tag("path", cls=cls, d="".join(words))


def _cut(a: tuple[float, float], b: tuple[float, float], top: float, bottom: float) -> list[tuple[float, float]]:
    """The points of the stroke from a (left out) to b at which it meets the frame, and b where it lies inside."""
    found = []
    for edge in (top, bottom):
        if (a[1] - edge) * (b[1] - edge) < 0:
            share = (edge - a[1]) / (b[1] - a[1])
            found.append((a[0] + share * (b[0] - a[0]), edge))
    found.sort(key=lambda p: p[0])
    return [*found, b] if top <= b[1] <= bottom else found


def _near(points: Sequence[tuple[float, float | None]], x: float, otherwise: float) -> float:
    held = [p for p in points if p[1] is not None]
    return max(otherwise, min(held, key=lambda p: abs(p[0] - x))[1] or 0) if held else otherwise


def _mark(mark: Mark, x: float, y: float, top: float, edge: float) -> Markup:
    ring = _tag("circle", cls=f"ring {mark.tone}", cx=_r(x), cy=_r(y), r=5)
    side, aside = ("flag end", -8) if x > edge - 14 else ("flag", 8)
    flag = _tag("text", mark.label, cls=f"{side} {mark.tone}", x=_r(x + aside), y=_r(max(y - 6, top + 9)))
    return _tag("a", _tag("title", f"finding {mark.label}") + ring + flag, href=f"#{mark.target}")


def _labels(ends: list[tuple[float, str, str]], x: float, top: float, bottom: float) -> list[Markup]:
    """Names at the ends of curves, moved apart so that none covers another; without room some are left out."""
    ends = sorted(ends)
    room = int((bottom - top) // 15)
    shown = ends[:room]
    places: list[float] = []
    for y, _, _ in shown:
        places.append(max(y, places[-1] + 15 if places else top + 4))
    for i in range(len(places) - 1, -1, -1):
        places[i] = min(places[i], bottom - 15 * (len(places) - 1 - i))
    return [
        _tag(
            "text",
            name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}\u2026",
            cls=f"name {tone}",
            x=x,
            y=_r(y + 4),
        )
        for y, (_, name, tone) in zip(places, shown, strict=True)
    ]


def _fit(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}\u2026"


def scale(curves: Sequence[Sequence[Point]]) -> tuple[float, float]:
    """The range that the curves settle to: without each one's first twentieth, and without the highest few points."""
    values: list[float] = []
    for points in curves:
        held = [py for _, py in points if py is not None]
        settled = held[max(1, len(held) // 20) :] if len(held) > 3 else held
        if settled:
            cap = float(np.quantile(settled, 0.98)) if len(settled) > 50 else max(settled)
            values += [min(settled), cap]
    if not values:
        return 0.0, 1.0
    low = min(values)
    # One curve that ran away must not press the others flat: the top is three times the range of the calmer half.
    tops = sorted(values[1::2])
    calm = tops[(len(tops) - 1) // 2]
    high = min(tops[-1], calm + 3 * (calm - low)) if calm > low else tops[-1]
    margin = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    return low - margin, high + margin


def ticks_of(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers between two."""
    raw = (high - low) / most
    if not (raw > 0 and math.isfinite(raw)):
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _places(low: float, high: float) -> int:
    ticks = ticks_of(low, high)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else high - low
    return min(6, max(0, -math.floor(math.log10(step) + 1e-9))) if step > 0 else 2
