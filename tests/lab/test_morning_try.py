"""What a morning can be tried from: the exported pages of registered versions, as links that lead there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from nights import Night

from daybreak.lab import registry
from daybreak.lab.morning import data_of, write_morning


@pytest.fixture
def night(tmp_path):
    night = Night(tmp_path / "lab", items=4, sounds=0)
    night.run(1)
    return night


def version(night, number, *, run="0-earlier", page=True, model="music"):
    path = night.lab.registry / model / str(number)
    (path / "exports" / "page").mkdir(parents=True)
    (path / "record.json").write_text(json.dumps({"number": number, "run": run}))
    if page:
        (path / "exports" / "page" / "index.html").write_bytes(b"\xff\xfe<\x00")


def pages(night):
    page = write_morning(night.lab, now=night.now)
    held = data_of(page)["pages"]
    for one in held:
        assert (page.parent / unquote(one["href"])).resolve() == (
            night.lab.registry / one["title"].replace("@", "/") / "exports" / "page" / "index.html"
        )
    links = re.findall(r'<a href="(\.\./\.\./registry/[^"]*)"', page.read_text())
    assert links == [one["href"] for one in held]
    assert all(f"]({link})" in (page.parent / "log.md").read_text() for link in links)
    return [one["title"] for one in held]


def test_a_lab_without_pages_says_nothing_of_them(night):
    assert pages(night) == []
    version(night, 1, page=False)
    assert pages(night) == []
    assert 'id="h-try"' not in Path(night.lab.daily / "2026-11-22" / "index.html").read_text()


def test_the_newest_page_is_linked_then_what_is_in_production_and_the_night_s_own(night):
    version(night, 1)
    version(night, 2)
    version(night, 3, page=False)
    assert pages(night) == ["music@2"]
    registry.promote(night.lab, "music@1")
    assert pages(night) == ["music@1"]
    (run,) = [path.name for path in night.lab.runs.iterdir() if path.name.startswith("1-")]
    version(night, 4, run=run)
    assert pages(night) == ["music@1", "music@4"]
    version(night, 1, model="beats")
    assert pages(night) == ["beats@1", "music@1", "music@4"]


def test_a_page_made_before_there_were_links_is_still_drawn(night):
    from daybreak.lab.morning.page import render

    data = data_of(write_morning(night.lab, now=night.now))
    del data["pages"]
    assert "Verdict" in render(data)
