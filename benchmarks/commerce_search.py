"""The catalogue's searches beside faiss, hnswlib and usearch, one thread, CPU time, the same vectors and queries."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from rows import Bar, PartError, Row, in_turn, main, medians, once, say, scratch

WIDTH = 128
QUERIES = 200
K = 10


def clustered(count: int, seed: int) -> np.ndarray:
    """Rows, or queries with another seed, of 500 overlapping clusters: noise is longer than the centre.

    Hard for inverted files on purpose. Vectors of a trained network lie in fewer dimensions and in clearer clusters,
    where the best are easier to tell from the rest.
    """
    centres = np.random.default_rng(7).standard_normal((500, WIDTH), dtype=np.float32)
    random = np.random.default_rng(seed)
    x = random.standard_normal((count, WIDTH), dtype=np.float32)
    for start in range(0, count, 65_536):
        part = x[start : start + 65_536]
        part += 0.6 * centres[random.integers(len(centres), size=len(part))]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return x


def truth(x: np.ndarray, q: np.ndarray, passing: np.ndarray | None = None) -> list[set[int]]:
    """The exact ten best of each query."""
    best = []
    for start in range(0, len(q), 20):
        scores = q[start : start + 20] @ x.T
        if passing is not None:
            scores[:, ~passing] = -np.inf
        best += [set(row[-K:].tolist()) for row in np.argpartition(scores, len(x) - K, axis=1)]
    return best


def recall(found: list[list[int]], wanted: list[set[int]]) -> float:
    """The share of the ten best that was found."""
    return float(np.mean([len(set(f[:K]) & w) / K for f, w in zip(found, wanted, strict=True)]))


def filters(count: int) -> dict[str, np.ndarray]:
    """Filters that 1 and 10 % of the rows pass, at random."""
    random = np.random.default_rng(3)
    return {"one": random.random(count) < 0.01, "ten": random.random(count) < 0.1}


def catalogue(folder: str, x: np.ndarray, passing: dict[str, np.ndarray] | None = None) -> Any:
    """A catalogue of these vectors; a row that passes a filter has its name as a tag."""
    from daybreak.systems.commerce.catalogue import Catalogue, Row

    made = Catalogue.create(folder, "benchmark", {"product": x.shape[1]}, auto_index=False)
    each = 131_072
    with made.writing() as writer:
        for start in range(0, len(x), each):
            part = x[start : start + each]
            rows = []
            for i in range(start, start + len(part)):
                named = tuple(name for name, mask in (passing or {}).items() if mask[i])
                rows.append(Row(id=str(i), tags={"filter": named} if named else {}))
            writer.add(rows, {"product": part})
    return made


def rounds(search: Any, q: np.ndarray) -> Iterator[dict[str, Any]]:
    """Rounds of one query at a time: queries a CPU second, and what was found."""
    search(q[:1])
    while True:
        began = time.process_time()
        found = [search(q[i : i + 1]) for i in range(len(q))]
        yield {"rate": len(q) / (time.process_time() - began), "found": found}


def ours(made: Any, **more: Any) -> Any:
    """A search of the catalogue that gives numbers of rows."""
    return lambda one: [int(hit.id) for hit in made.search({"product": one[0]}, k=K, **more)]


def through(index: Any, **more: Any) -> Any:
    """A search of a faiss index."""
    return lambda one: index.search(one, K, **more)[1][0].tolist()


def flat(x: np.ndarray) -> Any:
    """faiss with one thread, and its flat index."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(x.shape[1])
    index.add(x)
    return faiss, index


