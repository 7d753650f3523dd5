"""The lake: items by content, snapshots that freeze them, and what is derived from them."""

from daybreak.lab.lake.audit import Difference, Move, Verified, difference, verify
from daybreak.lab.lake.derive import Derived
from daybreak.lab.lake.incoming import Added
from daybreak.lab.lake.item import RULE, SPLITS, Broken, Draft, Item, Split, split_of
from daybreak.lab.lake.removal import Removed, Saw, removed, saw, versions
from daybreak.lab.lake.snapshot import Gone, Items, Snapshot
from daybreak.lab.lake.store import Lake

__all__ = [
    "RULE",
    "SPLITS",
    "Added",
    "Broken",
    "Derived",
    "Difference",
    "Draft",
    "Gone",
    "Item",
    "Items",
    "Lake",
    "Move",
    "Removed",
    "Saw",
    "Snapshot",
    "Split",
    "Verified",
    "difference",
    "removed",
    "saw",
    "split_of",
    "verify",
    "versions",
]
