"""`daybreak rl watch RUN`: a training looked at while it runs. The newest checkpoint plays, greedily, on a local page.

It only reads checkpoints and metrics, in a process of its own that yields to others, and plays only while somebody
looks; the training is not touched. A saved agent is watched the same way. The page is served on loopback alone.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import threading
import time
import webbrowser
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch

from daybreak.errors import UserError
from daybreak.lab import codec
from daybreak.lab.codec import plain
from daybreak.lab.home import Lab
from daybreak.lab.model import Model
from daybreak.lab.registry import locate
from daybreak.lab.run import Run
from daybreak.lab.system import resolve
from daybreak.systems.rl.actor import ActingNet, Stacker
from daybreak.systems.rl.envs import make
from daybreak.systems.rl.model import RECIPES, Agent

PAGE = Path(__file__).with_name("live.html")
EDGE = "frame"
"""What parts the pictures of the stream."""
PAST = 30
"""Episodes whose returns are shown."""
REST = 0.5
"""Seconds that an episode's last picture stays."""


@dataclass(frozen=True)
class Player:
    """A net that plays, and which one it is."""

    net: ActingNet
    title: str
    step: int | None
    """Of the training, where it is a checkpoint's."""
    clock: float | None


class Followed:
    """A run whose newest checkpoint plays. Nothing in its folder is written or removed."""

    def __init__(self, run: Run) -> None:
        self.run = run
        system, _, family = run.info.recipe.partition(":")
        if system != "rl" or family not in RECIPES:
            raise UserError(f"{run.title} is a run of {run.info.recipe}; rl watch shows agents")
        self.family = resolve(RECIPES[family])
        self.config = self.family.Config(**run.info.config)
        self.env: str = self.config.env
        self.seeds: int = self.config.seeds
        self.path: Path | None = None

    def newer(self) -> Player | None:
        """The newest checkpoint's player; None where it is the one that was given before, or where there is none."""
        for path in reversed(self.run.checkpoints()):
            if path == self.path:
                return None
            try:
                tree = codec.load(path / "state")
            except UserError:  # just removed by the training, or damaged: the one before is looked at
                continue
            self.path = path
            return Player(self._net(tree), self.run.title, int(tree["step"]), float(tree["clock"]))
        return None

    def _net(self, tree: Any) -> ActingNet:
        """The first seed's net with a checkpoint's weights, averaged ones where the recipe keeps them."""
        game = make(self.env, 1)
        net: ActingNet = self.family.net_of(self.config, game.spec, self.config.seeds)
        game.close()
        net.load_state_dict(tree["nets"]["net"])
        # Each family registers its acting net's parameters first, under "net"; a small net's average is one tensor.
        if averages := tree["averages"].get("net"):
            values, place = torch.cat([average.flatten() for average in averages]), 0
            for mine in net.parameters():
                mine.data.copy_(values[place : place + mine.numel()].view_as(mine))
                place += mine.numel()
        return net.eval().requires_grad_(False)

    def told(self) -> dict[str, Any]:
        """Where the training is: its state, and the last that it logged."""
        last = _last_update(self.run.path / "metrics.jsonl")
        return {
            "state": self.run.state().text,
            **{name: last[name] for name in ("return", "env_steps") if name in last},
        }


