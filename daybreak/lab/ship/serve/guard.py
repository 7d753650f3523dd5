"""Who may come in: the token, the host, the origin; and what is written down about each request.

An ASGI layer around everything else. It knows headers; it knows nothing about models.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daybreak.errors import UserError
from daybreak.lab.ship.serve.exchange import Gone, Refusal
from daybreak.lab.ship.serve.measures import Log, Measures
from daybreak.lab.ship.serve.wire import Refused

VARIABLE = "DAYBREAK_TOKEN"
OPEN = ("/healthz", "/readyz")
"""What a load balancer may ask without a token."""
LOCAL = ("localhost", "127.0.0.1", "[::1]")
SHORTEST = 16
"""Letters of a token."""
SAFE = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


def token(file: Path | None, host: str) -> str:
    """The token of DAYBREAK_TOKEN or of a file that its owner alone may read; "" for none, which loopback may have.

    Raises `UserError` for a file that others may read, a token that is too short, and none off loopback.
    """
    found = os.environ.get(VARIABLE, "").strip()
    if file is not None:
        try:
            if stat.S_IMODE(file.stat().st_mode) & 0o077:
                raise UserError(f"{file} can be read by others; chmod 600 {file}")
            found = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the token in {file}: {getattr(error, 'strerror', '') or error}") from error
    if found and (len(found) < SHORTEST or not found.isascii() or not found.isprintable()):
        raise UserError(f"a token has at least {SHORTEST} printable ASCII letters")
    if not found and host not in ("127.0.0.1", "::1", "localhost"):
        raise UserError(
            f"{host} can be reached from elsewhere, which needs a token: set {VARIABLE}, or --token-file FILE"
        )
    return found


class Guard:
    """Lets in who may, refuses who may not, and writes a line about both."""

    def __init__(self, app: ASGIApp, token: str, log: Log, measures: Measures) -> None:
        self.app, self.token, self.log, self.measures = app, token, log, measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or one socket."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        began, id = time.perf_counter(), secrets.token_hex(8)
        about: dict[str, Any] = {}
        scope["daybreak"] = about
        seen = {"status": 0, "out": 0}

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = id
                for name, value in SAFE.items():
                    headers.setdefault(name, value)
            seen["out"] += len(message.get("body", b"") or b"")
            await send(message)

        try:
            if said := self._no(scope):
                await self._refuse(scope, receive, sent, said)
            else:
                await self.app(scope, receive, sent)
        except (Gone, TimeoutError, OSError):  # the client left, or takes nothing: the server closes its connection
            seen["status"] = seen["status"] or 499
            about["gone"] = True
        except Exception as error:
            about["failed"] = type(error).__name__
            if seen["status"] or scope["type"] != "http":
                raise
            await self._refuse(scope, receive, sent, Refused(500, "the service failed inside; its log says where"))
        finally:
            self._write(scope, id, seen, about, time.perf_counter() - began)

    def _no(self, scope: Scope) -> Refused | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        origin = headers.get("origin", "")
        if origin and origin.partition("://")[2] != host:
            # A page from elsewhere in the user's own browser: loopback alone would let it in.
            return Refused(403, "a page from another origin may not ask")
        if self.token:
            kind, _, given = headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(given.strip().encode(), self.token.encode()) and kind.lower() == "bearer"
            if not right and scope["path"] not in OPEN:
                return Refused(401, "a token is needed: Authorization: Bearer TOKEN", WWW_Authenticate="Bearer")
        elif (host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host).lower() not in LOCAL:
            # A name that resolves to loopback (DNS rebinding) is somebody else's name.
            return Refused(403, "ask by localhost or 127.0.0.1")
        return None

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, error: Refused) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": str(error)[:100]})
            return
        await Refusal(error)(scope, receive, send)

    def _write(self, scope: Scope, id: str, seen: Mapping[str, int], about: Mapping[str, Any], seconds: float) -> None:
        """A line and a count. Of an address that is no route nothing is written: its words are the caller's."""
        model, action = about.get("model", ""), about.get("action", "")
        if model:
            self.measures.requests.labels(model, action, str(seen["status"])).inc()
            self.measures.seconds.labels(model, action).observe(seconds)
        if scope.get("path") in OPEN:
            return
        method = scope.get("method", "WEBSOCKET")
        self.log(
            "request", id=id, method=method if len(method) < 10 else "-", status=seen["status"],
            ms=round(1000 * seconds, 2), out=seen["out"], **about,
        )  # fmt: skip
