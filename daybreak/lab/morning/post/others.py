"""Every service behind an address, and what it is sent: Teams and OneNote by our own hand, the rest through apprise.

What apprise does was looked at on the wire. Three things of it are worked around here: a webhook of Slack takes no file
though the class says so; Discord's title counts among its 2000 letters; with an access token Matrix gets the file and
the words under one transaction id, of which a server keeps the first, so they go apart.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apprise

from daybreak.errors import UserError
from daybreak.lab.morning.post import onenote, teams
from daybreak.lab.morning.post.wire import LIMIT, Partly, Refused, patience
from daybreak.lab.morning.post.words import Message, discord, letter

SMTP = 30.0
"""Seconds for each word of a mail server."""
DISCORD = 10_000_000
"""Bytes of a file that a Discord server without boosts takes."""
Send = Callable[[Path, Mapping[str, Any], Message, Path, Callable[[str], None] | None], str]


@dataclass(frozen=True)
class Service:
    """Something that takes a morning."""

    name: str
    send: Send
    """Sends it and tells what was sent. Raises `Refused` and `UserError`."""


def known(address: str, name: str) -> Service:
    """The service behind an address. Raises `UserError` without showing the address."""
    kind = re.match(r"[a-z0-9+.-]+", address.lower())
    scheme = kind[0] if kind else "no"
    if scheme == "onenote":
        onenote.notebook(address)
        return Service(
            "OneNote", lambda page, data, told, place, say: onenote.send(address, page, data, told, place, say)
        )
    if teams.is_webhook(address):
        return Service("Teams", lambda page, data, told, place, say: teams.send(address, told))
    service = apprise.Apprise.instantiate(address)
    if service is None:
        raise UserError(f"an address of {name!r} is none that apprise knows ({scheme}://...)")
    if scheme in ("workflow", "workflows"):
        webhook = teams.webhook(service)
        return Service("Teams", lambda page, data, told, place, say: teams.send(webhook, told))
    return Service(str(service.service_name), lambda page, data, told, place, say: _send(address, page, data, told))


def _send(address: str, page: Path, data: Mapping[str, Any], told: Message) -> str:
    """Through apprise. What was sent, in words."""
    service: Any = apprise.Apprise.instantiate(address)
    kind = type(service).__name__
    takes = bool(service.attachment_support) and not (kind == "NotifySlack" and service.mode != "bot")
    size = page.stat().st_size
    large = takes and kind == "NotifyDiscord" and size > DISCORD
    form, room = apprise.NotifyFormat.TEXT, int(service.body_maxlen)
    plain: Callable[[str], str] = str
    if kind == "NotifyDiscord":
        plain, room = discord, room - len(told.title) - 2
    fitted = told.fitted(lambda one: len(one.text(plain)), room)
    body = fitted.text(plain)
    if kind in ("NotifyEmail", "NotifyMatrix"):
        form, body = apprise.NotifyFormat.HTML, letter(data, fitted)
    words = "the words" if not fitted.cut else "a part of the words, which says so,"
    if kind == "NotifyMatrix":
        _notify(service, told.title, body, form, None)
        try:
            again = apprise.Apprise.instantiate(address)
            _notify(again, "", "The whole page, as a file.", apprise.NotifyFormat.TEXT, page)
        except Refused as error:
            raise Partly(f"took {words} and a link; it did not take the page: {error}") from None
        return f"{words} and the page"
    _notify(service, told.title, body, form, page if takes and not large else None)
    if large:
        return f"{words} and a link; the page is larger than the {DISCORD // 10**6} MB that it takes"
    return f"{words} and {'the page' if takes else 'a link'}"


def _notify(service: Any, title: str, body: str, form: Any, page: Path | None) -> None:
    """One message. Raises `Refused` with what was sent all the same."""
    service.socket_connect_timeout, service.socket_read_timeout = LIMIT
    if type(service).__name__ == "NotifyEmail":
        service.socket_connect_timeout = SMTP  # smtplib has one limit for everything
    capture: Any = apprise.LogCapture
    with capture(level=logging.DEBUG, fmt="%(levelname)s %(message)s") as log, patience() as heard:
        sent = service.notify(
            body=body, title=title, body_format=form, attach=apprise.AppriseAttachment(str(page)) if page else None
        )
        lines = log.getvalue().splitlines()
    if sent:
        return
    why = heard[-1] if heard else _said(lines)
    if page is not None and any(line.startswith("INFO Sent ") for line in lines):
        raise Partly(f"took the words and a link; it did not take the page: {why}")
    raise Refused(why)


def _said(lines: list[str]) -> str:
    """Why apprise failed where no HTTP did: what the socket said, else its own warning."""
    for mark in ("DEBUG Socket Exception: ", "WARNING ", "ERROR "):
        for line in reversed(lines):
            if line.startswith(mark):
                return line.removeprefix(mark)
    return "apprise says no more"