def _last_update(path: Path) -> dict[str, Any]:
    """The last line that an update logged: evaluations have lines of their own. Only the file's end is read."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 2**16))
            lines = file.read().split(b"\n")[1:-1]
    except FileNotFoundError:
        return {}
    return next((json.loads(line) for line in reversed(lines) if b'"env_steps"' in line), {})


class Fixed:
    """A saved agent, which is always the same."""

    def __init__(self, agent: Agent, title: str) -> None:
        self.env, self.seeds = agent.config.spec.name, 1
        self.player: Player | None = Player(agent.net, title, None, None)

    def newer(self) -> Player | None:
        """The agent, once."""
        found, self.player = self.player, None
        return found

    def told(self) -> dict[str, Any]:
        """Nothing: it does not train."""
        return {}


@dataclass
class Screen:
    """What is played now. Frames are made by one thread, while there is a viewer, and shown to all."""

    source: Followed | Fixed
    rate: float = 30.0
    picture: bytes = b""
    number: int = 0
    viewers: int = 0
    closed: bool = False
    player: Player | None = None
    episode: float = 0.0
    length: int = 0
    past: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=PAST))
    trouble: str = ""
    turn: threading.Condition = field(default_factory=threading.Condition)

    def run(self) -> None:
        """Play until closed; what goes wrong is told on the page."""
        try:
            self._run()
        except UserError as error:
            self.trouble = str(error)
        except Exception as error:  # an environment may raise anything
            self.trouble = f"{type(error).__name__}: {error}"

    def _run(self) -> None:
        game = make(self.source.env, 1)
        if game.spec.judged:
            game = make(game.spec.judged, 1)
        try:
            start = int(time.time())
            while not self.closed:
                self.player = self.source.newer() or self.player
                if self.player is None:
                    time.sleep(1.0)
                    continue
                start += 1
                self._episode(game, self.player, start)
        finally:
            game.close()

    def _episode(self, game: Any, player: Player, start: int) -> None:
        net = player.net
        stacker = Stacker(game.spec)
        seen = stacker.first(game.reset(start))
        seeds = self.source.seeds
        carry = net.start(seeds, 1)
        self.episode, self.length = 0.0, 0
        due = time.monotonic()
        while not self.closed:
            self._show(game.frame())
            due = max(due + 1 / self.rate, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
            self._wait_for_a_viewer()
            tensors = {name: torch.from_numpy(value)[None].expand(seeds, *value.shape) for name, value in seen.items()}
            with torch.no_grad():
                acted = net.greedy(tensors, carry)
            carry = acted.carry
            step = game.step(acted.action[:1, 0].cpu().numpy())
            self.episode += float(step.reward[0])
            self.length += 1
            ended = step.terminated | step.truncated
            if ended[0]:
                self.past.append({"step": player.step, "return": self.episode, "length": self.length})
                time.sleep(REST)
                return
            seen = stacker.next(step.observation, ended)

    def _wait_for_a_viewer(self) -> None:
        with self.turn:
            while not self.viewers and not self.closed:
                self.turn.wait(1.0)

    def _show(self, frame: np.ndarray) -> None:
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=85)
        with self.turn:
            self.picture, self.number = file.getvalue(), self.number + 1
            self.turn.notify_all()

    def pictures(self) -> Iterator[bytes]:
        """JPEGs as they are made, until closed. Whoever takes them is a viewer."""
        shown = -1
        with self.turn:
            self.viewers += 1
            self.turn.notify_all()
        try:
            while not self.closed:
                with self.turn:
                    if self.number == shown:
                        self.turn.wait(1.0)
                    picture, fresh, shown = self.picture, self.number != shown, self.number
                if picture and fresh:
                    yield picture
        finally:
            with self.turn:
                self.viewers -= 1

    def told(self) -> dict[str, Any]:
        """What stands beside the picture."""
        player = self.player
        return {
            "env": self.source.env, "title": player.title if player else "", "step": player.step if player else None,
            "clock": player.clock if player else None, "episode": self.episode, "length": self.length,
            "past": list(self.past), "training": self.source.told(), "trouble": self.trouble,
        }  # fmt: skip

    def close(self) -> None:
        """End the play."""
        with self.turn:
            self.closed = True
            self.turn.notify_all()


class Live:
    """The page of a screen, on loopback."""

    def __init__(self, screen: Screen, port: int = 0) -> None:
        self.screen = screen
        try:
            self.server = ThreadingHTTPServer(("127.0.0.1", port), _handler(screen))
        except OSError as error:
            raise UserError(f"--port {port}: {error.strerror}; 0 takes a free one") from error
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}/"
        self.play = threading.Thread(target=screen.run, daemon=True)

    def __enter__(self) -> Live:
        self.play.start()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.screen.close()
        self.server.shutdown()
        self.server.server_close()
        self.play.join(timeout=5)


def _handler(screen: Screen) -> type[BaseHTTPRequestHandler]:
    page = PAGE.read_bytes()

    def hashed(tag: str) -> str:
        inside = page.split(f"<{tag}>".encode(), 1)[1].split(f"</{tag}>".encode(), 1)[0]
        return f"'sha256-{base64.b64encode(hashlib.sha256(inside).digest()).decode()}'"

    policy = (
        f"default-src 'none'; style-src {hashed('style')}; script-src {hashed('script')}; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # Another site's page that was given this address by its own name server sends its own name.
            if self.headers.get("Host", "").partition(":")[0] not in ("127.0.0.1", "localhost"):
                self.send_error(403)
            elif self.path == "/":
                self._send(page, "text/html; charset=utf-8")
            elif self.path == "/now":
                self._send(json.dumps(plain(screen.told())).encode(), "application/json")
            elif self.path == "/stream":
                self._stream()
            else:
                self.send_error(404)

        def _send(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self._head(kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _stream(self) -> None:
            self.send_response(200)
            self._head(f"multipart/x-mixed-replace; boundary={EDGE}")
            self.end_headers()
            try:
                for picture in screen.pictures():
                    head = f"--{EDGE}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                    self.wfile.write(head.encode() + picture + b"\r\n")
            except OSError:  # the viewer left
                return

        def _head(self, kind: str) -> None:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Security-Policy", policy)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Cache-Control", "no-store")

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: requests are a person looking."""

    return Handler


def source_of(lab: Lab | None, text: str) -> Followed | Fixed:
    """What a run's or a model's name means. Raises `UserError` with the nearest."""
    if lab is not None:
        try:
            run = Run.find(lab, text)
        except UserError:
            if text.isdigit() or "#" in text:
                raise
        else:
            return Followed(run)
    place = locate(lab, text)
    model = Model.load(place.path)
    if not isinstance(model, Agent):
        raise UserError(f"{place.title} is a {type(model).__name__}; rl watch shows agents")
    return Fixed(model, place.title)


def watch(what: str = "rl", /, *, port: int = 0, rate: float = 30.0, open: bool = False) -> None:
    """Watch a training or an agent play, on a local page, until Ctrl-C.

    Args:
        what: a run ("12", "rl:ppo#12"), while it trains or after; or a model ("rl", a folder).
        port: of the page, on this machine alone; 0 takes a free one.
        rate: steps of the environment a second.
        open: show the page in a browser.
    """
    if not 0.1 <= rate <= 200:
        raise UserError(f"--rate {rate:g}: 0.1 to 200 steps a second")
    try:
        import PIL  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError("pictures need Pillow, which is not installed: pip install 'daybreak[rl]'") from error
    source = source_of(Lab.existing(), what)
    game = make(source.env, 1)
    try:
        game.reset(0)
        game.frame()  # an environment without pictures is told now
    finally:
        game.close()
    os.nice(10)
    torch.set_num_threads(1)
    with Live(Screen(source, rate), port) as live:
        print(live.address, flush=True)
        if open:
            webbrowser.open(live.address)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return
