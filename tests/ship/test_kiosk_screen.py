"""The kiosk in a browser: by keyboard alone, on a phone, in both languages, with a model's own page in it."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from pathlib import Path

import pytest
from serving import version
from test_kiosk import paged

sys.path.append(str(Path(__file__).parent.parent / "lab"))
import browser

pytest.importorskip("gradio")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(browser.CHROMIUM is None, reason="there is no Chromium here")]

PAGE = "<!doctype html><title>mine</title><button onclick=\"this.textContent = 'pushed'\">push</button>"
SHOWN = "[...document.querySelectorAll('{}')].filter((one) => one.offsetParent)"
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), "a": (65, "a"), "5": (53, "5"), "ArrowDown": (40, "")}


@contextlib.contextmanager
def screen(lab, folder, **settings):
    """A kiosk with one model that has a page, and a tab that shows it."""
    import uvicorn

    from daybreak.lab.ship.kiosk.run import application
    from daybreak.lab.ship.kiosk.screen import Kiosk, Settings
    from daybreak.lab.ship.named import Named
    from daybreak.lab.ship.serve.run import bound

    paged(version(lab, 1), PAGE)
    kiosk = Kiosk(lab, [Named(lab, "toy-server")], Settings(**settings))
    at = bound("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(application(kiosk), ws="websockets-sansio", log_config=None, access_log=False)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [at]}, daemon=True)
    thread.start()
    try:
        with browser.browser(folder) as tab:
            tab.home = f"http://127.0.0.1:{at.getsockname()[1]}/"
            tab.call("Page.navigate", url=tab.home)
            until(tab, "document.querySelectorAll('[role=tab]').length > 3")
            yield tab
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)
        at.close()


def until(tab, condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not tab.ask(f"Boolean({condition})"):
        assert time.monotonic() < end, condition
        time.sleep(0.1)


def press(tab, key):
    """A key as the browser has it from a keyboard: Tab moves, Enter clicks."""
    code, text = KEYS[key]
    about = {"key": key, "windowsVirtualKeyCode": code}
    tab.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **about)
    tab.call("Input.dispatchKeyEvent", type="keyUp", **about)


def tab_to(tab, text, most=60):
    """Go on by the Tab key until what has the focus is called so."""
    for _ in range(most):
        press(tab, "Tab")
        name = tab.ask(
            "((one) => one.getAttribute('aria-label') || one.closest('label')?.textContent || one.textContent)"
            "(document.activeElement)"
        )
        if name.strip().startswith(text):
            return
    raise AssertionError(f"the Tab key never comes to {text!r}")


def choose(tab, name):
    tab.ask(f"{SHOWN.format('[role=tab]')}.find((one) => one.textContent.trim() === '{name}').click()")


def test_by_keyboard_alone_a_model_is_asked_and_no_list_stays_open(lab, tmp_path):
    with screen(lab, tmp_path / "profile") as tab:
        lists = SHOWN.format("[role=listbox]")
        tab_to(tab, "say")
        press(tab, "Enter")
        tab_to(tab, "word")
        until(tab, f"{lists}.length === 1")
        press(tab, "Tab")
        until(tab, f"{lists}.length === 0")
        tab_to(tab, "Try it")
        assert "solid" in tab.ask("getComputedStyle(document.activeElement).outlineStyle")
        press(tab, "Enter")
        until(tab, f"{SHOWN.format('.answer')}.some((one) => one.textContent.includes('toy-server@1'))")
        assert [url for url in tab.fetched() if not url.startswith((tab.home, "blob:"))] == []


@pytest.mark.parametrize("width", [390, 1280])
def test_no_width_scrolls_sideways_and_everything_is_large_enough_for_a_finger(lab, tmp_path, width):
    with screen(lab, tmp_path / "profile") as tab:
        tab.call("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=False)
        until(tab, f"innerWidth === {width}")
        assert tab.ask("document.documentElement.scrollWidth") <= width
        # Gradio keeps copies of its tabs, 1 px high, to measure them.
        small = (
            f"{SHOWN.format('button, input:not([type=file])')}.map((one) => [one, one.getBoundingClientRect()])"
            ".filter(([, box]) => box.height > 1 && Math.min(box.width, box.height) < 24).length"
        )
        until(tab, f"{small} === 0", 10)
        title = tab.ask("((one) => [one.scrollWidth, one.clientWidth])(document.querySelector('#title h1'))")
        assert title[0] <= title[1]


def test_the_language_turns_the_frame_and_tells_readers_of_the_page(lab, tmp_path):
    with screen(lab, tmp_path / "profile") as tab:
        tab.ask("document.querySelector('#language input[value=ko]').click()")
        until(tab, f"{SHOWN.format('[role=tab]')}.some((one) => one.textContent.trim() === '브라우저에서')")
        assert tab.ask("document.documentElement.lang") == "ko"
        assert tab.ask(f"{SHOWN.format('button')}.some((one) => one.textContent.includes('해 보기'))")


def test_a_model_s_page_works_in_its_frame_and_a_touch_there_is_one(lab, tmp_path):
    with screen(lab, tmp_path / "profile", idle=3.0) as tab:
        choose(tab, "In the browser")
        inside = "document.querySelector('iframe.page')?.contentDocument.querySelector('button')"
        until(tab, inside)
        for _ in range(6):  # six seconds of touching, and the screen stays
            tab.ask(
                f"{inside}.dispatchEvent(new (document.querySelector('iframe.page').contentWindow.PointerEvent)"
                "('pointerdown', {bubbles: true}))"
            )
            tab.ask(f"{inside}.click()")
            time.sleep(1)
        assert tab.ask(f"{inside}.textContent") == "pushed"
        assert tab.ask("document.querySelector('.take a').getAttribute('download')") == "toy-server.html"
        until(tab, "document.querySelector('#attract')?.open")  # nobody does any more: it begins anew
        assert tab.ask("document.querySelector('iframe.page')") is None
        press(tab, "a")
        until(tab, "!document.querySelector('#attract')")
