"""A living catalogue: rows with vectors in one folder, searched exactly or nearly so under any filter."""

from daybreak.systems.commerce.catalogue.dedupe import Rule, dhash, duplicates
from daybreak.systems.commerce.catalogue.reembed import Reembedding
from daybreak.systems.commerce.catalogue.rows import Hit, Hits, Plan, Row, Where
from daybreak.systems.commerce.catalogue.shards import Shards
from daybreak.systems.commerce.catalogue.store import Catalogue
from daybreak.systems.commerce.catalogue.writer import Added, Writer

__all__ = [
    "Added",
    "Catalogue",
    "Hit",
    "Hits",
    "Plan",
    "Reembedding",
    "Row",
    "Rule",
    "Shards",
    "Where",
    "Writer",
    "dhash",
    "duplicates",
]
