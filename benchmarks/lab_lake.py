"""The lake: 100 000 items of 3 KB, written, read one by one, read 250 at once, and scanned.

Peers: Lance, HF datasets (on disk as Arrow), plain files in 256 folders. Every store holds name, group and bytes; ours
also hashes each item, keeps its licence and split, and is durable when `add` returns.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rows import Bar, Row, in_turn, main, medians, say, scratch

SIZE = 3000
PEERS = {"lance": "Lance", "datasets": "HF datasets", "files": "plain files"}
Result = dict[str, float]


def blobs(count: int) -> Iterator[bytes]:
    """The same noise for everybody."""
    draw = random.Random(7)
    pool = draw.randbytes(1 << 20)
    for n in range(count):
        at = draw.randrange(len(pool) - SIZE)
        yield n.to_bytes(8, "little") + pool[at : at + SIZE - 8]


def check(n: int, data: bytes) -> None:
    """That a read gave the right item."""
    if len(data) != SIZE or int.from_bytes(data[:8], "little") != n:
        raise AssertionError(f"item {n} came back wrong")


def rates(
    count: int,
    write: Callable[[], None],
    opened: Callable[[], Any],
) -> Iterator[Result]:
    """Items a CPU second: first of writing, then, a round each, of reading.

    `opened` gives the ways to read one, to read many, to scan, and perhaps another way to read one.
    """
    before = time.process_time()
    write()
    yield {"write": count / (time.process_time() - before)}
    one, many, scan, *other = opened()
    draw = random.Random(11)
    for n in draw.sample(range(count), 200):
        one(n)
    while True:
        ones = [draw.randrange(count) for _ in range(2000)]
        before = time.process_time()
        for n in ones:
            one(n)
        result = {"one": len(ones) / (time.process_time() - before)}
        for read in other:
            before = time.process_time()
            for n in ones:
                read(n)
            result["other"] = len(ones) / (time.process_time() - before)
        batches = [[draw.randrange(count) for _ in range(250)] for _ in range(20)]
        before = time.process_time()
        for batch in batches:
            many(batch)
        result["many"] = 250 * len(batches) / (time.process_time() - before)
        before = time.process_time()
        seen = scan()
        result["scan"] = count / (time.process_time() - before)
        if seen != count * SIZE:
            raise AssertionError(f"a scan saw {seen} bytes of {count * SIZE}")
        yield result


def ours(count: int, folder: str) -> Iterator[Result]:
    """The lake, through a snapshot, as a recipe's batches read it: from an index to the bytes."""
    from daybreak.lab.home import Lab
    from daybreak.lab.lake import Draft, Lake

    lab = Lab.open(folder)
    lake = Lake.open(lab)

    def write() -> None:
        lake.add(
            "bench",
            (Draft(f"item-{n}", f"group-{n}", {"data": data}, {}, "train") for n, data in enumerate(blobs(count))),
            licence="CC0-1.0",
        )

    def opened() -> Any:
        snapshot = lake.snapshot("bench")
        items = snapshot.split("train")
        first = snapshot.read(items[0])
        check(int(items[0].name.removeprefix("item-")), first)

        def scan() -> int:
            return sum(len(data) for at in range(0, count, 250) for data in items.read_many(range(at, at + 250)))

        def whole(n: int) -> bytes:
            return snapshot.read(items[n])

        return items.read, items.read_many, scan, whole

    yield from rates(count, write, opened)


def lance(count: int, folder: str) -> Iterator[Result]:
    """Lance: one write of record batches; `take` by row."""
    import lance
    import pyarrow as pa

    uri = f"{folder}/items.lance"
    schema = pa.schema([("name", pa.string()), ("group", pa.string()), ("data", pa.binary())])

    def write() -> None:
        lance.write_dataset(pa.RecordBatchReader.from_batches(schema, _batches(count, schema)), uri)

    def opened() -> Any:
        dataset = lance.dataset(uri)

        def one(n: int) -> bytes:
            return bytes(dataset.take([n], columns=["data"])["data"][0].as_py())

        def many(indices: Sequence[int]) -> list[bytes]:
            return list(dataset.take(list(indices), columns=["data"])["data"].to_pylist())

        def scan() -> int:
            batches = dataset.to_batches(columns=["data"])
            return sum(len(data) for batch in batches for data in batch["data"].to_pylist())

        check(5, one(5))
        return one, many, scan

    yield from rates(count, write, opened)


