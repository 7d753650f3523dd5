"""An action over a WebSocket: a message is a request, and its answers come as messages.

{"answer": ..., "version": ...} for each answer, {"end": true} after the last of a stream, {"error": ..., "status": ...}
for a refusal, after which the socket stays open. Closing it cancels what runs. It knows messages; it knows no model.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from daybreak.lab.ship.serve.exchange import Gone, watched
from daybreak.lab.ship.serve.wire import JSON, Refused

if TYPE_CHECKING:
    from daybreak.lab.ship.serve.app import Route, Service

IDLE = 600.0
"""Seconds after which a socket without a message is closed."""


async def talk(service: Service, route: Route, socket: WebSocket) -> None:
    """Answer a socket's messages, one after another, until it closes."""
    await socket.accept()
    box = Box(socket)
    try:
        while True:
            try:
                async with asyncio.timeout(IDLE):
                    body = await box.message()
            except TimeoutError:
                await socket.close(1001, "nothing was asked for ten minutes")
                return
            try:
                await _one(service, route, socket, box, body)
            except Refused as error:
                await _send(service, socket, json.dumps({"error": str(error), "status": error.status}).encode())
    except (Gone, WebSocketDisconnect):
        return


class Box:
    """A socket's messages. Whoever waits for an answer also waits for the reader to leave; a message may come instead.

    One message is kept for later; more stay with the server, which stops reading.
    """

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.kept: bytes | None = None

    async def message(self) -> bytes:
        """The next message. Raises `Gone`."""
        if self.kept is not None:
            body, self.kept = self.kept, None
            return body
        return _body(await self.socket.receive())

    async def receive(self) -> dict[str, Any]:
        """For `watched`: returns when the reader left."""
        if self.kept is None:
            message = await self.socket.receive()
            if message["type"] == "websocket.disconnect":
                return {"type": "http.disconnect"}
            self.kept = _body(message)
        await asyncio.Event().wait()
        raise AssertionError


async def _one(service: Service, route: Route, socket: WebSocket, box: Box, body: bytes) -> None:
    if len(body) > route.most:
        raise Refused(413, f"the request has {len(body):,} bytes; at most {route.most:,} are read")
    route.worker.take()
    try:
        service.held.more(len(body))
        try:
            await watched(box.receive, _answers(service, route, socket, body))
        finally:
            service.held.less(len(body))
    finally:
        route.worker.give_back()


async def _answers(service: Service, route: Route, socket: WebSocket, body: bytes) -> None:
    first = await route.worker.ask(
        route.wire, body, JSON, service.limits.seconds, client=socket.client.host if socket.client else ""
    )
    socket.scope["daybreak"].update(version=first.title)
    version = json.dumps(first.title).encode()
    if not route.action.streams:
        await _send(service, socket, b'{"version": ' + version + b', "answer": ' + first.body + b"}")
        return
    events = service.events(route, first)
    try:
        async for event in events:
            await _send(service, socket, b'{"version": ' + version + b', "answer": ' + event + b"}")
    finally:
        await events.aclose()  # type: ignore[attr-defined]
    await _send(service, socket, b'{"version": ' + version + b', "end": true}')


async def _send(service: Service, socket: WebSocket, message: bytes) -> None:
    async with asyncio.timeout(service.limits.patience):
        await socket.send_text(message.decode())


def _body(message: Any) -> bytes:
    if message["type"] == "websocket.disconnect":
        raise Gone
    data = message.get("bytes")
    return data if data is not None else (message.get("text") or "").encode()