def single(who: str, folder: str, count: int) -> Iterator[dict[str, Any]]:
    """One query at a time, nothing filtered."""
    x, q = clustered(count, 0), clustered(QUERIES, 1)
    if who == "ours":
        made = catalogue(folder, x)
        made.prepare("product")
        yield from rounds(ours(made), q)
    if who == "hnswlib":
        import hnswlib

        graph = hnswlib.Index("ip", WIDTH)
        graph.init_index(count, M=16, ef_construction=200)
        graph.set_num_threads(1)
        graph.add_items(x)
        graph.set_ef(128)
        yield from rounds(lambda one: graph.knn_query(one, K)[0][0].tolist(), q)
    if who == "usearch":
        from usearch.index import Index

        other = Index(ndim=WIDTH, metric="ip", dtype="f32", connectivity=16, expansion_search=128)
        other.add(np.arange(count), x, threads=1)
        yield from rounds(lambda one: other.search(one[0], K, threads=1).keys.tolist(), q)
    faiss, index = flat(x)
    if who == "SQ8":
        codes = faiss.IndexScalarQuantizer(WIDTH, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
        codes.train(x)
        codes.add(x)

        def search(one: np.ndarray) -> list[int]:
            near = codes.search(one, 100)[1][0]
            return near[np.argsort(-(x[near] @ one[0]))[:K]].tolist()

        yield from rounds(search, q)
    yield from rounds(through(index), q)


def filtered(who: str, folder: str, count: int, name: str) -> Iterator[dict[str, Any]]:
    """One query at a time under a filter that is known beforehand to all."""
    x, q = clustered(count, 0), clustered(QUERIES, 1)
    passing = filters(count)
    if who == "ours":
        from daybreak.systems.commerce.catalogue import Where

        made = catalogue(folder, x, passing)
        made.prepare("product")
        yield from rounds(ours(made, where=Where(tags={"filter": name})), q)
    if who == "hnswlib":
        import hnswlib

        graph = hnswlib.Index("ip", WIDTH)
        graph.init_index(count, M=16, ef_construction=200)
        graph.set_num_threads(1)
        graph.add_items(x)
        graph.set_ef(128)
        mask = passing[name]
        yield from rounds(lambda one: graph.knn_query(one, K, filter=lambda i: bool(mask[i]))[0][0].tolist(), q[:20])
    faiss, index = flat(x)
    bits = np.packbits(passing[name], bitorder="little")
    chosen = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))
    yield from rounds(through(index, params=chosen), q)


