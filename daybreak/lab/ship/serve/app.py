"""The service: a route an action, from the types of the models that are served.

It joins connections (exchange), the models' threads (worker) and names that are followed (named), and owns none.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, WebSocket
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from daybreak.errors import nearest
from daybreak.lab.model import Action
from daybreak.lab.ship.named import Named
from daybreak.lab.ship.serve import exchange
from daybreak.lab.ship.serve.describe import document, page
from daybreak.lab.ship.serve.exchange import Events, Gone, Refusal, Whole, watched
from daybreak.lab.ship.serve.guard import Guard
from daybreak.lab.ship.serve.measures import Log, Measures
from daybreak.lab.ship.serve.socket import talk
from daybreak.lab.ship.serve.wire import FORM, JSON, Refused, Wire
from daybreak.lab.ship.serve.worker import Answer, Worker
from daybreak.lab.ship.standing.served import Recorder

VERSION = "Daybreak-Model"
"""The header that says which version answered."""
LOOK = 0.2
"""Seconds between two looks at what a name means."""
COUNT = 30.0
"""Seconds between two looks whether what was counted is to be written."""


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may take."""

    seconds: float = 60.0
    """Of an action, or of one event of a stream; as long a request may wait for its turn."""
    places: int = 64
    """Requests inside, a model."""
    megabytes: int = 64
    """Of one request's body. An action whose types can need less takes less."""
    patience: float = 20.0
    """Seconds for a head or a body to arrive, and for a client to take a piece of an answer."""
    held: int = 512
    """Megabytes of bodies at once, over all requests."""


class Route:
    """One action of one served model."""

    def __init__(self, worker: Worker, wire: Wire, limits: Limits) -> None:
        self.worker, self.wire = worker, wire
        self.slug, self.action = worker.named.slug, wire.action
        self.path = f"/v1/{self.slug}/{self.action.name}"
        self.most = min(limits.megabytes * 2**20, wire.largest)


