"""Microsoft OneNote, through Microsoft Graph: a page of its own for each morning, with charts and the page as a file.

OneNote shows no script and no SVG, so what it gets is the letter: words, tables, and the curves as PNG. Sources:
Graph's "Create page" (POST .../onenote/sections/{id}/pages, multipart/form-data with a part "Presentation"), "Add
images, videos, and files to OneNote pages", "Input and output HTML", "OneNote API error codes".

An address is onenote://TENANT/CLIENT/SECTION. TENANT is a directory's id or name, "organizations" or "consumers";
CLIENT the id of an application that the team registered as a public client with the delegated permission
Notes.ReadWrite; SECTION a section's name or id. `?group=ID` or `?site=ID` names a team's notebook
(Notes.ReadWrite.All); `?login=` and `?graph=` name other clouds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from daybreak.errors import UserError, nearest
from daybreak.lab.morning.post import charts
from daybreak.lab.morning.post.signin import access
from daybreak.lab.morning.post.wire import Refused, ask
from daybreak.lab.morning.post.words import Message, letter, made

FORM = "onenote://TENANT/CLIENT/SECTION"
LOGIN, GRAPH = "https://login.microsoftonline.com", "https://graph.microsoft.com/v1.0"
MOST = 4_000_000
"""Bytes of a request: Graph refuses more than 4 MB with 413 before OneNote sees it."""
LARGEST = 25_000_000
"""Bytes of one part, as OneNote says. `MOST` is reached before."""


@dataclass(frozen=True)
class Notebook:
    """Where pages go."""

    tenant: str
    client: str
    section: str
    whose: str
    """The beginning of the path: me, groups/ID, sites/ID."""
    login: str
    graph: str

    @property
    def scope(self) -> str:
        """What is asked for at the sign-in: to write notes, and to come back without one."""
        return f"{'Notes.ReadWrite' if self.whose == 'me' else 'Notes.ReadWrite.All'} offline_access"


def notebook(address: str) -> Notebook:
    """What an address says. Raises `UserError` without showing it."""
    parts = urlsplit(address)
    names = [unquote(part) for part in (parts.netloc, *parts.path.strip("/").split("/"))]
    told = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    if len(names) != 3 or not all(names) or {"group", "site"} <= set(told):
        raise UserError(f"an address of OneNote is {FORM}, and may end with ?group=ID or ?site=ID")
    if unknown := [key for key in told if key not in ("group", "site", "login", "graph")]:
        raise UserError(f"an address of OneNote has no {unknown[0]!r}; {nearest(unknown[0], ['group', 'site'])}")
    whose = f"groups/{told['group']}" if "group" in told else f"sites/{told['site']}" if "site" in told else "me"
    tenant, client, section = names
    return Notebook(tenant, client, section, whose, told.get("login", LOGIN), told.get("graph", GRAPH))


def send(
    address: str, page: Path, data: Mapping[str, Any], told: Message, place: Path, say: Callable[[str], None] | None
) -> str:
    """Make the page. What was sent, in words. Raises `Refused` and `UserError`."""
    to = notebook(address)
    token = access(place, to.login, to.tenant, to.client, to.scope, say)
    head = {"Authorization": f"Bearer {token}"}
    base = f"{to.graph.rstrip('/')}/{to.whose}/onenote"
    section = _section(base, to.section, head)
    parts, sent = pages(page, data, told)
    ask("POST", f"{base}/sections/{quote(section)}/pages", files=parts, headers=head)
    return sent


def pages(page: Path, data: Mapping[str, Any], told: Message) -> tuple[dict[str, tuple[str | None, bytes, str]], str]:
    """The parts of the request, and what they are in words. The page goes along where it fits into the limit."""
    drawn = charts.charts(data)
    parts = {f"chart{n}": (f"chart{n}.png", png, "image/png") for n, png in enumerate(drawn.values(), 1)}
    pictures = {what: f"name:chart{n}" for n, what in enumerate(drawn, 1)}
    whole = page.read_bytes()
    room = MOST - sum(len(png) for _, png, _ in parts.values()) - 100_000  # for the words and the parts' heads
    if len(whole) <= room:
        name = f"daybreak-{data['date']}.html"
        parts["page"] = (name, whole, "text/html")
        more = f'<object data-attachment="{escape(name)}" data="name:page" type="text/html" />'
        sent = "a page of words, charts and the whole page as a file"
    else:
        more = "<p>The whole page is larger than what OneNote takes at once: it is not here, the link leads to it.</p>"
        sent = "a page of words and charts and a link; the whole page is larger than OneNote takes at once"
    html = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><title>{escape(told.title)}</title>'
        f'<meta name="created" content="{made(data)}" /></head>\n'
        f"<body>\n{letter(data, told, pictures, more)}\n</body>\n</html>"
    )
    return {"Presentation": (None, html.encode(), "application/xhtml+xml"), **parts}, sent


def _section(base: str, wanted: str, head: Mapping[str, str]) -> str:
    """The id of a section that is named. An id begins with a number and a dash: "1-8b3a..."."""
    number, _, rest = wanted.partition("-")
    if number.isdecimal() and rest:
        return wanted
    told: dict[str, Any] = ask(
        "GET", f"{base}/sections", params={"$select": "id,displayName", "$top": "100"}, headers=head
    ).json()
    found = {str(one["displayName"]): str(one["id"]) for one in told.get("value", ())}
    for name, id_ in found.items():
        if name.casefold() == wanted.casefold():
            return id_
    raise Refused(f"there is no section {wanted!r}; {nearest(wanted, found)}")
