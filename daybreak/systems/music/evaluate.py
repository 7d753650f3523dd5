"""`daybreak music evaluate`: compose for held-out clips' keywords and chords, and set each measure beside what the real
clips reach and what others published. `scorecard` measures; here clips are chosen, composed and printed.
"""

from __future__ import annotations

import getpass
import json as jsonlib
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from daybreak.errors import UserError
from daybreak.systems.music import tokens as T

if TYPE_CHECKING:
    from daybreak.lab.home import Lab
    from daybreak.lab.lake import Item, Snapshot
    from daybreak.media.midi import Midi
    from daybreak.systems.music.model import Music
    from daybreak.systems.music.scorecard import Clip, Estimate, Row

ORDERED = 8
"""Clips on which the order of keywords is tried, each in as many orders."""


def evaluate(
    *,
    model: str = "music",
    snapshot: str = "",
    split: Literal["validation", "test"] = "validation",
    n: int = 60,
    best_of: int = 4,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Measure composed clips beside real ones, and beside what others published.

    Args:
        model: which weights compose: a registered model, a run, or a folder.
        snapshot: whose held-out songs are used; by default the one the weights were trained on.
        split: validation or test; each reading of the test songs is recorded in the lab.
        n: clips composed, each for a real clip's keywords and chords; a tenth of them ten times, for diversity.
        best_of: candidates for each clip.
        seed: of the draws.
        json: print JSON.
    """
    from daybreak.lab.codec import plain
    from daybreak.lab.home import Lab
    from daybreak.lab.registry import locate
    from daybreak.systems.music import published, scorecard
    from daybreak.systems.music.model import Music

    if n < 1:
        raise UserError(f"n is 1 or more, not {n}")
    lab = Lab.existing()
    weights = locate(lab, model)
    music = Music.load(weights.path)
    data = _snapshot(lab, weights.path, snapshot)
    assert lab is not None
    items = _real(data, split)
    held_out = [(clip, row, stream) for item in items for clip, row, stream in _clips(data, item)]
    chosen = _spread(items, held_out, n)
    _say(f"music evaluate: {weights.title}; {len(chosen)} clips of {len(items)} {split} songs, snapshot {data.id}")
    started = time.process_time()
    every = max(1, len(chosen) // max(1, n // 10))
    several = {real.item for real, _, _ in chosen[::every][: max(1, n // 10)]}
    total = len(chosen) + len(several) * (scorecard.SAMPLES - 1)
    composed: list[list[Clip]] = []
    rows = [*_certain(music, chosen)]
    done, exact = 0, []
    for place, (real, _, _) in enumerate(chosen):
        count = scorecard.SAMPLES if real.item in several else 1
        clips = []
        for number in range(count):
            midi = _composed(music, real, seed, best_of, number)
            clip, holds = _heard(midi, real)
            if place < ORDERED and number == 0:
                holds["order"] = midi == _composed(music, real, seed, best_of, 0, shuffled=True)
            clips.append(clip)
            exact.append((real.group, holds))
            _progress(done := done + 1, total)
        composed.append(clips)
    ours, theirs = [clips[0] for clips in composed], [real for real, _, _ in chosen]
    others = [clip for clip, _, _ in held_out]
    rows = [
        *_exact(exact),
        *scorecard.adherence(ours, theirs),
        scorecard.diversity([clips for clips in composed if len(clips) > 1], others),
        *scorecard.copies(getattr(music, "copies", None), ours, theirs),
        *scorecard.taught(ours, theirs, others),
        *rows,
    ]
    seconds = time.process_time() - started
    if split == "test":
        _recorded(lab, model, data, items, rows)
    if json:
        about = {
            "model": weights.title,
            "weights": music.name,
            "snapshot": data.id,
            "split": split,
            "clips": len(chosen),
        }
        knobs = {"best_of": best_of, "seed": seed, "cpu_s": round(seconds, 1)}
        found = {**about, **knobs, "rows": list(map(asdict, rows)), "published": list(map(asdict, published.ROWS))}
        print(jsonlib.dumps(plain(found), ensure_ascii=False, indent=1))
        return
    _print(rows)
    _say(f"{seconds:.0f} s of CPU, best of {best_of}")


def _snapshot(lab: Lab | None, folder: Path, text: str) -> Snapshot:
    """The snapshot named, or the one that the weights were trained on."""
    from daybreak.lab.lake import Snapshot

    how = "make one of the songs (daybreak lake add music PATH; daybreak lake snapshot music), then --snapshot music"
    if lab is None:
        raise UserError(f"there is no lab here, and so no held-out songs; {how}")
    if not text:
        for file in (folder / "record.json", folder.parent / "run.json"):
            if file.is_file():
                text = str(jsonlib.loads(file.read_text()).get("snapshot", ""))
                break
        if not text:
            raise UserError(f"{folder} does not say on which snapshot it was trained; name one by --snapshot")
        try:
            return Snapshot.open(lab, text)
        except UserError as error:
            raise UserError(
                f"these weights were trained on snapshot {text}, which is not in this lab; {how}"
            ) from error
    return Snapshot.open(lab, text)


def _real(data: Snapshot, split: Literal["validation", "test"]) -> list[Item]:
    from daybreak.systems.music.data import only_songs
    from daybreak.systems.music.rules import BY_RULE

    items = [item for item in only_songs(data.split(split)) if item.labels.get("composed") != BY_RULE]
    if not items:
        raise UserError(f"snapshot {data.id} has no real songs in its {split} split; measures are for real songs alone")
    return items


Held = tuple["Clip", np.ndarray, np.ndarray]
"""A real clip, its row of keywords and its stream."""


def _clips(data: Snapshot, item: Item) -> list[Held]:
    """A song's clips, with the keywords by which they are asked for."""
    from daybreak.systems.music.data import clips
    from daybreak.systems.music.recipe import stream_of
    from daybreak.systems.music.scorecard import Clip

    made, found = data.derived(clips, item), []
    names = ("bpm", "key", "metre", "bars", "role", "pitch_range", "density", "rhythm")
    for index, row in enumerate(made["keywords"]):
        stream = stream_of(made, index)
        notes, chords, _ = T.decode(stream, T.METRES[str(T.value(row, "metre"))].beats)
        asked: dict[str, Any] = {name: value for name in names if (value := T.value(row, name)) is not None}
        low, high = int(T.value(row, "min_velocity") or 0), int(T.value(row, "max_velocity") or 0)
        asked |= {"min_velocity": max(1, 4 * low), "max_velocity": 4 * high + 3}
        found.append((Clip(f"{item.id}#{index}", item.group, asked, notes, chords), row, stream))
    return found


def _spread(items: Sequence[Item], held: Sequence[Held], n: int) -> list[Held]:
    """`n` clips, as evenly over the songs and over each one's roles as they go."""
    by_song: dict[str, list[Held]] = {item.group: [] for item in items}
    for one in held:
        by_song[one[0].group].append(one)
    turns: list[list[Held]] = []
    for place, clips in enumerate(by_song.values()):
        roles = sorted({str(clip.asked.get("role")) for clip, _, _ in clips})
        by_role = [[one for one in clips if str(one[0].asked.get("role")) == role] for role in roles]
        order: list[Held] = []
        for turn in range(max(map(len, by_role), default=0)):
            # Another role begins in each song; a role's clips are taken from its middle on.
            for number in range(len(roles)):
                role = by_role[(number + place) % len(roles)]
                if turn < len(role):
                    order.append(role[(turn + len(role) // 2) % len(role)])
        turns.append(order)
    longest = max(map(len, turns), default=0)
    return [order[turn] for turn in range(longest) for order in turns if turn < len(order)][:n]


def _composed(music: Music, real: Clip, seed: int, best_of: int, number: int, shuffled: bool = False) -> Midi:
    """A file for a real clip's keywords and chords, through the public composer; `shuffled`: by one text of them, in an
    order drawn anew."""
    from daybreak.systems.music import words
    from daybreak.systems.music.request import Compose, asked

    if shuffled:
        phrases = words.canonical(_said(real)).split(", ")
        order = np.random.default_rng(seed).permutation(len(phrases))
        request = Compose(text=", ".join(phrases[n] for n in order), seed=seed, best_of=best_of)
    else:
        request = Compose(**_said(real), seed=seed, best_of=best_of)
    return music.written(request, asked(request), number)[0]


def _said(real: Clip) -> dict[str, Any]:
    from daybreak.systems.music import extract

    chords = {"chords": extract.progression(real.chords, real.bars, real.beats)} if len(real.chords) else {}
    return {**real.asked, **chords}


def _heard(midi: Midi, real: Clip) -> tuple[Clip, dict[str, bool]]:
    """A composed file read back, and whether it holds what must hold."""
    from daybreak.media.midi import Midi
    from daybreak.systems.music import extract, metrics
    from daybreak.systems.music.scorecard import Clip

    again, said = Midi.from_bytes(midi.to_bytes()), _said(real)
    found = extract.parts(again, T.METRES[said["metre"]])
    notes = found[0] if found else T.no_notes()
    got = metrics.keywords(again)
    holds = {n: metrics.holds(n, said[n], got) for n in ("bars", "bpm", "metre", "chords") if n in said}
    inside = len(found) == 1 and int(notes[:, 0].max()) < real.bars * real.beats * T.PER_BEAT
    return Clip(real.item, real.group, real.asked, notes, real.chords), {"valid": inside} | holds


def _exact(found: Sequence[tuple[str, dict[str, bool]]]) -> list[Row]:
    from daybreak.systems.music.scorecard import Row, Values

    names = {
        "valid": "the file reads back, with notes, all inside its bars",
        "bars": "exactly the bars asked for",
        "bpm": "exactly the tempo asked for",
        "metre": "the metre asked for",
        "chords": "the chords asked for, where they were asked for",
        "order": "another order of the keywords gives the same file, byte for byte",
    }
    rows = []
    for name, what in names.items():
        values = Values()
        for group, holds in found:
            if name in holds:
                values.add(group, [holds[name]])
        rows.append(Row(name, values.estimate(), None, what))
    return rows


def _certain(music: Music, chosen: Sequence[Held]) -> list[Row]:
    """What the network says of the real clips: their NLL, and what the order of keywords changes."""
    from daybreak.systems.music import measures
    from daybreak.systems.music.scorecard import Row, Values

    nll, order, worst = Values(), Values(), 0.0
    context = int(music.config.net.context)
    for place, (clip, row, stream) in enumerate(chosen):
        ids, tokens = row.astype(np.int64) + T.OFFSETS, stream[: context + 1].astype(np.int64)
        nll.add(clip.group, [note_nll(_net(music), ids, tokens)])
        if place < ORDERED:
            mean, most = measures.order_kl(_net(music), ids, tokens[:-1], ORDERED, place)
            order.add(clip.group, [mean])
            worst = max(worst, most)
    return [
        Row("note NLL", nll.estimate(share=False), None, "nats a note token of the real clips, all keywords given"),
        Row(
            "order KL",
            order.estimate(share=False),
            None,
            f"nats a token between orders of keywords; largest {worst:.2g}",
        ),
    ]


def _net(music: Music) -> Callable[[Any, Any], Any]:
    import torch

    from daybreak.systems.music import context

    def logits(keywords: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        marks = torch.from_numpy(context.marks(tokens[0].numpy()))[None].expand(len(tokens), -1, -1)
        return music.net(keywords, tokens, marks)  # type: ignore[no-any-return]

    return logits


def note_nll(net: Callable[[Any, Any], Any], keywords: np.ndarray, stream: np.ndarray) -> float:
    """Mean negative log-likelihood (nats) of a stream's note tokens: all but chords and basses, which are given."""
    import torch

    with torch.inference_mode():
        tokens = torch.from_numpy(stream)[None]
        logs = net(torch.from_numpy(keywords)[None], tokens[:, :-1]).double().log_softmax(-1)[0]
        targets = tokens[0, 1:]
        losses = -logs.gather(1, targets[:, None])[:, 0]
        return float(losses[targets < T.CHORD].mean())


def _recorded(lab: Lab, model: str, data: Snapshot, items: Sequence[Item], rows: Sequence[Row]) -> None:
    """A line in the lab's record of who read the test songs."""
    from daybreak.lab.registry.gates import record_reading

    values = {row.measure: row.composed.value for row in rows if row.composed}
    record_reading(lab, model, data.id, items, values=values, by=getpass.getuser())


def _print(rows: Sequence[Row]) -> None:
    from daybreak.systems.music import published

    shown = []
    for row in rows:
        ours, theirs = _cells(row.composed), _cells(row.real)
        shown.append({"measure": row.measure, "composed": ours[0], "95 %": ours[1], "of": ours[2], "real": theirs[0],
                      "real 95 %": theirs[1], "what": row.what})  # fmt: skip
    _table(shown)
    print("\npublished, each on other data than ours")
    names = list(dict.fromkeys(name for row in published.ROWS for name in row.values))
    lines = [
        {"system": row.system, **{name: _number(row.values.get(name)) for name in names}, "on": row.data}
        for row in published.ROWS
    ]
    _table(lines)
    print("sources: " + "; ".join(dict.fromkeys(row.source for row in published.ROWS)))


def _table(rows: Sequence[Mapping[str, str]]) -> None:
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {total} composed", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _cells(found: Estimate | None) -> tuple[str, str, str]:
    if found is None:
        return "-", "-", "-"
    ends = f"{_number(found.low)} to {_number(found.high)}" if math.isfinite(found.low) else "too few songs"
    return _number(found.value), ends, f"{found.count} in {found.groups} songs"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1e}"
