"""The lake: items by content, snapshots that freeze them, and what is derived from them."""

from daybreak.lab.lake.derive import Derived
from daybreak.lab.lake.item import RULE, SPLITS, Broken, Draft, Item, Split, split_of
from daybreak.lab.lake.snapshot import Gone, Items, Snapshot
from daybreak.lab.lake.store import Added, Lake

__all__ = [
    "RULE",
    "SPLITS",
    "Added",
    "Broken",
    "Derived",
    "Draft",
    "Gone",
    "Item",
    "Items",
    "Lake",
    "Snapshot",
    "Split",
    "split_of",
]
