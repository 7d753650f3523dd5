"""Learning from listeners: what `music:tune` makes of the votes of a simulated listener whose taste is known.

The listener likes plain rhythm: of two clips for the same keywords, the one with the larger share of onsets on a beat.
No keyword asks for that. Votes on pairs of the shipped weights' clips enter a lake, a run of `music:tune` learns from
them, and both models then compose clips for requests that no vote was about. Sampling and training are seeded.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rows import Bar, Row, main, say, scratch

SEED = 11
SIZES = {True: (32, 8, 12), False: (240, 60, 80)}
"""Voted requests, steps of tuning and new requests, of a quick run and of a full one."""
BATCH = 32
"""Streams that are composed at once."""


def on_beat(notes: np.ndarray) -> float:
    """The listener's taste: the share of onsets that fall on a beat."""
    from daybreak.systems.music import tokens as T

    return float((np.unique(notes[:, 0]) % T.PER_BEAT == 0).mean())


def requests(templates: Sequence[Sequence[int]], count: int) -> list[np.ndarray]:
    """Melody keywords of training clips, each once, in a drawn order: 8 bars of 4/4, one velocity window for all."""
    from daybreak.systems.music import tokens as T

    rows = np.unique(np.array(templates, np.int16), axis=0)
    fits = (rows[:, T.COLUMN["bars"]] == 8) & (rows[:, T.COLUMN["metre"]] == T.row(metre="4/4")[T.COLUMN["metre"]])
    fits &= np.isin(rows[:, T.COLUMN["role"]], [T.row(role=role)[T.COLUMN["role"]] for role in T.ROLES[:2]])
    rows = rows[fits]
    for name, value in (("min_velocity", 15), ("max_velocity", 28)):
        rows[:, T.COLUMN[name]] = value + 1
    rows = np.unique(rows, axis=0)
    order = np.random.default_rng(SEED).permutation(len(rows))[:count]
    if len(order) < count:
        raise SystemExit(f"the weights keep {len(rows)} fitting rows of keywords; {count} are needed")
    return [rows[n] for n in order]


def composed(net: Any, rows: Sequence[np.ndarray], each: int, seed: int) -> list[list[np.ndarray]]:
    """`each` streams for each row."""
    from daybreak.systems.music.decode import sample
    from daybreak.systems.music.pairs import rules_of

    flat = [row for row in rows for _ in range(each)]
    streams: list[np.ndarray] = []
    for start in range(0, len(flat), BATCH):
        part = flat[start : start + BATCH]
        rules = rules_of(part[0], 8)
        assert all(rules_of(row, 8) == rules for row in part)
        streams += sample(net, part, rules, seed + start)
        say(f"  {len(streams)} of {len(flat)} clips composed")
    return [streams[n : n + each] for n in range(0, len(streams), each)]


def heard(row: np.ndarray, stream: np.ndarray) -> tuple[float, float]:
    """The taste for a clip, and the share of its keywords that hold in its MIDI file."""
    from daybreak.systems.music import metrics
    from daybreak.systems.music import tokens as T
    from daybreak.systems.music.data.votes import keywords
    from daybreak.systems.music.model import to_midi

    notes, chords, bars = T.decode(stream, 4)
    asked = keywords(row) | {"bars": bars}
    asked |= {"min_velocity": asked["min_velocity"] * 4, "max_velocity": asked["max_velocity"] * 4 + 3}
    got = metrics.keywords(to_midi(notes, chords, asked))
    lines = [name for name in asked if name not in ("chords", "genre")]
    return on_beat(notes), sum(metrics.holds(name, asked[name], got) for name in lines) / len(lines)


