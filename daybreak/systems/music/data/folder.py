"""Any folder of MIDI files -> drafts, and a MIDI file -> stretches.

Bars come from time signatures; chords from markers that name them; the key from key signatures; a part's role from its
track's name or its program. What a file does not say stays unknown: nothing is guessed from the notes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from daybreak.errors import UserError
from daybreak.lab.lake import Broken, Draft
from daybreak.media.midi import Midi
from daybreak.systems.music import harmony
from daybreak.systems.music import tokens as T
from daybreak.systems.music.data.cut import Stretch

WORDS = {
    "main_melody": ("main_melody", "melody", "lead", "vocal", "voice"),
    "sub_melody": ("sub_melody", "bridge", "counter"),
    "bass": ("bass",),
    "pad": ("pad", "strings"),
    "riff": ("riff", "ostinato"),
    "accompaniment": ("accompaniment", "piano", "chord", "comp", "guitar"),
}
"""Words in a track's name that say its role; "sub melody" is looked for before "melody"."""
PROGRAMS = {"bass": range(32, 40), "pad": range(88, 96)}


def ingest(path: Path) -> Iterator[Draft | Broken]:
    """One draft a file, in the order of names; the file (its folder and stem) is the group."""
    for file in [path] if path.is_file() else _files(path):
        name = file.name if path.is_file() else file.relative_to(path).as_posix()
        try:
            midi = Midi.open(file)
            if not midi.score().note_num():
                raise UserError(f"{file}: the MIDI file has no notes")
        except UserError as error:
            yield Broken(name, str(error))
        else:
            yield Draft(name, group=f"{file.parent.name}/{file.stem}", parts={"mid": midi.to_bytes()})


def _files(path: Path) -> list[Path]:
    found = []
    for folder, folders, names in os.walk(path):
        folders.sort()
        found += [Path(folder) / name for name in sorted(names) if name.lower().endswith((".mid", ".midi"))]
    return found


def role(name: str, program: int) -> str | None:
    """The role that a track's name or General MIDI program says, or None.

    >>> role("Sub melody 2", 0), role("", 33), role("Track 1", 0)
    ('sub_melody', 'bass', None)
    """
    name = name.strip().lower().replace(" ", "_").replace("-", "_")
    for said in ("sub_melody", *WORDS):
        if any(word in name for word in WORDS[said]):
            return said
    return next((said for said, programs in PROGRAMS.items() if program in programs), None)


def stretches(labels: Mapping[str, object], read: Callable[[str], bytes]) -> Iterator[Stretch]:
    """The stretches between changes of time signature; those in a metre that is not known are left out."""
    score = Midi.from_bytes(read("mid")).score()
    tpq, end = score.tpq, score.end()
    genre = labels.get("genre")
    genre = str(genre) if genre in T.GENRES else None
    signatures = {s.time: f"{s.numerator}/{s.denominator}" for s in score.time_signatures} or {0: "4/4"}
    if min(signatures) > 0:
        signatures[0] = "4/4"  # the standard's default
    starts = sorted(signatures)
    tempos = sorted((t.time, t.qpm) for t in score.tempos) or [(0, 120.0)]
    tempo_times, tempo_values = np.array([t for t, _ in tempos]), np.array([v for _, v in tempos])
    marks = []
    for marker in score.markers:
        try:
            marks.append((marker.time, *harmony.parse_chord(marker.text)))
        except UserError:
            continue  # a marker that names no chord ("Verse 1")
    changes = np.array(sorted(marks), np.int64).reshape(-1, 3)
    keys = sorted((k.time, harmony.key_of_signature(k.key, k.tonality == 1)) for k in score.key_signatures)
    key_times = np.array([at for at, _ in keys])
    parts = []
    for track in score.tracks:
        if not track.is_drum and len(track.notes):
            arrays = track.notes.numpy()
            columns = [arrays[name].astype(np.int64) for name in ("time", "duration", "pitch", "velocity")]
            parts.append((role(track.name, track.program), np.stack(columns, 1)))
    for begin, stop in zip(starts, [*starts[1:], end], strict=True):
        metre = T.METRES.get(signatures[begin])
        if metre is None or stop <= begin:
            continue
        unit = tpq * metre.quarters / T.PER_BEAT
        bar = unit * T.PER_BEAT * metre.beats
        bars = int(np.ceil((stop - begin) / bar - 1e-6) if stop == end else (stop - begin) / bar + 1e-6)
        if not bars:
            continue

        def scaled(rows: np.ndarray, times: int, begin: int = begin, unit: float = unit) -> np.ndarray:
            made = rows.copy()
            made[:, :times] = np.rint((rows[:, :times] - ([begin, 0][:times])) / unit)
            return made

        def key(start: int, _: int, begin: int = begin, unit: float = unit) -> str | None:
            place = int(np.searchsorted(key_times, begin + start * unit, "right")) - 1
            return keys[place][1] if place >= 0 else None

        downbeats = begin + np.arange(bars) * bar
        inside = [(r, n[(n[:, 0] >= begin - unit / 2) & (n[:, 0] < stop)]) for r, n in parts]
        yield Stretch(
            metre=signatures[begin],
            bars=bars,
            bpm=tempo_values[np.maximum(np.searchsorted(tempo_times, downbeats, "right") - 1, 0)],
            parts=[(r, scaled(n, 2)) for r, n in inside],
            chords=scaled(changes, 1) if len(changes) else None,
            key=key,
            genre=genre,
        )