def datasets(count: int, folder: str) -> Iterator[Result]:
    """HF datasets: an Arrow table saved to disk and memory-mapped. Rows as `dataset[i]` gives them: all columns."""
    import datasets
    import pyarrow as pa

    datasets.disable_progress_bars()
    schema = pa.schema([("name", pa.string()), ("group", pa.string()), ("data", pa.binary())])

    def write() -> None:
        table = pa.Table.from_batches(_batches(count, schema), schema)
        datasets.Dataset(table).save_to_disk(f"{folder}/datasets")

    def opened() -> Any:
        dataset = datasets.load_from_disk(f"{folder}/datasets")
        column = dataset.select_columns(["data"])

        def one(n: int) -> bytes:
            return bytes(dataset[n]["data"])

        def many(indices: Sequence[int]) -> list[bytes]:
            return list(column[list(indices)]["data"])

        def alone(n: int) -> bytes:
            return bytes(column[n]["data"])

        def scan() -> int:
            batches = column.with_format("arrow").iter(1000)
            return sum(len(data) for batch in batches for data in batch["data"].to_pylist())

        check(5, one(5))
        return one, many, scan, alone

    yield from rates(count, write, opened)


def _batches(count: int, schema: Any) -> Iterator[Any]:
    import pyarrow as pa

    source = blobs(count)
    for start in range(0, count, 1000):
        stop = min(count, start + 1000)
        names = [f"item-{n}" for n in range(start, stop)]
        groups = [f"group-{n}" for n in range(start, stop)]
        data = [next(source) for _ in names]
        yield pa.record_batch([pa.array(names), pa.array(groups), pa.array(data, pa.binary())], schema=schema)


def files(count: int, folder: str) -> Iterator[Result]:
    """A file an item, its group in its name; written without fsync."""
    root = Path(folder) / "files"

    def path(n: int) -> str:
        return f"{root}/{n % 256:02x}/group-{n}--item-{n}"

    def write() -> None:
        for n in range(256):
            (root / f"{n:02x}").mkdir(parents=True)
        for n, data in enumerate(blobs(count)):
            with open(path(n), "wb") as file:
                file.write(data)

    def opened() -> Any:
        def one(n: int) -> bytes:
            with open(path(n), "rb") as file:
                return file.read()

        def many(indices: Sequence[int]) -> list[bytes]:
            return [one(n) for n in indices]

        def scan() -> int:
            return sum(len(found.read_bytes()) for part in root.iterdir() for found in part.iterdir())

        check(5, one(5))
        return one, many, scan

    yield from rates(count, write, opened)


WHAT = {"write": "write", "one": "read one", "many": "read 250 at once", "scan": "scan all"}
BARS = {
    ("one", "lance"): Bar("ratio", ">=", 20),
    ("one", "datasets"): Bar("ratio", ">=", 2),
    ("write", "files"): Bar("ratio", ">=", 1),
}


def measure(quick: bool) -> Iterator[Row]:
    """The rows."""
    count, rounds = (20_000, 3) if quick else (100_000, 7)
    names = ["ours", *PEERS]
    with scratch() as folder:
        for name in names:
            (folder / name).mkdir()
        say(f"{count} items of {SIZE} bytes, then {rounds} rounds of reads, in turn: {', '.join(names)}")
        found = in_turn({name: (count, str(folder / name)) for name in names}, 1 + rounds)
    middle = {
        name: medians({key: [r[key] for r in results if key in r] for key in {k for r in results for k in r}})
        for name, results in found.items()
    }
    note = "20 000 items" if quick else ""
    for key, what in WHAT.items():
        for peer, title in PEERS.items():
            theirs = middle.get(peer, {}).get(key)
            yield Row(
                f"{what}, items a CPU second", "/s", middle["ours"][key], BARS.get((key, peer)), title, theirs, note
            )
    theirs = middle.get("datasets", {})
    yield Row("read one, items a CPU second", "/s", middle["ours"]["one"], None, "HF datasets, the bytes' column alone",
              theirs.get("other"), note)  # fmt: skip
    yield Row("read one with labels and provenance, items a CPU second", "/s", middle["ours"]["other"], None,
              "HF datasets", theirs.get("one"), note)  # fmt: skip


if __name__ == "__main__":
    main(
        measure,
        {"ours": ours, "lance": lance, "datasets": datasets, "files": files},
        ["pylance", "datasets", "pyarrow"],
    )
