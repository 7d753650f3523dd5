"""Models that a morning can be tried from: registered versions that have a page of their own, as links.

It knows the registry; it draws nothing.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from datetime import date
from typing import Any
from urllib.parse import quote

from daybreak.lab import registry
from daybreak.lab.home import Lab


def pages(lab: Lab, day: date, runs: Collection[str]) -> list[dict[str, Any]]:
    """The pages that a morning links to: of each model what is in production, else the newest, and the night's own.

    Args:
        lab: the lab's folder.
        day: the morning's date: links are relative to its folder.
        runs: ids of the night's runs.
    """
    found = []
    for model in registry.models(lab):
        held = [version for version in registry.versions(lab, model) if version.page is not None]
        first = next(
            (version for version in held if registry.PRODUCTION in version.aliases), held[-1] if held else None
        )
        for version in held:
            page = version.page
            if page is not None and (version is first or version.record.get("run") in runs):
                away = os.path.relpath(page, lab.daily / day.isoformat())
                found.append(
                    {"title": version.title, "aliases": list(version.aliases), "run": version.record.get("run", ""),
                     "href": quote(away.replace(os.sep, "/")), "bytes": page.stat().st_size}
                )  # fmt: skip
    return found
