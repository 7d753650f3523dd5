"""The kiosk's server: Gradio behind a policy that lets a page fetch from here alone.

It knows servers; it draws nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import tomllib
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import date
from importlib.resources import files
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daybreak.errors import UserError
from daybreak.lab.home import Lab
from daybreak.lab.ship.kiosk import feedback
from daybreak.lab.ship.kiosk.pages import Pages
from daybreak.lab.ship.kiosk.screen import Kiosk, Screen, Settings, head
from daybreak.lab.ship.serve.guard import Guard
from daybreak.lab.ship.serve.measures import Log, Measures

POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' ws: data: blob:; frame-ancestors 'none'; form-action 'self'"
)
"""A page that can fetch nothing from elsewhere, whatever the library in it would like."""
LARGEST = "64mb"
DAY = 24 * 3600


def settings(lab: Lab | None) -> Settings:
    """What kiosk.toml in the lab's folder says. Raises `UserError`."""
    path = lab.root / "kiosk.toml" if lab is not None else None
    if path is None or not path.exists():
        return Settings()
    try:
        told: dict[str, Any] = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error
    from pydantic import TypeAdapter, ValidationError

    from daybreak.errors import nearest

    known = list(Settings.__dataclass_fields__)
    if unknown := [name for name in told if name not in known]:
        raise UserError(f"{path}: unknown name {unknown[0]!r}; {nearest(unknown[0], known)}")
    try:
        return TypeAdapter(Settings).validate_python(told)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def application(kiosk: Kiosk, secret: str = "") -> ASGIApp:
    """The ASGI application. With a token a visitor logs in as "kiosk" with it."""

    @contextlib.asynccontextmanager
    async def expiring(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(_expire(kiosk))
        yield
        task.cancel()

    screen = Screen(kiosk)
    screen.blocks.queue(max_size=32, api_open=False)
    room = files("daybreak.lab.ship.kiosk")
    app = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=expiring), screen.blocks, path="",
        auth=("kiosk", secret) if secret else None, allowed_paths=[], show_error=False, max_file_size=LARGEST,
        ssr_mode=False, enable_monitoring=False, footer_links=[], pwa=False, mcp_server=False,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]).set(
            # 4.5 to 1 and more: Gradio's own grey is 2.5 to 1.
            block_info_text_color="*neutral_600", body_text_color_subdued="*neutral_600",
            block_info_text_color_dark="*neutral_300", body_text_color_subdued_dark="*neutral_300",
            block_info_text_size="*text_md", block_label_text_size="*text_md",
        ),
        css=(room / "kiosk.css").read_text(), head=head(kiosk),
    )  # fmt: skip
    inside: Any = app.routes[-1].app  # Gradio's own application, which knows who has logged in
    names = [f"access-token{kind}-{inside.cookie_id}" for kind in ("", "-unsecure")]

    def known(held: Mapping[str, str]) -> bool:
        return not secret or any(held.get(name) in inside.tokens for name in names if name in held)

    served = Pages(_Policy(app), kiosk.models, known)
    return served if secret else Guard(served, "", Log(lambda line: None), Measures())


def run(kiosk: Kiosk, at: socket.socket, ready: Callable[[], None], secret: str = "") -> None:
    """Serve until SIGTERM or SIGINT."""
    from daybreak.lab.ship.serve.run import _Server

    for name in ("uvicorn", "uvicorn.error", "httpx"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    config = uvicorn.Config(
        application(kiosk, secret), http="h11", ws="websockets-sansio", log_config=None, access_log=False,
        server_header=False, timeout_graceful_shutdown=2,
    )  # fmt: skip
    _Server(config, ready).run(sockets=[at])


async def _expire(kiosk: Kiosk) -> None:
    """Once a day, what visitors gave for a time goes when the time is over."""
    while True:
        if kiosk.lab is not None:
            gone = await asyncio.to_thread(feedback.expire, kiosk.lab, date.today())
            if gone:
                kiosk.say(f"{gone} items of feedback were removed: their time is over")
        await asyncio.sleep(DAY)


class _Policy:
    """Adds the Content-Security-Policy to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, sent)
