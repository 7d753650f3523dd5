"""Speed: sampling and training on one thread, songs to tokens, and a newcomer's first clip. CPU time."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rows import Bar, Part, PartError, Row, main, once, say, scratch

RECORDED = {"sampling": {256: 39.4, 512: 23.6, 1012: 14.2}, "training": 665.0}
"""ComMU's own loop and its default training, measured on a machine like this one and recorded."""


def sampling(preset: str, length: int, streams: int = 1) -> Iterator[float]:
    """Tokens a CPU second of all streams drawn together, free of any grammar, up to a length."""
    import torch

    from daybreak.systems.music import tokens as T
    from daybreak.systems.music.decode import choose, decoder
    from daybreak.systems.music.recipe import Compose

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = Compose.presets[preset].net
    net = decoder(config).eval()
    every, row = np.ones(T.STREAM, bool), torch.from_numpy(T.row().astype(np.int64) + T.OFFSETS)[None]
    while True:
        generator = torch.Generator().manual_seed(0)
        began = time.process_time()
        with torch.inference_mode():
            cache, tokens, said = net.cache(streams), [T.BAR] * streams, row.expand(streams, -1)
            marks = torch.tensor([[[1, 0]]]).expand(streams, 1, 2)
            for place in range(length):
                logits = net.extend(cache, torch.tensor(tokens)[:, None], place, said if place == 0 else None, marks)
                tokens = [choose(one, every, generator, 1.0, 0.95) for one in logits]
        yield streams * length / (time.process_time() - began)


def training(preset: str) -> Iterator[float]:
    """Tokens learned a CPU second, on clips by rule of the usual lengths."""
    import torch

    from daybreak.systems.music import tokens as T
    from daybreak.systems.music.recipe import Compose

    torch.set_num_threads(1)
    torch.manual_seed(0)
    recipe = Compose(Compose.presets[preset].model_copy(update={"batch": 16}), None)  # type: ignore[arg-type]
    from daybreak.lab.batches import Batch

    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, T.STREAM, (16, 257), generator=draw)
    keywords = torch.from_numpy(T.row().astype(np.int64) + T.OFFSETS).expand(16, -1)
    batch = Batch((), {"keywords": keywords, "tokens": tokens, "starts": torch.zeros(16, dtype=torch.long),
                       "marks": torch.zeros(16, 257, 2, dtype=torch.long)})  # fmt: skip
    recipe.step(batch, 0)
    while True:
        began = time.process_time()
        for _ in range(2):
            recipe.step(batch, 0)
        yield 2 * 16 * 256 / (time.process_time() - began)


def matmul() -> Iterator[float]:
    """GFLOP/s of a product of two matrices of 1024 x 1024, fp32: what this core can do at best."""
    import torch

    torch.set_num_threads(1)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    while True:
        began = time.process_time()
        for _ in range(10):
            a @ b
        yield 10 * 2 * 1024**3 / (time.process_time() - began) / 1e9


def floating(preset: str) -> float:
    """GFLOP to learn from a token: six for each weight of a product (Kaplan et al. 2020, section 2.1)."""
    from daybreak.systems.music.decode import decoder
    from daybreak.systems.music.recipe import Compose

    net = decoder(Compose.presets[preset].net)
    return 6 * sum(p.numel() for p in net.parameters() if p.dim() == 2) / 1e9


def tokens(data: str) -> Iterator[dict[str, float]]:
    """All of POP909 to tokens, and its files parsed."""
    import symusic

    from daybreak.systems.music.data import clips, ingest

    drafts: list[Any] = list(ingest(Path(data) / "music"))
    while True:
        began = time.process_time()
        count = 0
        for draft in drafts:
            made = clips(draft, lambda part, draft=draft: draft.parts[part])  # type: ignore[misc]
            count += len(made["tokens"])
        took = time.process_time() - began
        began = time.process_time()
        for draft in drafts:
            symusic.Score.from_midi(draft.parts["mid"])
        yield {"seconds": took, "tokens": count, "parse": len(drafts) / (time.process_time() - began)}


def pretty(data: str) -> Iterator[float]:
    """Files that pretty_midi parses a CPU second."""
    import io

    import pretty_midi

    from daybreak.systems.music.data import ingest

    drafts: list[Any] = list(ingest(Path(data) / "music"))[::20]
    while True:
        began = time.process_time()
        for draft in drafts:
            pretty_midi.PrettyMIDI(io.BytesIO(draft.parts["mid"]))
        yield len(drafts) / (time.process_time() - began)


def first_clip(folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of `daybreak music compose` with the shipped weights, start included."""
    command = [sys.executable, "-m", "daybreak", "music", "compose", "--bpm", "80", "--key", "C minor", "--bars", "8",
               "--seed", "1", "-o", str(folder / "out")]  # fmt: skip
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "DAYBREAK_LAB": str(folder / "lab")}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(quick: bool) -> Iterator[Row]:
    """The rows."""
    rounds = 1 if quick else 3
    for preset, bound in (("small", 200.0), ("seed", 80.0)):
        for length in (256,) if quick else (256, 512, 1012):
            say(f"sampling {length} tokens, {preset}")
            with Part("sampling", preset, length) as part:
                rate = statistics.median(part() for _ in range(rounds))
            yield Row(f"sampling {length} tokens, {preset}", "tokens/CPU s", rate, Bar("ours", ">=", bound),
                      "ComMU, recorded", RECORDED["sampling"][length], "one stream")  # fmt: skip
        with Part("sampling", preset, 256, 8) as part:
            rate = statistics.median(part() for _ in range(rounds))
        yield Row(f"sampling 8 streams of 256 tokens together, {preset}", "tokens/CPU s", rate)
    with Part("matmul") as part:
        peak = statistics.median(part() for _ in range(rounds))
    for preset, bound in (("small", 2000.0), ("seed", 900.0)):
        say(f"training, {preset}")
        with Part("training", preset) as part:
            rate = statistics.median(part() for _ in range(rounds))
        yield Row(f"training, {preset}", "tokens/CPU s", rate, Bar("ours", ">=", bound), "ComMU, recorded",
                  RECORDED["training"], f"fp32, batch 16 of 256 tokens, optimiser included; "
                  f"{rate * floating(preset):.0f} GFLOP/s, a matrix product reaches {peak:.0f} here")  # fmt: skip
    data = os.environ.get("DAYBREAK_DATA")
    if data:
        say("POP909 to tokens")
        found = once("tokens", data)
        yield Row("all of POP909 to tokens", "CPU s", found["seconds"], Bar("ours", "<=", 15.0),
                  note=f"{found['tokens']:,} tokens")  # fmt: skip
        try:
            peer = once("pretty", data)
        except PartError as error:
            say(f"pretty_midi was not run: {error}")
            peer = None
        bar = Bar("ratio", ">=", 100.0)
        yield Row("MIDI files parsed a CPU second", "/s", found["parse"], bar, "pretty_midi", peer)
    with scratch() as folder:
        first_clip(folder)
        wall, cpu = min(first_clip(folder) for _ in range(rounds))
    yield Row("`daybreak music compose` with the shipped weights, start included, wall", "s", wall,
              Bar("ours", "<=", 10.0), note=f"CPU {cpu:.1f} s; best of 4, one clip of 8 bars")  # fmt: skip


if __name__ == "__main__":
    main(
        measure,
        {"sampling": sampling, "training": training, "matmul": matmul, "tokens": tokens, "pretty": pretty},
        ["pretty_midi"],
    )
