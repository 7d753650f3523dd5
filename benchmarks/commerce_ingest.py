"""A shop's photos into its catalogue, beside Pillow alone: what a photo costs, and when a newcomer can search.

The shipped network looks at the photos of the shared data (WebP, 192 pixels wide); where there are none, at drawn
garments. Photos a CPU second on one thread: decoded, tagged and embedded; then with all that `add` keeps of them, hash,
small picture, row and commit. The newcomer's command runs as it is, in wall time.
"""

from __future__ import annotations

import csv
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from rows import Bar, Row, in_turn, main, medians, once, say, scratch

EACH = 512
"""Photos of a round."""
SIDE = 96


def shop() -> Any:
    """The shop that ships."""
    from daybreak.systems.commerce.commands import shop_of

    return shop_of("commerce")


def prepared(folder: Path, count: int) -> str:
    """A shop's folder of so many photos with its list; says what they are."""
    data = os.environ.get("DAYBREAK_DATA", "")
    (folder / "images").mkdir(parents=True)
    if data:
        source = Path(data) / "commerce" / "clothing"
        with (source / "items.csv").open(newline="") as file:
            reader = csv.DictReader(file)
            rows = list(islice(reader, count))
        for row in rows:
            shutil.copyfile(source.parent / row["file"], folder / "images" / Path(row["file"]).name)
            row["file"] = f"images/{Path(row['file']).name}"
        columns = ["id", "file", "label", "sender"]
        words = "photos of the shared data"
    else:
        from daybreak.systems.commerce.data.drawn import drawings

        columns, rows, words = ["id", "file", "title"], [], "drawn garments, no photos"
        for draft in drawings(count):
            name = f"images/{draft.name}.webp"
            (folder / name).write_bytes(draft.parts["data"])
            rows.append({"id": draft.name, "file": name, "title": draft.labels["title"]})
    with (folder / "items.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return f"{len(rows):,} {words}"


def ours(folder: str) -> Iterator[dict[str, float]]:
    """Photos a CPU second: decoded, tagged and embedded; the same read, kept and committed; and the network's share."""
    import numpy as np

    from daybreak.systems.commerce.commands import opened
    from daybreak.systems.commerce.photos import square
    from daybreak.systems.commerce.shelves import AT_ONCE, add, entries

    known = shop()
    known.see_squares(np.zeros((AT_ONCE, known.side, known.side, 3), np.uint8))
    found = islice(entries(Path(folder), known.config.vocabulary), EACH)
    files = [entry.data for entry in found if not isinstance(entry, tuple)]
    while True:
        network = 0.0
        began = time.process_time()
        for n in range(0, len(files), AT_ONCE):
            squares = np.stack([square(data, known.side) for data in files[n : n + AT_ONCE]])
            before = time.process_time()
            seen = known.see_squares(squares)
            network += time.process_time() - before
            for probability in known.probabilities(seen):
                known.said(probability)
        took = time.process_time() - began
        with tempfile.TemporaryDirectory() as beside:
            shelf = opened(Path(beside) / "c", known)
            began = time.process_time()
            taken = add(known, shelf, islice(entries(Path(folder), known.config.vocabulary), EACH))
            whole = time.process_time() - began
        yield {"rate": len(files) / took, "network": network / took, "kept": taken.added / whole}


def operations() -> Iterator[float]:
    """GFLOP of a photo in the network, counted."""
    import numpy as np
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    known = shop()
    known.see_squares(np.zeros((1, known.side, known.side, 3), np.uint8))
    net = known._folded
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, known.side, known.side, dtype=torch.uint8))
    yield counter.get_total_flops() / 1e9


def pillow(folder: str) -> Iterator[dict[str, float]]:
    """Photos a CPU second through Pillow alone: opened, decoded, made small."""
    import io

    import numpy as np
    from PIL import Image

    files = [path.read_bytes() for path in islice(sorted((Path(folder) / "images").iterdir()), EACH)]
    while True:
        began = time.process_time()
        for data in files:
            image = Image.open(io.BytesIO(data))
            image.draft("RGB", (2 * SIDE, 2 * SIDE))
            np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0))
        yield {"rate": len(files) / (time.process_time() - began)}


