"""Files -> items, and items -> clips as tokens. It knows layouts on disk; it knows nothing about nets or training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from daybreak.errors import UserError
from daybreak.systems.music.data import cut, folder, pop909

if TYPE_CHECKING:
    import numpy as np

    from daybreak.lab.lake import Broken, Draft, Item

VOTE = "vote"
"""The label `kind` of what a listener decided about two clips: an item of this system, and no song."""


def ingest(path: Path) -> Iterator[Draft | Broken]:
    """POP909's tree or archive (or the folder that holds it), else any folder of MIDI files or one of them."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist")
    found = pop909.find(path)
    yield from pop909.ingest(found) if found else folder.ingest(path)


def embedded() -> Iterator[Draft | Broken]:
    """Songs that the project composes by rule: for a first run on a machine without data, never for claims."""
    from daybreak.systems.music.rules import songs

    yield from songs()


def only_songs(items: Sequence[Item]) -> Sequence[Item]:
    """The items without the votes of listeners; the same sequence where there are none."""
    kept = [n for n, item in enumerate(items) if item.labels.get("kind") != VOTE]
    return items if len(kept) == len(items) else [items[n] for n in kept]


def clips(item: Item, read: Callable[[str], bytes]) -> dict[str, np.ndarray]:
    """A derivation: the clips of a song, as `cut.cut` gives them. A vote has none."""
    if item.labels.get("kind") == VOTE:
        return cut.cut(())
    source = pop909 if "beats" in item.parts else folder
    return cut.cut(source.stretches(item.labels, read))
