"""The exported page of a model, from the kiosk's own server: that one file of each model on the screen, and no other.

It knows paths and headers; what a request names is looked up among the models and never opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

from starlette.responses import FileResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from daybreak.lab.registry import page_of
from daybreak.lab.ship.named import Named

PLACE = "/page/"
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob:; style-src 'unsafe-inline'; "
    "img-src data: blob:; media-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""What the page's own policy says, which may fetch nothing; and it stands in no frame but the kiosk's."""


def address(named: Named) -> str:
    """Where a model's page is."""
    return f"{PLACE}{named.slug}"


def page(named: Named) -> Path | None:
    """The page of the version that answers now; None where it has none."""
    return page_of(named.current.path)


class Pages:
    """Answers what lies under /page/, and hands everything else on."""

    def __init__(self, app: ASGIApp, models: Sequence[Named], known: Callable[[Mapping[str, str]], bool]) -> None:
        """
        Args:
            app: what answers the rest.
            models: the models on the screen.
            known: whether a visitor with these cookies has logged in.
        """
        self.app, self.known = app, known
        self.models = {address(named): named for named in models}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PLACE):
            return await self.app(scope, receive, send)
        named = self.models.get(scope["path"])
        found = page(named) if named is not None else None
        answer: FileResponse | PlainTextResponse
        if scope["method"] not in ("GET", "HEAD"):
            answer = PlainTextResponse("a page is read by GET", 405)
        elif not self.known(cookies(scope)):
            answer = PlainTextResponse("log in first", 401)
        elif named is None or found is None:
            answer = PlainTextResponse("there is no such page", 404)
        else:
            # It begins with a byte order mark, and is UTF-16: see `ship.page`.
            answer = FileResponse(found, media_type="text/html; charset=utf-16")
            answer.headers["content-security-policy"] = POLICY
        answer.headers["cache-control"] = "no-cache"
        answer.headers["x-content-type-options"] = "nosniff"
        await answer(scope, receive, send)


def cookies(scope: Scope) -> dict[str, str]:
    """The cookies of a request."""
    jar: SimpleCookie = SimpleCookie()
    for name, value in scope["headers"]:
        if name == b"cookie":
            try:
                jar.load(value.decode("latin-1"))
            except CookieError:
                continue
    return {key: held.value for key, held in jar.items()}