def removed(folder: str, count: int) -> Iterator[dict[str, float]]:
    """A tenth removed, searched, compacted, searched."""
    x, q = clustered(count, 0), clustered(QUERIES, 1)
    made = catalogue(folder, x)
    made.prepare("product")
    gone = np.zeros(count, bool)
    gone[np.random.default_rng(5).choice(count, count // 10, replace=False)] = True
    wanted, before = truth(x, q, ~gone), truth(x, q)

    def searched() -> tuple[float, int]:
        found = [ours(made)(one[None]) for one in q]
        return recall(found, wanted), sum(bool(gone[i]) for hits in found for i in hits)

    index = made.planner.index(made.view(), ("product",))[0]
    values: dict[str, float] = {"recall_before": recall([ours(made)(one[None]) for one in q], before)}
    values |= {"disk_before": made.size() / 1e6, "codes_before": index.rows * index.bytes_a_row / 1e6}
    began = time.process_time()
    with made.writing() as writer:
        writer.remove([str(i) for i in np.flatnonzero(gone)])
    values["remove_s"] = time.process_time() - began
    values["recall_removed"], values["back"] = searched()
    began = time.process_time()
    made.compact()
    values["compact_s"] = time.process_time() - began
    made.prepare("product")
    index = made.planner.index(made.view(), ("product",))[0]
    values["recall_after"], back = searched()
    values["back"] += back
    yield values | {"disk_after": made.size() / 1e6, "codes_after": index.rows * index.bytes_a_row / 1e6}


def million(folder: str, count: int) -> Iterator[dict[str, float]]:
    """A million vectors: codes in memory, vectors mapped."""
    x, q = clustered(count, 0), clustered(QUERIES, 1)
    wanted = truth(x, q)
    began = time.process_time()
    made = catalogue(folder, x)
    added = time.process_time() - began
    del x
    made.prepare("product")
    index = made.planner.index(made.view(), ("product",))[0]
    round_ = next(rounds(ours(made), q))
    yield {
        "codes_mb": index.rows * index.bytes_a_row / 1e6, "recall": recall(round_["found"], wanted),
        "rate": round_["rate"], "add_s": added, "build_s": index.build_s, "candidates": index.candidates,
    }  # fmt: skip


def copies(folder: str, data: str, count: int, held_out: bool = False) -> Iterator[dict[str, float]]:
    """Near-duplicates among so many photos, one in twenty of them copied and altered; the shipped network's vectors.

    `held_out`: among the photos that neither the network nor the rule was made on, each copied once.
    """
    from commerce_photos import every, photos

    from daybreak.systems.commerce.catalogue import Catalogue, dhash, duplicates
    from daybreak.systems.commerce.catalogue import Row as Item
    from daybreak.systems.commerce.catalogue.dedupe import pairs
    from daybreak.systems.commerce.commands import shop_of
    from daybreak.systems.commerce.shelves import AT_ONCE

    shop = shop_of("commerce")
    pixels, train = photos(Path(data))
    if held_out:
        pixels = pixels[~train]
        count = len(pixels)
    altered = count if held_out else count // 20
    made = Catalogue.create(folder, shop.fingerprint, {"instance": WIDTH}, auto_index=False)
    owner: list[int] = []
    with made.writing() as writer:
        for chunk, owners in every(pixels, count, altered):
            seen = [shop.see_squares(chunk[n : n + AT_ONCE]).instance for n in range(0, len(chunk), AT_ONCE)]
            gray = chunk @ np.array([0.299, 0.587, 0.114])
            rows = [Item(id=str(len(owner) + i), dhash=dhash(gray[i])) for i in range(len(chunk))]
            writer.add(rows, {"instance": np.concatenate([part.numpy() for part in seen])})
            owner += owners.tolist()
    began = time.process_time()
    named = pairs(made)
    took = time.process_time() - began
    right = [owner[int(a)] == owner[int(b)] for a, b in named]
    # Each altered copy has one original: a right pair is a copy that was found.
    values = {"s": took, "precision": float(np.mean(right)), "recall": sum(right) / altered, "count": count}
    every_pair = [owner[int(a)] == owner[int(b)] for group in duplicates(made) for a, b in combinations(group, 2)]
    yield values | {"grouped": float(np.mean(every_pair))}


def measure(quick: bool) -> Iterator[Row]:
    """The rows."""
    count = 20_000 if quick else 100_000
    turns = 1 if quick else 5
    unit = "queries/CPU s"
    x, q = clustered(count, 0), clustered(QUERIES, 1)
    wanted = truth(x, q)

    with scratch() as folder:
        say("one query at a time")
        parts = {"ours": ["ours", str(folder / "c"), count], "Flat": ["Flat", "", count], "SQ8": ["SQ8", "", count]}
        values = in_turn(parts, turns, part="single")
        rate = medians({name: [v["rate"] for v in found] for name, found in values.items()})
        best = max(("Flat", "SQ8"), key=lambda name: rate.get(name, 0.0))
        what = f"search {count:,} x {WIDTH}, one query at a time"
        note = "ours with ids and shares; " + ", ".join(f"{name} {rate[name]:,.0f}" for name in rate if name != "ours")
        yield Row(what, unit, rate["ours"], Bar("ratio", ">=", 1.0), f"faiss {best}", rate.get(best), note)
        hits = {name: recall(found[-1]["found"], wanted) for name, found in values.items()}
        yield Row(f"{what}: recall@10", "", hits["ours"], Bar("ours", ">=", 0.999), "faiss SQ8 + rerank 100",
                  hits.get("SQ8"))  # fmt: skip
    if not quick:
        for name in ("hnswlib", "usearch"):
            try:
                value = once("single", name, "", count)
            except PartError as error:
                say(f"{name} was not run: {error}")
                continue
            found = recall(value["found"], wanted)
            yield Row(what, unit, rate["ours"], None, name, value["rate"], f"M 16, ef 128: recall@10 {found:.3f}")

    for name, words in (("one", "1 %"), ("ten", "10 %")):
        say(f"a filter that {words} pass")
        inside = truth(x, q, filters(count)[name])
        with scratch() as folder:
            parts = {"ours": ["ours", str(folder / "c"), count, name], "faiss": ["faiss", "", count, name]}
            values = in_turn(parts, turns, part="filtered")
        rate = medians({who: [v["rate"] for v in found] for who, found in values.items()})
        what = f"search {count:,} x {WIDTH} under a filter that {words} pass"
        yield Row(what, unit, rate["ours"], Bar("ratio", ">=", 1.5), "faiss Flat, IDSelectorBitmap", rate.get("faiss"))
        yield Row(f"{what}: recall@10", "", recall(values["ours"][-1]["found"], inside), Bar("ours", "=", 1.0))
        if not quick:
            try:
                value = once("filtered", "hnswlib", "", count, name)
                found = recall(value["found"], inside[:20])
                yield Row(what, unit, rate["ours"], Bar("ratio", ">=", 1.0), "hnswlib, filter in Python",
                          value["rate"], f"ef 128: recall@10 {found:.3f}")  # fmt: skip
            except PartError as error:
                say(f"hnswlib was not run: {error}")

    say("remove 10 %")
    with scratch() as folder:
        value = once("removed", str(folder / "c"), count)
    what = f"10 % of {count:,} removed"
    yield Row(f"{what}: removed items among hits", "", value["back"], Bar("ours", "=", 0.0))
    note = f"before {value['recall_before']:.4f}, after compact {value['recall_after']:.4f}"
    yield Row(f"{what}: recall@10", "", value["recall_removed"], Bar("ours", ">=", 0.999), note=note)
    took = f"remove {value['remove_s']:.2f} CPU s, compact {value['compact_s']:.2f} CPU s"
    yield Row(f"{what} and compacted: disk", "MB", value["disk_after"], Bar("ratio", "<=", 0.91), "before",
              value["disk_before"], took)  # fmt: skip
    yield Row(f"{what} and compacted: codes in memory", "MB", value["codes_after"], Bar("ratio", "<=", 0.91), "before",
              value["codes_before"])  # fmt: skip

    what = f"1,000,000 x {WIDTH}"
    value = {}
    if not quick:
        say(what)
        with scratch() as folder:
            value = once("million", str(folder / "c"), 1_000_000)
    note = "overlapping clusters; vectors of a trained network are easier"
    yield Row(f"{what}: codes in memory", "MB", value.get("codes_mb"), Bar("ours", "<=", 60.0), "float32", 512.0)
    yield Row(f"{what}: recall@10", "", value.get("recall"), Bar("ours", ">=", 0.95), note=note)
    if value:
        took = f"added in {value['add_s']:.0f}, indexed in {value['build_s']:.0f} CPU s"
        note = f"{value['candidates']:.0f} candidates; {took}"
        yield Row(what, unit, value["rate"], note=note)

    data = os.environ.get("DAYBREAK_DATA", "")
    photos = 100_000
    value, apart = {}, {}
    if data:
        say("near-duplicates")
        with scratch() as folder:
            if not quick:
                value = once("copies", str(folder / "c"), data, photos)
            apart = once("copies", str(folder / "d"), data, 0, True)
    what = f"near-duplicates among {photos:,} pictures and {photos // 20:,} altered copies"
    note = "after embedding" if data else "set DAYBREAK_DATA"
    yield Row(what, "CPU s", value.get("s"), Bar("ours", "<=", 60.0), note=note)
    note = "4,975 photos, the rest collages; 11 changes; the shipped network" if data else "set DAYBREAK_DATA"
    yield Row(f"{what}: precision", "", value.get("precision"), Bar("ours", ">=", 0.99), note=note)
    yield Row(f"{what}: precision of all pairs within groups", "", value.get("grouped"),
              note="groups join what is joined by others")  # fmt: skip
    yield Row(f"{what}: recall", "", value.get("recall"), Bar("ours", ">=", 0.95), note=note)
    what = "near-duplicates among the held-out photos and an altered copy of each"
    note = (
        f"{apart['count']:,} photos of senders that neither network nor rule was made on"
        if data
        else "set DAYBREAK_DATA"
    )
    yield Row(f"{what}: precision", "", apart.get("precision"), Bar("ours", ">=", 0.99), note=note)
    yield Row(f"{what}: recall", "", apart.get("recall"), Bar("ours", ">=", 0.95), note=note)


if __name__ == "__main__":
    parts = {"single": single, "filtered": filtered, "removed": removed, "million": million, "copies": copies}
    main(measure, parts, ["faiss-cpu", "hnswlib", "usearch", "numpy"])  # type: ignore[arg-type]
