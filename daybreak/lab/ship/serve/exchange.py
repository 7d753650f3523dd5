"""Bytes in and out within bounds of size and time: bodies, answers in pieces, streams of events, readers that leave.

It knows ASGI messages; it knows nothing about models.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from daybreak.lab.ship.serve.wire import EVENTS, JSON, Refused

T = TypeVar("T")
PIECE = 64 * 1024
"""Bytes sent at once: the next piece waits until the client took what is before it."""
DRAINED = 2.0
"""Seconds for which what was refused is still read, so that the client reads its answer before its pipe breaks."""


class Gone(Exception):
    """The client went away; nobody reads an answer."""


class Held:
    """Bytes of bodies that are held at once, over all requests."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.now = 0

    def more(self, count: int) -> None:
        """Hold more bytes, or raise `Refused`."""
        if self.now + count > self.most:
            raise Refused(503, "too many large requests at once; try again", Retry_After="2")
        self.now += count

    def less(self, count: int) -> None:
        """They are free again."""
        self.now -= count


async def body(request: Request, most: int, patience: float, held: Held) -> bytes:
    """A request's whole body. The caller gives its bytes back to `held`.

    Raises `Refused`: 413 above `most` bytes, before the rest is read; 408 where it does not arrive within `patience`
    seconds. Raises `Gone` where the client leaves in the middle.
    """
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > most:
        raise Refused(413, f"the request has {int(said):,} bytes; at most {most:,} are read", Connection="close")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(patience):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                part = message.get("body", b"")
                if size + len(part) > most:
                    raise Refused(413, f"the request has more than {most:,} bytes", Connection="close")
                held.more(len(part))
                size += len(part)
                parts.append(part)
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        held.less(size)
        raise Refused(408, f"the request did not arrive within {patience:g} s", Connection="close") from None
    except BaseException:
        held.less(size)
        raise


async def watched(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; it is cancelled, and `Gone` raised, where the client leaves before."""
    task = asyncio.ensure_future(work)
    leaves = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({task, leaves}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Gone
    finally:
        for one in (task, leaves):
            if not one.done():
                one.cancel()
        await asyncio.gather(task, leaves, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Whole(Response):
    """An answer in one piece of JSON, sent in pieces no faster than it is taken."""

    def __init__(self, body: bytes, headers: Mapping[str, str], release: Callable[[], None], patience: float) -> None:
        super().__init__(body, headers=dict(headers), media_type=JSON)
        self.release, self.patience = release, patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send, and give the place back however it ends."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            whole = bytes(self.body)
            for at in range(0, max(1, len(whole)), PIECE):
                piece = whole[at : at + PIECE]
                message = {"type": "http.response.body", "body": piece, "more_body": at + PIECE < len(whole)}
                async with asyncio.timeout(self.patience):
                    await send(message)
        finally:
            self.release()


class Events(Response):
    """Server-sent events: a line of JSON each, then an event "end", or an event "error" with its line."""

    def __init__(
        self, events: AsyncIterator[bytes], headers: Mapping[str, str], release: Callable[[], None], patience: float
    ) -> None:
        super().__init__(headers=dict(headers), media_type=EVENTS)
        del self.headers["content-length"]
        self.events, self.release, self.patience = events, release, patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send each event as it comes; a reader that leaves ends the stream."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await watched(receive, self._all(send))
        except Gone:
            return
        finally:
            self.release()

    async def _all(self, send: Send) -> None:
        try:
            async for event in self.events:
                await self._piece(send, b"data: " + event + b"\n\n")
            last = b"event: end\ndata: {}\n\n"
        except Refused as error:
            last = b"event: error\ndata: " + wrong(str(error)) + b"\n\n"
        await self._piece(send, last)
        await send({"type": "http.response.body", "body": b""})

    async def _piece(self, send: Send, piece: bytes) -> None:
        async with asyncio.timeout(self.patience):
            await send({"type": "http.response.body", "body": piece, "more_body": True})


class Refusal(Response):
    """One line of JSON: {"error": ...}. Where the connection is to close, the rest of the request is thrown away."""

    def __init__(self, error: Refused) -> None:
        super().__init__(wrong(str(error)), error.status, error.headers, JSON)
        self.closes = "Connection" in error.headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the whole line before the connection closes."""
        if not self.closes:
            return await super().__call__(scope, receive, send)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        try:
            async with asyncio.timeout(DRAINED):
                while (message := await receive())["type"] != "http.disconnect" and message.get("more_body"):
                    pass
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b""})


def wrong(said: str) -> bytes:
    """The JSON of a refusal."""
    import json

    return json.dumps({"error": said}, ensure_ascii=False).encode()
