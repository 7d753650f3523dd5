"""The registry: models that passed their gates, as numbered versions with lineage, and aliases that point at one."""

from daybreak.lab.registry.gates import add, lineage, readings, show
from daybreak.lab.registry.place import Place, locate, open_model, shipped, usual_name
from daybreak.lab.registry.store import (
    PRODUCTION,
    Version,
    aliases,
    find,
    history,
    models,
    page_of,
    promote,
    rollback,
    versions,
)

__all__ = [
    "PRODUCTION",
    "Place",
    "Version",
    "add",
    "aliases",
    "find",
    "history",
    "lineage",
    "locate",
    "models",
    "open_model",
    "page_of",
    "promote",
    "readings",
    "rollback",
    "shipped",
    "show",
    "usual_name",
    "versions",
]
