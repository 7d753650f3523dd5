"""The server: a port, a loop, and the end of both. It knows uvicorn; it knows nothing about models."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from daybreak.errors import UserError
from daybreak.lab.ship.serve.app import Limits, Service

CONNECTIONS = 1000
"""At once; more are told 503."""
KEEP = 15
"""Seconds for which a connection without a request stays open."""


def bound(host: str, port: int, patience: float = 20.0) -> socket.socket:
    """A listening socket. Raises `UserError` where the port is in use or the host is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # of a client that takes nothing, in ms; connections inherit it
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(patience * 1000))
    try:
        made.bind((host, port))
        made.listen(1024)
    except (OSError, OverflowError) as error:
        made.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"cannot listen on {host} port {port}: {reason}; --port names another, 0 any free one"
        ) from None
    return made


def run(service: Service, at: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT; requests that are inside are answered first."""
    sys.setswitchinterval(0.001)  # the loop gets its turn also beside an action in pure Python
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # it would write what it was asked; we write our own lines
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    _Server(config(service), ready).run(sockets=[at])


def config(service: Service) -> uvicorn.Config:
    """How the server runs."""
    limits = service.limits
    return uvicorn.Config(
        service.app(), http=protocol(limits), ws="websockets-sansio", lifespan="on", log_config=None,
        access_log=False, server_header=False, timeout_keep_alive=KEEP, limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=int(limits.seconds) + 1, ws_max_size=limits.megabytes * 2**20, ws_max_queue=2,
    )  # fmt: skip


def protocol(limits: Limits) -> type[H11Protocol]:
    """HTTP/1.1 that waits for the head of a request only so long: uvicorn itself would wait for ever."""

    class Patient(H11Protocol):
        waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            super().data_received(data)
            if self.cycle is not before or (self.cycle is not None and not self.cycle.response_complete):
                self._wait(stop=True)
            elif self.waiting is None:
                self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._wait(stop=True)
            super().connection_lost(exc)

        def _wait(self, stop: bool = False) -> None:
            if self.waiting is not None:
                self.waiting.cancel()
                self.waiting = None
            if not stop:
                self.waiting = self.loop.call_later(limits.patience, self._late)

        def _late(self) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()

    return Patient


class _Server(uvicorn.Server):
    """Says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()