def product() -> Iterator[dict[str, float]]:
    """What one core multiplies: a bound that the network's convolutions cannot pass."""
    import torch

    a = torch.randn(1024, 1024)
    while True:
        began = time.process_time()
        for _ in range(5):
            a @ a
        yield {"rate": 5 * 2 * 1024**3 / (time.process_time() - began) / 1e9}


def newcomer(folder: str, beside: str) -> Iterator[dict[str, float]]:
    """`daybreak commerce add` in a process of its own, as a newcomer would run it; then what a query takes."""
    command = [str(Path(sys.executable).with_name("daybreak")), "commerce", "add", folder, "--catalogue", beside]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    took = time.perf_counter() - began
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    began = time.perf_counter()
    from daybreak.media.image import Image
    from daybreak.systems.commerce.catalogue import Catalogue
    from daybreak.systems.commerce.model import Search, SimilarImage, SimilarProduct

    known = shop()
    known.catalogue = Catalogue.open(beside, known.fingerprint)
    start = time.perf_counter() - began
    names = [row.id for row in islice(known.catalogue.rows(), 24)]
    files = [path.read_bytes() for path in islice(sorted((Path(folder) / "images").iterdir()), 24)]
    asked = {
        "picture": [lambda d=data: known.similar_image(SimilarImage(image=Image.from_bytes(d))) for data in files],
        "item": [lambda n=name: known.similar_product(SimilarProduct(item=n)) for name in names],
        "words": [lambda w=word: known.search(Search(text=w)) for word in ("red dress", "빨간 치마", "black t-shirt")]
        * 8,
    }
    values = {"add_s": took, "cpu_s": used.ru_utime + used.ru_stime, "start_s": start}
    for name, calls in asked.items():
        times = []
        for call in calls:
            began = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - began))
        values |= {name: statistics.median(times), f"{name}_worst": max(times)}
    yield values


def measure(quick: bool) -> Iterator[Row]:
    """The rows."""
    count = 500 if quick else 5000
    with scratch() as folder:
        what = prepared(folder / "shop", count)
        say(f"ingest: {what}")
        where = str(folder / "shop")
        parts = {"ours": [where], "pillow": [where], "product": []}
        values = in_turn(parts, 2 if quick else 7)
        middle = medians({name: [v["rate"] for v in found] for name, found in values.items()})
        share, kept = (statistics.median(v[key] for v in values["ours"]) for key in ("network", "kept"))
        note = (
            f"{share:.0%} in the network ({once('operations'):.2f} GFLOP a photo; a matrix product reaches "
            f"{middle['product']:.0f} GFLOP/s here)"
        )
        unit = "photos/CPU s"
        yield Row("ingest: decode, tag, embed", unit, middle["ours"], Bar("ours", ">=", 300.0),
                  "Pillow, decode and resize alone", middle["pillow"], note)  # fmt: skip
        note = "with hash, small picture, row, and commits on the disk"
        yield Row("the same, kept in a catalogue by `add`", unit, kept, note=note)
        say(f"add: {what}")
        value = once("newcomer", where, str(folder / "catalogue"), threads=os.cpu_count() or 1)
    note = f"{what}, an empty catalogue, {value['cpu_s']:.0f} CPU s"
    yield Row("`daybreak commerce add`, start included, wall", "s", value["add_s"], Bar("ours", "<=", 120.0), note=note)
    for name, words in (("picture", "by a picture"), ("item", "by an item"), ("words", "by words")):
        note = f"start-up apart ({value['start_s']:.1f} s); the slowest of 24 took {value[name + '_worst']:.0f} ms"
        yield Row(f"then a query {words}, wall", "ms", value[name], Bar("ours", "<=", 100.0), note=note)


if __name__ == "__main__":
    parts = {"ours": ours, "pillow": pillow, "product": product, "operations": operations, "newcomer": newcomer}
    main(measure, parts, ["pillow", "faiss-cpu"])
