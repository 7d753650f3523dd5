"""`daybreak lake`: putting items in, looking at them, freezing them, taking them out."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daybreak.cli.show import record, say, table
from daybreak.errors import UserError
from daybreak.lab.system import resolve
from daybreak.lab.system import system as find_system

if TYPE_CHECKING:
    from daybreak.lab.lake import Broken, Item, Lake, Saw, Snapshot

SHOWN = 20
"""Broken items listed on the terminal."""


def add(
    system: str,
    path: Path | None = None,
    /,
    *,
    licence: str = "",
    source: str = "",
    consent: str = "",
    restore: bool = False,
    json: bool = False,
) -> None:
    """Add what a system can read under a path; without a path, the data that the system brings.

    Args:
        system: whose ingestion reads the files.
        path: a file or a folder.
        licence: the items' licence: an SPDX name such as CC-BY-4.0, or Private.
        source: where they come from; the path when not given.
        consent: who agreed to what, for items of persons.
        restore: add again what was removed before.
        json: print JSON.
    """
    lake = _open()
    found = find_system(system)
    if path is None:
        if not found.embedded:
            raise UserError(f"{system} brings no data of its own; name a file or a folder to add")
        drafts = _resolve(system, found.embedded)()
        licence, source = licence or "Apache-2.0", source or "made by daybreak"
    else:
        if not found.ingest:
            raise UserError(f"{system} reads no files")
        if not path.exists():
            raise UserError(f"there is no file or folder {path}")
        if not licence.strip():
            raise UserError("items need a licence; name it with --licence (an SPDX name such as CC-BY-4.0, or Private)")
        drafts = _resolve(system, found.ingest)(path)
        source = source or str(path.absolute())
    with _bar(f"adding to {system}") as show:
        try:
            done = lake.add(
                found.name, drafts, licence=licence, source=source, consent=consent, restore=restore,
                progress=lambda now: show(
                    now.seen, f"{now.added} new, {now.duplicates} known, {len(now.broken)} set aside"
                ),
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
    counts = {"added": done.added, "changed": done.changed, "duplicates": done.duplicates, "broken": len(done.broken)}
    _aside(done.broken, json)
    if json:
        record({**counts, "broken": [asdict(one) for one in done.broken]}, json=True)
    else:
        record(counts)


def ls(
    system: str = "",
    /,
    *,
    where: tuple[str, ...] = (),
    split: str = "",
    group: str = "",
    source: str = "",
    licence: str = "",
    limit: int = 50,
    snapshots: bool = False,
    removed: bool = False,
    json: bool = False,
) -> None:
    """List items, in the order in which they came; or snapshots, or what was removed.

    Args:
        system: only this system's.
        where: a label and its value, such as genre=jazz; may be given again.
        split: train, validation or test.
        group: only this group's (song, speaker).
        source: only from this source.
        licence: only under this licence.
        limit: items to list; 0 lists all.
        snapshots: list snapshots instead.
        removed: list the records of removed items instead.
        json: print JSON.
    """
    from itertools import islice

    from daybreak.lab.lake import Snapshot
    from daybreak.lab.lake import removed as removals

    lake = _open()
    if removed:
        table(removals(lake, system), json=json, empty="nothing was removed")
        return
    if snapshots:
        made = [one for one in Snapshot.all(lake.lab) if not system or one.system == system]
        rows = [{"snapshot": s.id, "system": s.system, **_counts(s), "query": s.words(), "made": s.made} for s in made]
        table(rows, json=json, empty="there is no snapshot yet; make one with `daybreak lake snapshot SYSTEM`")
        return
    items = lake.items(system, split=split, group=group, source=source, licence=licence, where=_where(where))
    listed = [_row(item) for item in islice(items, limit or None)]
    table(
        listed,
        ["id", "system", "split", "group", "name", "labels", "licence"],
        json=json,
        empty="no item fits; `daybreak lake add SYSTEM PATH` adds some",
    )
    if limit and len(listed) == limit and next(items, None) is not None:
        say(f"only the first {limit} are listed; --limit 0 lists all of the {lake.count(system)} items")


def show(what: str, /, *, json: bool = False) -> None:
    """Show an item and what saw it, or a snapshot and what it lacks.

    Args:
        what: an item's id, a snapshot's id, a system's name (its last snapshot), or latest.
        json: print JSON.
    """
    from daybreak.lab.lake import Snapshot, saw

    lake = _open()
    try:
        item = lake.get(what)
    except UserError as no_item:
        try:
            found = Snapshot.open(lake.lab, what)
        except UserError as no_snapshot:
            raise no_item if _is_id(what) else no_snapshot from None
        gone = found.gone()
        fields = {
            "snapshot": found.id, "system": found.system, "query": found.words(), "rule": found.rule,
            **_counts(found), "created": found.created, "gone": len(gone),
        }  # fmt: skip
        if json:
            record({**fields, "gone": [asdict(one) for one in gone]}, json=True)
            return
        record(fields)
        for one in gone[:SHOWN]:
            say(f"gone: {one.id}: {one.reason}")
        return
    seen = saw(lake.lab, [item.id])
    sizes = {part: len(lake.read(item, part)) for part in item.parts}
    record({**asdict(item), "bytes": sizes, "seen by": [_words(one) for one in seen]}, json=json)


def rm(id: str, /, *, yes: bool = False, why: str = "", json: bool = False) -> None:
    """List every run and model that saw an item; with --yes, delete the item and its bytes.

    Args:
        id: the item's id.
        yes: delete. Without it nothing is deleted.
        why: the reason, which the record of the removal keeps.
        json: print JSON.
    """
    from daybreak.lab.lake import saw, versions

    lake = _open()
    if yes:
        gone = lake.remove(id, who=_user(), why=why)
        items, seen = list(gone.items), list(gone.saw)
    else:
        items = versions(lake, id)
        seen = saw(lake.lab, [item.id for item in items])
    if json:
        record({"removed": yes, "items": [_row(item) for item in items], "saw": [asdict(s) for s in seen]}, json=True)
    else:
        rows = [{"seen by": one.kind, "name": one.name, "as": one.split} for one in seen]
        table(rows, empty="no snapshot, run or model saw it")
        for item in items:
            say(f"{'removed' if yes else 'would remove'} {item.id} ({item.name}, group {item.group})")
    if not yes:
        raise UserError(f"nothing was removed; `daybreak lake rm {items[0].id} --yes --why REASON` removes it")


def snapshot(
    system: str, /, *, where: tuple[str, ...] = (), source: str = "", licence: str = "", json: bool = False
) -> None:
    """Freeze the items that fit: what a run will see. The same items give the same snapshot.

    Args:
        system: whose items.
        where: a label and its value, such as genre=jazz; may be given again, and then both hold.
        source: only from this source.
        licence: only under this licence.
        json: print JSON.
    """
    made = _open().snapshot(system, where=_where(where), source=source, licence=licence)
    record({"snapshot": made.id, "system": made.system, "query": made.words(), **_counts(made)}, json=json)
    made.check()
    for split in ("validation", "test"):
        if not made.counts[split]:
            say(f"this snapshot has no {split} items")


def diff(a: str, b: str, /, *, json: bool = False) -> None:
    """What changes from one snapshot to another: added, gone, moved to another split, relabelled.

    Args:
        a: a snapshot's id.
        b: another's.
        json: print JSON.
    """
    from daybreak.lab.lake import Snapshot, difference

    lake = _open()
    found = difference(Snapshot.open(lake.lab, a), Snapshot.open(lake.lab, b))
    if json:
        record(asdict(found), json=True)
        return
    rows: list[dict[str, Any]] = [{"what": "added", "item": id} for id in found.added]
    rows += [{"what": "gone", "item": id} for id in found.gone]
    rows += [{"what": f"moved from {m.from_split} to {m.to_split}", "item": m.after} for m in found.moved]
    rows += [{"what": f"was {m.before}", "item": m.after} for m in found.changed]
    table(rows, empty="nothing differs")
    say(
        f"{found.same} the same, {len(found.added)} added, {len(found.gone)} gone, {len(found.moved)} moved, "
        f"{len(found.changed)} relabelled"
    )


def verify(*, json: bool = False) -> None:
    """Read every byte of the lake and compare its digest.

    Args:
        json: print JSON.
    """
    from daybreak.lab.lake import verify as check

    lake = _open()
    with _bar("verifying") as show:
        found = check(lake, progress=lambda now: show(now.blobs, f"{now.bytes / 2**20:.0f} MiB"))
    if json:
        record(asdict(found), json=True)
    else:
        table([asdict(one) for one in found.corrupt], {"name": "blob", "reason": "what is wrong"})
        for name in found.unused[:SHOWN]:
            say(f"unused, left by a crash, may be deleted: {name}")
        say(f"{found.blobs} blobs, {found.bytes / 2**20:.1f} MiB read, {len(found.corrupt)} damaged")
    if found.corrupt:
        raise UserError(
            f"{len(found.corrupt)} blobs are damaged; remove their items with `daybreak lake rm` and add the files "
            "again with --restore"
        )


def derive(recipe: str, /, *, function: str = "", workers: int = 0, json: bool = False) -> None:
    """Compute a recipe's preprocessing for all current items of its system, in parallel, once.

    Args:
        recipe: a recipe, such as music or music:compose.
        function: module:function, where the recipe does not name its own.
        workers: processes; 0 takes one for each core.
        json: print JSON.
    """
    import os

    from daybreak.lab.config import lookup

    found = lookup(recipe)
    if function and ":" not in function:
        raise UserError(f"there is no {function!r}; write module:function")
    functions = [_resolve(found.system.name, function)] if function else list(getattr(found.cls, "derives", ()))
    if not functions:
        raise UserError(f"{recipe} names nothing to derive; name it with --function module:function")
    lake, rows, broken = _open(), [], []
    total = lake.count(found.system.name)
    for one in functions:
        name = f"{one.__module__}:{one.__qualname__}"
        with _bar(f"deriving {one.__qualname__}", total) as show:
            done = lake.derive(
                one, lake.items(found.system.name), workers=workers or os.cpu_count() or 1,
                progress=lambda now, show=show: show(now.seen, f"{now.cached} were there"),  # type: ignore[misc]
            )  # fmt: skip
        broken += done.broken
        rows.append({"function": name, "computed": done.computed, "cached": done.cached, "broken": len(done.broken)})
    _aside(broken, json)
    table([{**row, "reasons": [asdict(b) for b in broken]} if json else row for row in rows], json=json)


def _open() -> Lake:
    from daybreak.lab.lake import Lake

    return Lake.open()


def _resolve(system: str, target: str) -> Callable[..., Any]:
    try:
        found: Callable[..., Any] = resolve(target)
    except ModuleNotFoundError as error:
        raise UserError(f"{target} needs {error.name}; `pip install 'daybreak[{system}]'` brings it") from error
    except (AttributeError, ValueError) as error:
        raise UserError(f"there is no {target!r}; write module:function") from error
    return found


def _where(pairs: tuple[str, ...]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise UserError(f"--where {pair}: write a label and its value, such as genre=jazz")
    return dict(pair.split("=", 1) for pair in pairs)


def _row(item: Item) -> dict[str, Any]:
    return asdict(item)


def _counts(snapshot: Snapshot) -> dict[str, int]:
    return {str(split): count for split, count in snapshot.counts.items()}


def _is_id(text: str) -> bool:
    return len(text) == 16 and set(text) <= set("0123456789abcdef")


def _words(one: Saw) -> str:
    return f"{one.kind} {one.name} ({one.split})"


def _aside(broken: list[Broken], json: bool) -> None:
    for one in broken[:SHOWN]:
        say(f"set aside: {one.name}: {one.reason}")
    if len(broken) > SHOWN:
        say(f"... and {len(broken) - SHOWN} more{'' if json else '; --json lists all'}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


@contextmanager
def _bar(words: str, total: int | None = None) -> Iterator[Callable[[int, str], None]]:
    """A progress bar on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[about]}"), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(words, total=total, about="")
        yield lambda done, text: bar.update(task, completed=done, about=text)


COMMANDS: dict[str, Callable[..., None]] = {
    "add": add,
    "ls": ls,
    "show": show,
    "rm": rm,
    "snapshot": snapshot,
    "diff": diff,
    "verify": verify,
    "derive": derive,
}
