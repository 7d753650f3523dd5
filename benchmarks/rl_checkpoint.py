"""A checkpoint of replay: seconds and bytes grow with what is new, not with what is there.

A ring of frames of 84 x 84 from 8 copies is written once, then again after 10,000 more frames, by the log of its
segments and by `np.savez`, which writes all of it every time, as a plain checkpoint does. At two sizes, ten to one.

    python benchmarks/rl_checkpoint.py [--quick] [--json]
"""

from __future__ import annotations

import gc
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rows import Bar, PartError, Row, main, once, say, scratch

NEW = 10_000
COPIES = 8
FRAME = 84 * 84


def ring_of(frames: int) -> tuple[Any, Any]:
    """An empty ring for `frames` frames, and a function that plays so many steps in every copy."""
    import numpy as np

    from daybreak.systems.rl.spec import Space, Spec
    from daybreak.systems.rl.store import Block, Ring

    spec = Spec(name="frames", action=Space.discrete(4), image=(1, 84, 84), stack=4)
    ring = Ring(spec, 1, COPIES, frames, 4)
    random = np.random.default_rng(0)

    def play(steps: int) -> None:
        # Blocks differ, so that a segment in the place of another would be seen.
        shape = (steps, 1, COPIES)
        image = np.full((*shape, 1, 84, 84), ring.added % 251, np.uint8)
        image[:, 0, :, 0, 0, :4] = random.integers(255, size=(steps, COPIES, 4), dtype=np.uint8)
        columns = {
            "image": image, "action": np.zeros(shape, np.int64), "reward": random.random(shape, np.float32),
            "terminated": np.zeros(shape, bool), "truncated": np.zeros(shape, bool),
        }  # fmt: skip
        ring.add(Block(columns))

    return ring, play


def fill(ring: Any, play: Any, steps: int) -> None:
    """Play so many steps in every copy, in pieces."""
    while steps > 0:
        play(min(250, steps))
        steps -= 250


def written(write: Any) -> dict[str, float]:
    """What a write costs: wall and CPU seconds, until the disk has it."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    write()
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def ours(folder: str, frames: int) -> Iterator[dict[str, Any]]:
    """The log: the first checkpoint, the one after `NEW` frames more, and whether it reads back as the same bits."""
    import numpy as np

    ring, play = ring_of(frames)
    fill(ring, play, frames // COPIES)
    found: dict[str, Any] = {}
    last: Path | None = None
    for name in ("first", "next"):
        path = Path(folder) / name
        path.mkdir()
        taken = written(lambda path=path, last=last: ring.write(path, last))
        files = [file.stat() for file in path.iterdir()]
        found[name] = {**taken, "mb": sum(f.st_size for f in files if f.st_nlink == 1) / 2**20}
        last = path
        if name == "first":
            fill(ring, play, NEW // COPIES)
    # Read back segment by segment where two rings would not fit.
    if frames <= 100_000:
        other, _ = ring_of(frames)
        other.read(last)
        same = other.added == ring.added
        same = same and all(np.array_equal(ring.columns[name], other.columns[name]) for name in ring.columns)
        found["same"] = float(same)
    yield found


def savez(folder: str, frames: int) -> Iterator[dict[str, float]]:
    """All columns by `np.savez`, fsynced."""
    import numpy as np

    ring, play = ring_of(frames)
    fill(ring, play, frames // COPIES)
    path = Path(folder) / "ring.npz"

    def write() -> None:
        with open(path, "wb") as file:
            np.savez(file, **ring.columns)
            file.flush()
            os.fsync(file.fileno())

    yield {**written(write), "mb": path.stat().st_size / 2**20}


def measure(quick: bool) -> Iterator[Row]:
    """The rows."""
    large = 100_000 if quick else 1_000_000
    small = large // 10
    with scratch() as folder:
        need = 2.2 * large * FRAME
        if shutil.disk_usage(folder).free < need:
            raise PartError(f"{folder} has no room for {need / 2**30:.0f} GiB")
        found = {}
        for frames in (small, large):
            say(f"{frames:,} frames, ours")
            place = Path(folder) / str(frames)
            place.mkdir()
            found[frames] = once("ours", str(place), frames)
            shutil.rmtree(place)
        say(f"{large:,} frames, np.savez")
        whole = once("savez", str(folder), large)
    new, before = found[large]["next"], found[small]["next"]
    what = f"{NEW:,} frames more, of {large:,} there"
    bar = Bar("ratio", "<=", 5 * NEW / large)
    yield Row(f"{what}: written", "MB", new["mb"], bar, "np.savez", whole["mb"])
    for unit, name in (("CPU", "cpu_s"), ("wall", "wall_s")):
        yield Row(f"{what}: {unit}", "s", new[name], bar, "np.savez", whole[name])
    grown = f"{NEW:,} frames more, of {large:,} there against {small:,}"
    yield Row(f"{grown}: written", "MB", new["mb"], Bar("ratio", "<=", 1.5), "ours at a tenth", before["mb"])
    yield Row(f"{grown}: CPU", "s", new["cpu_s"], Bar("ratio", "<=", 1.5), "ours at a tenth", before["cpu_s"])
    first = found[large]["first"]
    yield Row(
        f"the first checkpoint of {large:,} frames: CPU", "s", first["cpu_s"], None, "np.savez", whole["cpu_s"],
        f"wall {first['wall_s']:.1f} s against {whole['wall_s']:.1f} s",
    )  # fmt: skip
    yield Row("read back, the same bits", "", found[small].get("same"), Bar("ours", "=", 1), note=f"{small:,} frames")


if __name__ == "__main__":
    main(measure, {"ours": ours, "savez": savez}, ["numpy"])  # type: ignore[arg-type]
