"""The page in a browser, and what it promises about its own text: offline, safe, readable, small."""

from __future__ import annotations

import html.parser
import json
import re
import time

import browser
import pytest
from nights import Night, usual

from daybreak.lab.morning import LARGEST, data_of, write_morning
from daybreak.lab.morning.page import HERE, render

EVIL = '<img src=x onerror="document.title=1"><script>document.title=1</script>'


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    night = usual(tmp_path_factory.mktemp("lab"))
    return write_morning(night.lab, now=night.now)


def hostile(root):
    """A lab in which every text that a person or a file can bring is an attack."""
    night = Night(root)
    first = night.run(1, name=EVIL, owner=EVIL, second=EVIL, notes=[(EVIL, EVIL)], hours_ago=14)
    night.run(2, name="]]></style></script>", parent=first, change={"schedule": EVIL}, hours_ago=12, end="failed")
    night.run(
        3, recipe=f"music:{EVIL}"[:40], preset="x", hours_ago=10, goal={"name": EVIL, "better": "lower", "unit": EVIL}
    )
    rows = first.path / "scores.jsonl"
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    for line in lines:
        line["item"] += EVIL
        line["group"] += EVIL
        if "sample" in line:
            line["sample"]["sound"] = "../../../../etc/passwd"
            line["sample"][EVIL] = "javascript:alert(1)"
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return night


