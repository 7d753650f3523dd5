"""`daybreak morning` and `daybreak decide`: writing the daily log, and carrying out what it proposed."""

from __future__ import annotations

import sys

from daybreak.cli.show import clean, say, table, to_json
from daybreak.lab.home import Lab


def morning(*, date: str = "", open: bool = False, post: str = "", json: bool = False) -> None:
    """Write the page of the night: index.html, log.md and data.json in the lab's daily folder.

    Args:
        date: the local date on which the night ended, as 2026-11-22; today by default.
        open: show it in a browser.
        post: send it to this name, as teams or onenote; DAYBREAK_POST_<NAME> or post.toml has its address.
        json: print the data of the page, without its sounds and pictures.
    """
    from daybreak.lab.morning import data_of, parse_date, write_morning

    page = write_morning(Lab.open(), parse_date(date))
    data = data_of(page)
    if json:
        print(to_json({key: value for key, value in data.items() if key != "media"}))
    else:
        for sentence in data["verdict"]:
            say(sentence["text"])
        for proposal in data["proposals"]:
            if proposal["state"] == "open":
                say(f"  {proposal['command']}  {proposal['text']}")
        print(clean(str(page)))
    if open:
        _show(page.as_uri())
    if post:
        from daybreak.lab.morning.post import post as send

        for line in send(page, data, post, say if sys.stdin.isatty() else None):
            say(line)


def decide(*ids: str, by: str = "", json: bool = False) -> None:
    """Carry out what a morning proposed: queue, register, promote, drop. Twice does nothing twice.

    Args:
        ids: the short ids on the page, such as 3f2 9a1.
        by: your name; else the account's.
        json: print JSON.
    """
    from daybreak.errors import UserError
    from daybreak.lab.morning import decide as carry_out

    if "--help" in ids or "-h" in ids:
        from daybreak.cli.front import show_help

        return show_help(decide, "decide")
    if not ids:
        raise UserError("decide: name what to decide by the ids on the page, as in: daybreak decide 3f2")
    table(carry_out(Lab.open(), ids, by), ["id", "state", "text", "result"], json=json)


def _show(address: str) -> None:
    """Open a page where there is a screen; say where it is where there is none."""
    import webbrowser

    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        say(f"there is no browser here; the page is {address}")
        return
    browser.open(address)
