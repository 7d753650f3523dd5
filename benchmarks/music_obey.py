"""Obeying: the order of keywords, validity, bars and tempo, of the shipped weights and of random ones.

How well clips obey what only the network decides, beside real clips: `daybreak music evaluate`.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
from rows import Bar, Part, Row, main, say

REQUESTS, ORDERS, VALID = 20, 100, 1000


def _requests(draw: random.Random, count: int) -> list[list[str]]:
    """Requests as lists of phrases, each in English or Korean."""
    choices = [
        [f"bpm {bpm}" for bpm in range(40, 200, 7)] + [f"템포 {bpm}" for bpm in range(40, 200, 7)],
        ["C minor", "Eb major", "F# minor", "다단조", "사장조"],
        ["jazz", "pop", "cinematic", "재즈", "왈츠 장르"],
        ["main melody", "accompaniment", "메인 멜로디", "반주"],
        ["8 bars", "4 bars", "8마디"],
        ["dense", "sparse"],
        ["violin", "flute", "첼로"],
        ["velocity 50-90", "velocity 60-100"],
    ]
    return [[draw.choice(choices[n]) for n in sorted(draw.sample(range(8), draw.randint(3, 6)))] for _ in range(count)]


def orders(requests: int, permutations: int) -> Iterator[dict[str, Any]]:
    """Permuted texts of one request: different files, and the largest difference of the network's logits."""
    import torch

    from daybreak.lab.model import Model
    from daybreak.lab.registry import locate
    from daybreak.systems.music import tokens as T
    from daybreak.systems.music.request import Compose, asked

    torch.set_num_threads(1)
    music: Any = Model.load(locate(None, "music").path)
    draw = random.Random(0)
    different, kinds = 0, []
    for phrases in _requests(draw, requests):
        files = set()
        asks = set()
        for n in range(permutations):
            if n:
                draw.shuffle(phrases)
            request = Compose(text=", ".join(phrases), seed=7, best_of=1)
            said = asked(request)
            asks.add(repr(said))
            # What the composer is handed is the whole of its input: equal requests are composed twice, not each time.
            if n < 2 or len(asks) > 1:
                files.add(music.written(request, said, 0)[0].to_bytes())
        different += len(files) > 1 or len(asks) > 1
        kinds.append(len(phrases))
    worst = 0.0
    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, T.STREAM, (1, 200)))
    marks = torch.zeros(1, 200, 2, dtype=torch.long)
    with torch.inference_mode():
        for _ in range(20):
            row = np.array([draw.randrange(len(values) + 1) for values in T.FIELDS.values()]) + T.OFFSETS
            plain = music.net(torch.from_numpy(row)[None], tokens, marks)
            for _ in range(10):
                shuffled = torch.from_numpy(row[np.random.default_rng(draw.randrange(2**32)).permutation(len(row))])
                worst = max(worst, float((music.net(shuffled[None], tokens, marks) - plain).abs().max()))
    yield {"different": different, "logits": worst}


def validity(weights: str, count: int) -> Iterator[dict[str, Any]]:
    """Random requests, opened by two other libraries: how many files are valid with exact bars and tempo."""
    import mido
    import symusic
    import torch

    from daybreak.lab.model import Model
    from daybreak.lab.registry import locate
    from daybreak.systems.music import tokens as T
    from daybreak.systems.music.model import Music
    from daybreak.systems.music.request import Compose, asked

    torch.set_num_threads(1)
    music: Any = Model.load(locate(None, "music").path)
    if weights == "random":
        torch.manual_seed(0)
        music = Music(music.config)
    draw = random.Random(1)
    taught = {name: list(music._taught(name)) for name in ("role", "genre", "metre")}
    fields = {
        "bpm": lambda: draw.randint(20, 300), "key": lambda: draw.choice(T.KEYS), "bars": lambda: draw.randint(1, 8),
        "role": lambda: draw.choice(taught["role"]), "metre": lambda: draw.choice(taught["metre"]),
        "pitch_range": lambda: draw.choice(T.RANGES), "density": lambda: draw.choice(T.DENSITIES),
        "rhythm": lambda: draw.choice(T.RHYTHMS), "genre": lambda: draw.choice(taught["genre"]),
        "min_velocity": lambda: draw.randint(1, 80), "max_velocity": lambda: draw.randint(81, 127),
    }  # fmt: skip
    good = exact = inside = 0
    for n in range(count):
        request = Compose(**{name: value() for name, value in fields.items() if draw.random() < 0.5}, seed=n, best_of=1)  # type: ignore[arg-type]
        said = asked(request)
        midi, report = music.written(request, said, 0)
        lines = {line.name: line for line in report}
        data = midi.to_bytes()
        notes = symusic.Score.from_midi(data).note_num()
        heard = mido.MidiFile(file=io.BytesIO(data), charset="utf-8")
        on = sum(m.type == "note_on" and m.velocity > 0 for track in heard.tracks for m in track)
        good += notes == on > 0
        exact += lines["bars"].holds and lines["bpm"].holds
        inside += lines["min_velocity"].holds and lines["max_velocity"].holds
    yield {"good": good, "exact": exact, "inside": inside}


def measure(quick: bool) -> Iterator[Row]:
    """The rows."""
    requests, permutations, count = (4, 20, 25) if quick else (REQUESTS, ORDERS, VALID)
    say(f"{permutations} orders of each of {requests} requests")
    with Part("orders", requests, permutations) as part:
        found = part()
    yield Row(f"requests of {requests} whose {permutations} orders give different MIDI", "requests",
              found["different"], Bar("ours", "=", 0))  # fmt: skip
    yield Row("largest difference of the network's logits between orders", "", found["logits"], Bar("ours", "<=", 1e-4))
    for weights in ("trained", "random"):
        say(f"{count} random requests, {weights} weights")
        with Part("validity", weights, count) as part:
            found = part()
        words = f"of {count} random requests, {weights} weights"
        yield Row(f"valid in symusic and mido, {words}", "files", found["good"], Bar("ours", "=", count))
        yield Row(f"exact bars and tempo, {words}", "files", found["exact"], Bar("ours", "=", count))
        yield Row(f"all velocities in the window (CV clip), {words}", "share", found["inside"] / count,
                  Bar("ours", "=", 1), "ComMU, recorded", 0.8060)  # fmt: skip


if __name__ == "__main__":
    main(measure, {"orders": orders, "validity": validity})
