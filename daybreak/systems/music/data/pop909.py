"""POP909 (Wang et al., ISMIR 2020): its tree or archive -> songs, and a song's files -> stretches.

Bars come from the beat annotations, never from the MIDI files, whose time signatures and tempo maps do not follow the
music. Songs with two beats a measure read best as four; those with three quavers a beat are compound.
"""

from __future__ import annotations

import csv
import io
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from daybreak.errors import UserError
from daybreak.lab.lake import Broken, Draft
from daybreak.media.midi import Midi
from daybreak.systems.music import harmony
from daybreak.systems.music import tokens as T
from daybreak.systems.music.data.cut import Stretch

ROLES = {"MELODY": "main_melody", "BRIDGE": "sub_melody", "PIANO": "accompaniment"}
PARTS = {"beats": "beat_midi.txt", "chords": "chord_midi.txt", "keys": "key_audio.txt"}


def find(path: Path) -> Path | None:
    """The tree or archive of POP909 at `path` or right inside it, or None."""
    if path.is_file():
        return path if re.search(r"pop909.*\.(tar\.gz|tgz|tar)$", path.name.lower()) else None
    if (path / "index.csv").is_file() and any((path / f"{n:03d}" / "beat_midi.txt").is_file() for n in range(1, 910)):
        return path
    for inner in (path / "POP909", path / "pop909.tar.gz"):
        if inner.exists() and (found := find(inner)):
            return found
    return None


def ingest(path: Path) -> Iterator[Draft | Broken]:
    """One draft a song: parts mid, beats, chords, keys; labels from the index; the song is the group."""
    files = _archive(path) if path.is_file() else _tree(path)
    index = {}
    if text := files.get("index.csv"):
        index = {int(r["song_id"]): r for r in csv.DictReader(io.StringIO(text().decode("utf-8-sig")))}
    songs = sorted({name.split("/")[0] for name in files if re.fullmatch(r"\d{3}/.*", name)})
    for song in songs:
        name = f"POP909/{song}"
        try:
            parts = {"mid": files[f"{song}/{song}.mid"]()}
            parts |= {part: files[f"{song}/{file}"]() for part, file in PARTS.items()}
            Midi.from_bytes(parts["mid"])
            about = index[int(song)]
            labels = {
                "title": about["name"],
                "artist": about["artist"],
                "beats": int(about["num_beats_per_measure"]),
                "quavers": int(about["num_quavers_per_beat"]),
            }
        except KeyError as error:
            yield Broken(name, f"has no {str(error).strip(chr(39))}")
        except (UserError, ValueError, OSError) as error:
            yield Broken(name, str(error))
        else:
            yield Draft(name, group=name, parts=parts, labels=labels)


def _tree(path: Path) -> Mapping[str, Callable[[], bytes]]:
    wanted = [path / "index.csv", *path.glob("[0-9][0-9][0-9]/*.mid"), *path.glob("[0-9][0-9][0-9]/*.txt")]
    return {file.relative_to(path).as_posix(): file.read_bytes for file in wanted if file.is_file()}


def _archive(path: Path) -> Mapping[str, Callable[[], bytes]]:
    """The archive's files by their path below the folder that holds index.csv. It is read once, into memory."""
    held: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and member.size <= Midi.largest:
                    file = archive.extractfile(member)
                    assert file is not None
                    held["/".join(PurePosixPath(member.name).parts[1:])] = file.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read as an archive: {error}") from error
    return {name: (lambda data=data: data) for name, data in held.items()}  # type: ignore[misc]


def stretches(labels: Mapping[str, object], read: Callable[[str], bytes]) -> Iterator[Stretch]:
    """The stretches of regular bars of a song."""
    compound, three = labels["quavers"] == 3, labels["beats"] == 3
    times, by_measure, by_long = _rows(read("beats"), 3)
    times = times.astype(np.float64)
    if three:
        metre, flags = ("9/8" if compound else "3/4"), by_measure
    else:
        metre, flags = ("6/8", by_measure) if compound else ("4/4", by_long)
    beats, quarters = T.METRES[metre].beats, T.METRES[metre].quarters
    downbeats = np.flatnonzero(flags.astype(float) > 0.5)
    if len(times) < 2 or not len(downbeats):
        return
    count = len(times)

    def grid(seconds: np.ndarray) -> np.ndarray:
        """Seconds -> twelfths of a beat since the first beat; beyond the last beat its gap goes on."""
        inside = np.interp(seconds, times, np.arange(count))
        beyond = seconds > times[-1]
        inside[beyond] = count - 1 + (seconds[beyond] - times[-1]) / (times[-1] - times[-2])
        inside[seconds < times[0]] = -1
        return np.asarray(np.rint(inside * T.PER_BEAT), np.int64)

    score = Midi.from_bytes(read("mid")).score().to("Second")
    parts = []
    for track in score.tracks:
        arrays = track.notes.numpy()
        start = grid(arrays["time"].astype(np.float64))
        end = grid((arrays["time"] + arrays["duration"]).astype(np.float64))
        parts.append((ROLES.get(track.name), np.stack([start, end - start, arrays["pitch"], arrays["velocity"]], 1)))
    starts, _, names = _rows(read("chords"), 3)
    changes = np.array(
        [(at, *harmony.chord_of_label(name)) for at, name in zip(grid(starts.astype(float)), names, strict=True)]
    ).reshape(-1, 3)
    key_starts, key_ends, key_names = _rows(read("keys"), 3)
    key_spans = np.stack([grid(key_starts.astype(float)), grid(key_ends.astype(float))], 1)
    keys = [harmony.parse_key(name.replace(":", " ")) for name in key_names]
    gaps = np.diff(times, append=2 * times[-1] - times[-2])
    bpm = 60 / np.maximum(gaps, 1e-3) * quarters

    ends = np.append(downbeats[1:], downbeats[-1] + beats)
    regular = (ends - downbeats == beats) & (ends <= count)
    for first, last in _runs(regular):
        begin, bars = downbeats[first] * T.PER_BEAT, last - first
        end = begin + bars * beats * T.PER_BEAT

        def key(start: int, stop: int, begin: int = begin) -> str | None:
            shared = np.minimum(key_spans[:, 1], begin + stop) - np.maximum(key_spans[:, 0], begin + start)
            return keys[int(shared.argmax())] if len(keys) and shared.max() > 0 else None

        beat = downbeats[first]
        yield Stretch(
            metre=metre,
            bars=int(bars),
            bpm=np.median(bpm[beat : beat + bars * beats].reshape(bars, beats), 1),
            parts=[(r, n[(n[:, 0] >= begin) & (n[:, 0] < end)] - (begin, 0, 0, 0)) for r, n in parts if r],
            chords=T.tidy_chords(changes - (begin, 0, 0), int(end - begin)) if len(changes) else None,
            key=key,
            genre="pop",
        )


def _runs(flags: np.ndarray) -> Iterator[tuple[int, int]]:
    """[first, last) of each run of true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _rows(data: bytes, columns: int) -> list[np.ndarray]:
    rows = [line.split()[:columns] for line in data.decode().splitlines() if len(line.split()) >= columns]
    return [np.array(column) for column in zip(*rows, strict=True)] or [np.zeros(0)] * columns
