"""A service in a thread for tests, and a registry with versions that answer differently."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvicorn
from daybreak_toys.serving import Server, Size

from daybreak.lab.home import Lab
from daybreak.lab.ship.serve import Limits, Named, Service
from daybreak.lab.ship.serve.measures import Log
from daybreak.lab.ship.serve.run import bound, config


def version(lab: Lab, number: int, name: str = "toy-server") -> Path:
    """A registered version whose `scale` multiplies by its number."""
    made = Server(Size(factor=float(number))).save(lab.registry / name / str(number))
    (made / "record.json").write_text(json.dumps({"number": number}))
    return made


def forget(lab: Lab, alias: str, name: str = "toy-server") -> None:
    """Remove an alias."""
    (lab.registry / name / alias).unlink()


def remove(path: Path) -> None:
    """Remove a version."""
    shutil.rmtree(path)


@dataclass
class Running:
    service: Service
    port: int
    lines: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def post(self, path: str, body: object = None, **more: object) -> httpx.Response:
        """A request with JSON."""
        return httpx.post(f"{self.url}/v1/{path}", json=body, headers=self.headers, timeout=30, **more)

    def refused(self, path: str, body: object = None, **more: object) -> tuple[int, str]:
        """Status and line of a request that is to fail."""
        answer = self.post(path, body, **more)
        said = answer.json()
        assert set(said) == {"error"}
        assert "\n" not in said["error"]
        return answer.status_code, said["error"]


@contextlib.contextmanager
def running(
    lab: Lab | None, *texts: str, token: str = "", resources=None, recorder=None, **limits
) -> Iterator[Running]:
    lines: list[str] = []
    bounds = Limits(**limits)
    names = [Named(lab, text, resources) for text in texts]
    service = Service(names, bounds, token, Log(lines.append), recorder)
    at = bound("127.0.0.1", 0)
    server = uvicorn.Server(config(service))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [at]}, daemon=True)
    thread.start()
    try:
        yield Running(service, at.getsockname()[1], lines, {"Authorization": f"Bearer {token}"} if token else {})
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)
        at.close()
