"""Piano rolls: a MIDI file as a drawing. Bars and beats are ruled, loudness is opacity, a track is a colour."""

from __future__ import annotations

from html import escape
from itertools import pairwise

from daybreak.media.midi import Midi
from daybreak.media.svg import Svg

COLOURS = ("#3b82c4", "#d9772b", "#3f9a5f", "#a855a0", "#b5892a", "#c2504f")
"""Legible on white and on black; a page may set --roll-1 to --roll-6 instead."""
LEFT, TOP, BEAT, HEIGHT = 34, 16, 22.0, 210
WIDEST = 2400
MOST = 20_000
"""Notes beyond which a drawing stops."""


def piano_roll(midi: Midi) -> Svg:
    """The piano roll of a MIDI file; lines and letters take the page's text colour."""
    score = midi.score()
    tracks = [track for track in score.tracks if len(track.notes)]
    notes = [
        (int(n.time), max(int(n.duration), 1), int(n.pitch), int(n.velocity), index)
        for index, track in enumerate(tracks)
        for n in track.notes
    ][:MOST]
    low, high = min((n[2] for n in notes), default=60), max((n[2] for n in notes), default=71)
    low, high = max(0, low - 2), min(127, high + 2)
    signatures = sorted((s.time, s.numerator, s.denominator) for s in score.time_signatures)
    if not signatures or signatures[0][0] > 0:
        signatures.insert(0, (0, 4, 4))
    # A marker may stand behind the last note: a clip that ends in silence is drawn with all of its bars.
    end = max([n[0] + n[1] for n in notes] + [m.time for m in score.markers], default=0) or 4 * score.tpq
    lines = _lines(signatures, end, score.tpq)
    end = lines[-1][0]
    scale = min(BEAT / score.tpq, WIDEST / end)
    step = HEIGHT / (high - low + 1)
    width, height = LEFT + end * scale + 6, TOP + HEIGHT + 4

    def x(tick: float) -> str:
        return f"{LEFT + tick * scale:.1f}".removesuffix(".0")

    def y(pitch: float) -> str:
        return f"{TOP + (high - pitch) * step:.1f}".removesuffix(".0")

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="piano roll of {len(notes)} notes" font-family="system-ui,sans-serif" font-size="10" '
        f'fill="currentColor" style="max-width:100%;height:auto">'
    ]
    for pitch in range(low, high + 1):
        if pitch % 12 in (1, 3, 6, 8, 10):
            out.append(f'<rect x="{LEFT}" y="{y(pitch)}" width="{end * scale:.0f}" height="{step:.1f}" opacity=".06"/>')
        if pitch % 12 == 0:
            out.append(f'<text x="2" y="{y(pitch - 0.9)}" opacity=".7">C{pitch // 12 - 1}</text>')
    number = 0
    for tick, bar in lines:
        opacity = ".55" if bar else ".16"
        out.append(
            f'<line x1="{x(tick)}" x2="{x(tick)}" y1="{TOP}" y2="{TOP + HEIGHT}" stroke="currentColor" '
            f'stroke-width="{1 if bar else 0.6}" opacity="{opacity}"/>'
        )
        if bar and tick < end:
            number += 1
            if number % max(1, round(len(lines) / 160)) == 0:
                out.append(f'<text x="{x(tick)}" y="{TOP - 5}" opacity=".7">{number}</text>')
    for index, track in enumerate(tracks):
        colour = f"var(--roll-{index % len(COLOURS) + 1},{COLOURS[index % len(COLOURS)]})"
        out.append(f'<g style="fill:{colour}"><title>{escape(track.name) or f"track {index + 1}"}</title>')
        for time, duration, pitch, velocity, of in notes:
            if of == index:
                out.append(
                    f'<rect x="{x(time)}" y="{y(pitch)}" width="{max(duration * scale - 0.6, 1):.1f}" '
                    f'height="{max(step - 0.4, 1):.1f}" rx="1" opacity="{0.35 + 0.65 * velocity / 127:.2f}"/>'
                )
        out.append("</g>")
    out.append("</svg>")
    return Svg("".join(out))


def _lines(signatures: list[tuple[int, int, int]], end: int, tpq: int) -> list[tuple[int, bool]]:
    """Ticks of beats, and whether a bar starts there, up to the end of the last bar."""
    out: list[tuple[int, bool]] = []
    for (start, numerator, denominator), (stop, *_) in pairwise([*signatures, (end, 0, 0)]):
        compound = denominator >= 8 and numerator % 3 == 0
        beat = max(1, tpq * 4 // denominator * (3 if compound else 1))
        beats = max(1, numerator // 3 if compound else numerator)
        count = 0
        while start + count * beat < stop and len(out) < 6000:
            out.append((start + count * beat, count % beats == 0))
            count += 1
        if stop == end:
            count = -(-count // beats) * beats
            known = {tick for tick, _ in out}
            more = range(start, start + count * beat + 1, beat) if len(out) < 6000 else ()
            out += [(tick, n % beats == 0) for n, tick in enumerate(more) if tick not in known]
    return out or [(0, True), (4 * tpq, True)]