def votes(rows: Sequence[np.ndarray], both: Sequence[Sequence[np.ndarray]], model: Any) -> Iterator[Any]:
    """What the listener decides about each pair, as drafts."""
    from daybreak.systems.music.data.votes import Made, Pair, draft
    from daybreak.systems.music.model import of_stream

    for row, (a, b) in zip(rows, both, strict=True):
        clips = {
            side: Made(model.name, "base", stream, of_stream(row, stream).to_bytes())
            for side, stream in (("a", a), ("b", b))
        }
        name = hashlib.blake2b(row.tobytes(), digest_size=6).hexdigest()
        liking = {side: heard(row, made.stream)[0] for side, made in clips.items()}
        choice = "none" if liking["a"] == liking["b"] else max(liking, key=lambda side: liking[side])
        pair = Pair(name, row, False, f"request {name}", "", clips)
        yield draft(pair, "simulated", choice, "listener", "2026-01-01")


def tuned(root: Path, drafts: Iterator[Any], base: Path, steps: int) -> tuple[Any, float]:
    """The model that a run of `music:tune` makes of the votes, and its goal on the held-out ones."""
    from daybreak.lab.derive import new_run, plan
    from daybreak.lab.home import Lab
    from daybreak.lab.lake import Lake
    from daybreak.lab.train import train
    from daybreak.systems.music.model import Music

    lab = Lab.open(root / "lab")
    lake = Lake.open(lab)
    added = lake.add("music", drafts, licence="Private")
    say(f"  {added.added} votes in the lake")
    flags = [f"--base={base}", f"--steps={steps}", f"--seed={SEED}", "--samples=0"]
    run = new_run(lab, plan(lab, "music:tune", flags), snapshot=lake.snapshot("music").id, threads=1)
    assert train(lab, run, progress=False) == "finished"
    first, last = run.metrics()[1], run.metrics()[-2]
    say(f"  {steps} steps; loss {first['loss']:.3f} to {last['loss']:.3f}, margin {last['margin']:.2f}")
    return Music.load(run.path / "final"), (run.result() or {})["goal"]["value"]


def measure(quick: bool) -> Iterator[Row]:
    """The rows."""
    from daybreak.lab.registry import locate
    from daybreak.systems.music.model import Music
    from daybreak.systems.music.shares import wilson

    voted, steps, new = SIZES[quick]
    place = locate(None, "music")
    base = Music.load(place.path)
    rows = requests(base.config.templates, voted + new)
    asked, fresh = rows[:voted], rows[voted:]
    say(f"{voted} pairs of {place.title} are composed and voted on")
    with scratch() as root:
        both = composed(base.net, asked, 2, SEED)
        model, goal = tuned(root, votes(asked, both, base), place.path, steps)
    say(f"{new} new requests, a clip of each model for each")
    before = [heard(row, one) for row, (one,) in zip(fresh, composed(base.net, fresh, 1, SEED + 1), strict=True)]
    after = [heard(row, one) for row, (one,) in zip(fresh, composed(model.net, fresh, 1, SEED + 2), strict=True)]
    taste = np.array([[b[0], a[0]] for b, a in zip(before, after, strict=True)])
    held = np.array([[b[1], a[1]] for b, a in zip(before, after, strict=True)])
    won, drawn = int((taste[:, 1] > taste[:, 0]).sum()), int((taste[:, 1] == taste[:, 0]).sum())
    decided = new - drawn
    low, high = wilson(won, decided)
    note = f"{won} of {decided} ({low:.2f} to {high:.2f} at 95 %); {drawn} drawn"
    yield Row("new pairs won by the tuned model", "share", won / max(decided, 1), Bar("ours", ">=", 0.7), note=note)
    gain = held[:, 1] - held[:, 0]
    half = 1.96 * float(gain.std(ddof=1)) / math.sqrt(new)
    note = (
        f"{held[:, 0].mean():.3f} before, {held[:, 1].mean():.3f} after; mean difference {gain.mean():+.3f} ±{half:.3f}"
    )
    yield Row("adherence, upper end of the difference", "share", gain.mean() + half, Bar("ours", ">=", 0.0), note=note)
    note = f"taste {taste[:, 0].mean():.3f} before, {taste[:, 1].mean():.3f} after"
    yield Row("held-out votes preferred as the listener", "share", goal, note=f"{note}; {voted} pairs, {steps} steps")


if __name__ == "__main__":
    main(measure, {})