class Service:
    """Models over HTTP. `app()` is what a server runs; `close()` ends the models' threads."""

    def __init__(
        self,
        served: Sequence[Named],
        limits: Limits,
        token: str = "",
        log: Log | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """`recorder` counts what registered versions are asked, as numbers of its types; None counts nothing."""
        self.limits, self.token, self.log = limits, token, log or Log()
        self.recorder = recorder
        self.measures = Measures()
        self.held = exchange.Held(limits.held * 2**20)
        self.workers = [self._worker(named) for named in served]
        self.measures.watch(self.workers)
        self.routes = [
            Route(worker, Wire(action), limits)
            for worker in self.workers
            for action in type(worker.named.current.model).actions().values()
        ]

    def close(self) -> None:
        """End the threads, and write what was counted."""
        for worker in self.workers:
            worker.close()
        self._counted(all=True)

    def app(self) -> Guard:
        """The ASGI application."""
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=self._lifespan)
        for route in self.routes:
            app.add_api_route(route.path, self._endpoint(route), methods=["POST"], include_in_schema=False)
            app.add_api_websocket_route(route.path, self._socket(route))
        for path, answer in {
            "/": lambda request: RedirectResponse("docs"),
            "/docs": lambda request: HTMLResponse(page(self), headers=PAGE),
            "/openapi.json": lambda request: JSONResponse(document(self)),
            "/healthz": lambda request: self.health(),
            "/readyz": lambda request: self.ready(),
            "/metrics": lambda request: Response(self.measures.text(), media_type="text/plain; version=0.0.4"),
        }.items():
            app.add_route(path, answer, methods=["GET"])
        app.add_exception_handler(HTTPException, self._none)
        return Guard(app, self.token, self.log, self.measures)

    def health(self) -> Response:
        """What answers, and what an operator should look at. 503 only where a thread died."""
        models = {
            worker.named.slug: {
                "version": worker.named.current.title,
                "note": worker.named.note,
                "inside": worker.taken,
                "busy_seconds": round(worker.busy, 1),
                "swaps": worker.named.swaps,
            }
            for worker in self.workers
        }
        dead = not all(worker.alive for worker in self.workers)
        word = "failed" if dead else "degraded" if any(w.named.note for w in self.workers) else "ok"
        return JSONResponse({"status": word, "models": models}, 503 if dead else 200)

    def ready(self) -> Response:
        """200 where every model takes requests: its thread lives, and nothing in it has run past its time."""
        stuck = [w.named.slug for w in self.workers if not w.alive or w.busy > 2 * self.limits.seconds]
        full = [w.named.slug for w in self.workers if w.taken >= w.places]
        return JSONResponse({"ready": not stuck + full, "stuck": stuck, "full": full}, 503 if stuck + full else 200)

    def _worker(self, named: Named) -> Worker:
        together = self.measures.together.labels(named.slug)
        worker = Worker(named, self.limits.places, together.observe)
        worker.tell = lambda line: self.log("failure", said=line)
        if self.recorder is not None:
            worker.seen = self._seen
        return worker

    def _seen(self, client: str, title: str, action: Action, request: Any, known: Mapping[str, Any]) -> None:
        assert self.recorder is not None
        try:
            self.recorder.note(client, title, action.name, request, known)
        except Exception as error:  # what counts must never stop what answers
            self.log("failure", said=f"{title}.{action.name} was not counted: {type(error).__name__}")

    def _counted(self, all: bool = False) -> None:
        """Write what was counted; a full disk is told, and tried again."""
        if self.recorder is None:
            return
        try:
            self.recorder.flush(all)
        except OSError as error:
            self.log("failure", said=f"what was asked is not written: {error.strerror or error}")

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(COUNT)
            await asyncio.to_thread(self._counted)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        following = [asyncio.create_task(self._follow(worker.named)) for worker in self.workers]
        following.append(asyncio.create_task(self._count()))
        try:
            yield
        finally:
            for task in following:
                task.cancel()
            self.close()

    async def _follow(self, named: Named) -> None:
        """Look again and again at what a name means; loading happens beside, in a thread."""
        while True:
            await asyncio.sleep(LOOK)
            if named.changed() and (said := await asyncio.to_thread(named.follow)):
                self.log("follow", model=named.slug, version=named.current.title, said=said)

    def _endpoint(self, route: Route) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            about = request.scope["daybreak"]
            about.update(model=route.slug, action=route.action.name)
            try:
                return await self._answer(route, request)
            except Refused as error:
                return Refusal(error)
            except Gone:  # nobody reads this; it is what is counted
                about["gone"] = True
                return Response(status_code=499)

        return answer

    async def _answer(self, route: Route, request: Request) -> Response:
        kind = request.headers.get("content-type", JSON)
        if kind.partition(";")[0].strip().lower() not in (JSON, FORM):
            raise Refused(415, f"a request is {JSON}, or {FORM} with files, not {kind[:60]!r}", Connection="close")
        route.worker.take()
        size = 0

        def release() -> None:
            route.worker.give_back()
            self.held.less(size)

        try:
            body = await exchange.body(request, route.most, self.limits.patience, self.held)
            size = len(body)
            first = await watched(
                request.receive,
                route.worker.ask(route.wire, body, kind, self.limits.seconds, client=client(request)),
            )
        except BaseException:
            release()
            raise
        request.scope["daybreak"].update(version=first.title, bytes=size)
        headers = {VERSION: first.title}
        if route.action.streams:
            return Events(self.events(route, first), headers, release, self.limits.patience)
        return Whole(first.body, headers, release, self.limits.patience)

    async def events(self, route: Route, first: Answer) -> AsyncIterator[bytes]:
        """The events of a stream that was begun, each asked for when the one before it was taken."""
        answer = first
        try:
            while answer.stream is not None:
                yield answer.body
                answer = await route.worker.ask(route.wire, b"", JSON, self.limits.seconds, answer.stream)
        finally:
            if first.stream is not None:
                route.worker.end(route.wire, first.stream)

    def _socket(self, route: Route) -> Callable[[WebSocket], Any]:
        async def answer(socket: WebSocket) -> None:
            socket.scope["daybreak"].update(model=route.slug, action=route.action.name)
            await talk(self, route, socket)

        return answer

    async def _none(self, request: Request, error: Exception) -> Response:
        """What is no route, in one line with the nearest."""
        assert isinstance(error, HTTPException)
        way = request.url.path.split("/")
        headers = dict(error.headers or {})
        if error.status_code != 404 or way[:2] != ["", "v1"]:
            said = {
                404: "there is nothing here; /docs tells what there is",
                405: f"{request.method} is not answered here",
            }
            return JSONResponse({"error": said.get(error.status_code, str(error.detail))}, error.status_code, headers)
        model = way[2] if len(way) > 2 else ""
        actions = [route.action.name for route in self.routes if route.slug == model]
        if not actions:
            said_ = f"no model {model[:60]!r} is served; {nearest(model, [w.named.slug for w in self.workers])}"
        else:
            word = "/".join(way[3:])[:60]
            said_ = f"{model} has no action {word!r}; {nearest(word, actions)}"
        return JSONResponse({"error": said_}, 404, headers)


def client(asked: HTTPConnection) -> str:
    """Who asks: the address. It tells visits apart while they last, and is written nowhere."""
    return asked.client.host if asked.client else ""


PAGE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; media-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
"""A page that fetches nothing from elsewhere."""