class Tags(html.parser.HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def contrast(one, two):
    """WCAG 2.1's contrast ratio of two #rrggbb colours."""

    def light(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def tokens():
    """The page's colours by theme."""
    css = (HERE / "page.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.S)
    themes = [dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6})\b", block)) for block in blocks]
    assert len(themes) == 3  # light, dark, print
    full = {
        name: "#" + "".join(c * 2 for c in v[1:]) if len(v) == 4 else v for t in themes[2:] for name, v in t.items()
    }
    return [themes[0], themes[1], full]


def test_every_text_colour_has_a_contrast_of_at_least_4_5_to_1_on_every_ground():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for theme in tokens():
        for ground in ("paper", "card", "faint"):
            for text in ("ink", "soft", "better", "worse", "undecided"):
                assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground, theme[text], theme[ground])


def test_the_page_is_made_from_data_json_and_from_nothing_else(page):
    assert render(json.loads((page.parent / "data.json").read_text())) == page.read_text()


def test_the_same_night_gives_the_same_page(page, tmp_path):
    night = usual(tmp_path / "again")
    assert write_morning(night.lab, now=night.now).read_bytes() == page.read_bytes()


def test_the_page_names_nothing_outside_itself_but_links(page):
    for tag, attributes in Tags(page.read_text()).found:
        for name in ("src", "srcset", "poster", "data", "background", "action"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        if "href" in attributes:
            assert re.match(r"#|\.\./\.\./runs/|data\.json$|log\.md$|data:,$", attributes["href"]), attributes
    assert page.stat().st_size <= LARGEST


def test_the_policy_forbids_everything_but_its_own_style_and_script(page):
    policy = next(
        a["content"] for t, a in Tags(page.read_text()).found if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_hostile_names_are_text(tmp_path):
    night = hostile(tmp_path)
    page = write_morning(night.lab, now=night.now)
    text = page.read_text()
    tags = Tags(text).found
    assert sum(tag == "script" for tag, _ in tags) == 1
    assert sum(tag == "style" for tag, _ in tags) == 1
    assert not any(attributes.get("src") == "x" for _, attributes in tags)
    assert not any("onerror" in attributes for _, attributes in tags)
    assert "&lt;img src=x onerror=" in text
    assert "etc/passwd" not in text
    assert "javascript:" not in text
    log = (page.parent / "log.md").read_text()
    assert "<img" not in re.sub(r"\\<img", "", log)


def test_everything_that_opens_plays_or_leads_is_reached_by_the_keyboard(page):
    focusable = {"a", "button", "summary", "audio"}
    for tag, attributes in Tags(page.read_text()).found:
        if tag in focusable:
            assert attributes.get("tabindex") != "-1"
        if tag == "a":
            assert "href" in attributes
        if tag == "audio":
            assert "controls" in attributes  # a player works with scripts off


def test_a_colour_never_stands_alone(page):
    """Wherever a verdict is coloured, its sign or its word is in the same text."""
    signs = {"better": "\u25b2", "worse": "\u25bc", "undecided": "\u25c6"}
    data = data_of(page)
    text = page.read_text()
    for row in data["runs"]:
        if row["against"]:
            tone = row["against"]["verdict"]
            part = text[text.index(f'id="run-{row["number"]}"') :]
            assert signs[tone] in part[: part.index("</summary>")]


slow = pytest.mark.slow
chromium = pytest.mark.skipif(browser.CHROMIUM is None, reason="there is no Chromium here")


@slow
@chromium
def test_in_a_browser_nothing_is_fetched_nothing_complains_and_the_keys_work(page, tmp_path):
    with browser.browser(tmp_path / "profile") as tab:
        tab.open(page)
        assert tab.fetched() == [page.as_uri()]
        assert tab.complaints() == []
        # A finding's mark on the curve opens the row that explains it.
        tab.ask("location.hash = document.querySelector('svg a').getAttribute('href')")
        _until(tab, "document.querySelector('details.run:has(li:target)').open")
        # k plays; 2 is the next column at the same moment; l the next item.
        playing = "[...document.querySelectorAll('audio')].findIndex((sound) => !sound.paused)"
        tab.press("k")
        _until(tab, f"{playing} === 0 && document.querySelector('audio').currentTime > 0.3")
        tab.press("2")
        _until(tab, f"{playing} === 1 && document.querySelectorAll('audio')[1].currentTime > 0.25")
        columns = tab.ask("document.querySelector('.item').querySelectorAll('audio').length")
        tab.press("l")
        _until(tab, f"{playing} === {columns + 1}")
        tab.press("j")
        tab.press("k")
        _until(tab, f"{playing} === -1")
        tab.press("9")
        assert tab.fetched() == [page.as_uri()]
        assert tab.complaints() == []


@slow
@chromium
@pytest.mark.parametrize("width", [320, 390, 1440])
def test_no_width_scrolls_sideways(page, tmp_path, width):
    with browser.browser(tmp_path / "profile") as tab:
        tab.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        tab.open(page)
        tab.ask("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert tab.ask("document.documentElement.scrollWidth") <= width


@slow
@chromium
def test_in_a_browser_hostile_names_do_nothing(tmp_path):
    night = hostile(tmp_path / "lab")
    page = write_morning(night.lab, now=night.now)
    with browser.browser(tmp_path / "profile") as tab:
        tab.open(page)
        assert tab.ask("document.title").startswith("daybreak, ")
        assert tab.complaints() == []
        assert tab.fetched() == [page.as_uri()]


@slow
@chromium
def test_with_scripts_off_it_still_reads_and_plays(page, tmp_path):
    with browser.browser(tmp_path / "profile") as tab:
        tab.call("Emulation.setScriptExecutionDisabled", value=True)
        tab.open(page)
        root = tab.call("DOM.getDocument")["root"]["nodeId"]
        sounds = tab.call("DOM.querySelectorAll", nodeId=root, selector="audio[controls]")["nodeIds"]
        assert len(sounds) > 10
        shown = tab.call("DOM.getBoxModel", nodeId=sounds[0])["model"]
        assert shown["width"] > 100
        assert shown["height"] > 20
        button = tab.call("DOM.querySelector", nodeId=root, selector=".cell button")["nodeId"]
        style = tab.call("DOM.getAttributes", nodeId=button)["attributes"]
        assert "hidden" in style


def _until(tab, condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not tab.ask(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.05)
