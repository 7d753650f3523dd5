"""The service: ready, its share of a request, versions swapped under load, load for long, its types checked."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rows import Bar, Row, in_turn, main, say, scratch

HEADERS = {"Content-Type": "application/json"}
CLIENTS, REQUESTS, SWAPS = 32, 10_000, 20


def saved(folder: Path, factor: float) -> Path:
    """A saved model that multiplies by `factor`."""
    from bench_served import Served, Size

    return Served(Size(factor=factor)).save(folder)


def free() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def serving(*argv: str, lab: Path | None = None) -> Iterator[tuple[int, subprocess.Popen[bytes], float]]:
    """`daybreak serve ARGV` in a process: its port, itself, and the seconds until its first answer."""
    port = free()
    env = {**os.environ, "DAYBREAK_LAB": str(lab or "none"), "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "daybreak", "serve", *argv, "--port", str(port)], env=env, stderr=subprocess.DEVNULL
    )
    try:
        while not answers(port, "/healthz"):
            if process.poll() is not None or time.perf_counter() - began > 120:
                raise RuntimeError(f"daybreak serve {' '.join(argv)} did not come up")
            time.sleep(0.01)
        yield port, process, time.perf_counter() - began
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(port: int, path: str) -> bool:
    """Whether a service answers there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def post(connection: http.client.HTTPConnection, path: str, body: Any) -> tuple[int, str, bytes]:
    """Status, version and body of an answer."""
    connection.request("POST", path, json.dumps(body), HEADERS)
    got = connection.getresponse()
    return got.status, got.headers.get("Daybreak-Model", ""), got.read()


# The share of a request: a trivial action, one client, one kept connection.


def trivial(who: str, folder: str) -> Iterator[float]:
    """The median milliseconds of 200 requests, a round."""
    with contextlib.ExitStack() as stack:
        if who == "ours":
            system(Path(folder).parent / "announced")
            port, _, _ = stack.enter_context(serving(f"a={folder}"))
            path, body = "/v1/a/scale", {"x": 3}
        elif who == "gradio":
            port = stack.enter_context(peer("gradio", "/gradio_api/info"))
            path, body = "/gradio_api/run/scale", {"data": [3]}
        else:
            port = stack.enter_context(peer(who, "/health" if who == "litserve" else "/openapi.json"))
            path, body = "/predict" if who == "litserve" else "/scale", {"x": 3}
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            took = []
            for _ in range(200):
                began = time.perf_counter()
                status, _, got = post(connection, path, body)
                took.append(1000 * (time.perf_counter() - began))
                if status != 200 or b"6" not in got:
                    raise RuntimeError(f"{who} answered {status}: {got[:200]!r}")
            connection.close()  # between rounds a server closes what is idle
            yield statistics.median(took)


@contextlib.contextmanager
def peer(who: str, path: str) -> Iterator[int]:
    """A peer's service with the same trivial action."""
    port = free()
    env = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "bench_peers.py"), who, str(port)],
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        began = time.monotonic()
        while not answers(port, path):
            if process.poll() is not None or time.monotonic() - began > 120:
                assert process.stderr is not None
                raise RuntimeError(process.stderr.read().decode().strip().splitlines()[-1])
            time.sleep(0.05)
        yield port
    finally:
        process.kill()  # what it started ends with the part, whose group it is in
        process.wait()


def system(folder: Path) -> None:
    """Announce the benchmarks' system."""
    import bench_system

    folder.mkdir(exist_ok=True)
    if not list(folder.iterdir()):
        bench_system.install(folder)


# Swaps under load.


def swaps(folder: Path, requests: int) -> dict[str, float]:
    """Promote and roll back while clients ask: requests that failed, or were answered by what was not named."""
    from daybreak.lab import registry
    from daybreak.lab.home import Lab

    os.environ["DAYBREAK_LAB"] = str(folder / "lab")
    lab = Lab.open()
    name = "bench"
    for number in (1, 2):
        made = saved(lab.registry / name / str(number), float(number))
        (made / "record.json").write_text(json.dumps({"number": number}))
    registry.promote(lab, f"{name}@1")
    named: list[tuple[float, str]] = [(time.monotonic(), f"{name}@1")]
    found: list[tuple[float, float, int, str, float | None]] = []
    with serving(name, lab=lab.root) as (port, _, _):

        def ask(count: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            for _ in range(count):
                began = time.monotonic()
                try:
                    status, title, body = post(connection, f"/v1/{name}/scale", {"x": 1})
                    y = json.loads(body).get("y")
                except (OSError, http.client.HTTPException):
                    status, title, y = 0, "", None
                    connection.close()
                found.append((began, time.monotonic(), status, title, y))

        threads = [threading.Thread(target=ask, args=(requests // CLIENTS + 1,)) for _ in range(CLIENTS)]
        for one in threads:
            one.start()
        done = 0
        for turn in range(SWAPS):
            while len(found) < requests * (turn + 0.5) / SWAPS:
                time.sleep(0.01)
            version = registry.promote(lab, f"{name}@2") if turn % 2 == 0 else registry.rollback(lab, name)
            named.append((time.monotonic(), version.title))
            while health(port)["models"][name]["version"] != version.title:
                time.sleep(0.02)
            done += 1
        for one in threads:
            one.join()
    # What was named when it began, or came to be named before it was answered; 2 s are allowed for the swap itself.
    wrong = 0
    for began, ended, status, title, y in found:
        when = [t for t, _ in named] + [float("inf")]
        allowed = {v for n, (t, v) in enumerate(named) if t <= ended and when[n + 1] + 2 >= began}
        wrong += status == 200 and (title not in allowed or y != float(title[-1]))
    return {"requests": len(found), "failed": sum(s != 200 for _, _, s, _, _ in found), "wrong": wrong, "swaps": done}


def health(port: int) -> Any:
    """What /healthz says."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/healthz")
    return json.loads(connection.getresponse().read())


# Load for long.


def load(folder: Path, seconds: float) -> dict[str, Any]:
    """Clients that ask, leave, ask for too much, stream and send what is wrong; memory from the first tenth on."""
    model = saved(folder / "model", 2.0)
    statuses: Counter[int] = Counter()
    hung = 0
    with serving(f"a={model}", "--most-seconds", "0.5") as (port, process, _):
        end = time.monotonic() + seconds

        def ask(seed: int) -> None:
            nonlocal hung
            draw = random.Random(seed)
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            while time.monotonic() < end:
                kind = draw.random()
                try:
                    if kind < 0.05:  # leaves
                        leaver = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                        leaver.request("POST", "/v1/a/work", json.dumps({"seconds": 0.3}), HEADERS)
                        time.sleep(0.01)
                        leaver.close()
                        continue
                    if kind < 0.06:
                        status, _, _ = post(connection, "/v1/a/work", {"seconds": 60})  # takes too long
                    elif kind < 0.2:
                        status, _, _ = post(connection, "/v1/a/count", {"to": 20})
                    elif kind < 0.3:
                        status, _, _ = post(connection, "/v1/a/scale", {"x": "a" * 10_000})
                    else:
                        status, _, _ = post(connection, "/v1/a/scale", {"x": 1})
                    statuses[status] += 1
                except TimeoutError:
                    hung += 1
                    connection.close()
                except (OSError, http.client.HTTPException):
                    statuses[0] += 1
                    connection.close()

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
        for one in threads:
            one.start()
        time.sleep(seconds / 10)
        early = resident(process.pid)
        for one in threads:
            one.join()
        late = resident(process.pid)
        inside = health(port)["models"]["a"]["inside"]
    return {"statuses": statuses, "hung": hung + inside, "early": early, "late": late}


def resident(pid: int) -> float:
    """Megabytes of memory that a process has."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def types(folder: Path, examples: int) -> int | None:
    """Findings of schemathesis, all checks; None where it is not installed."""
    if find_spec("schemathesis") is None:
        return None
    model = saved(folder / "typed", 2.0)
    with serving(f"a={model}", "--most-seconds", "0.5") as (port, _, _):
        done = subprocess.run(
            [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run",
             f"http://127.0.0.1:{port}/openapi.json", "--checks", "all", "--max-examples", str(examples), "--seed", "1",
             "--request-timeout", "30", "--continue-on-failure"],
            cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
        alive = answers(port, "/healthz")
    if done.returncode not in (0, 1) or not alive:
        raise RuntimeError(done.stdout[-500:] + done.stderr[-500:])
    found = re.search(r"(\d+) failures?", done.stdout.splitlines()[-1]) if done.returncode else None
    if done.returncode:
        say(done.stdout)
    return int(found[1]) if found else done.returncode


def measure(quick: bool) -> Iterator[Row]:
    """The rows."""
    with scratch() as folder:
        system(folder / "announced")
        model = saved(folder / "trivial", 2.0)
        times: dict[str, list[float]] = {"a trivial model": [], "music": []}
        for _ in range(2 if quick else 5):
            for what, name in (("a trivial model", f"a={model}"), ("music", "music")):
                with serving(name) as (_, _, took):
                    times[what].append(took)
        for what, taken in times.items():
            note = "from the command to the first answer, the least of the rounds: the machine is shared"
            yield Row(f"serve {what}: ready", "s wall", min(taken), Bar("ours", "<=", 3), note=note)
        parts = {who: [who, str(model)] for who in ("ours", "fastapi", "litserve", "gradio")}
        values = in_turn(parts, 3 if quick else 15, part="trivial")
        p50 = {who: min(rounds) for who, rounds in values.items() if rounds}
        bare = p50["fastapi"]
        note = "median of 200 requests on a kept connection, the best round of each"
        yield Row(
            "a trivial action: added to bare FastAPI, p50",
            "ms wall",
            p50["ours"] - bare,
            Bar("ours", "<=", 2),
            note=note,
        )
        for who, label in (("fastapi", "FastAPI bare"), ("litserve", "LitServe"), ("gradio", "Gradio's API")):
            yield Row("a trivial action, p50", "ms wall", p50["ours"], None, label, p50.get(who), note)
        swap = swaps(folder, 1_000 if quick else REQUESTS)
        what = f"{swap['swaps']} swaps and rollbacks under {CLIENTS} clients, {swap['requests']:,} requests"
        yield Row(f"{what}: failed", "", swap["failed"], Bar("ours", "=", 0))
        yield Row(f"{what}: answered by a model that was not named", "", swap["wrong"], Bar("ours", "=", 0))
        seconds = 60 if quick else 1200
        long = load(folder, seconds)
        mix = ", ".join(f"{count:,} x {status or 'broken'}" for status, count in sorted(long["statuses"].items()))
        grown = 100 * (long["late"] / long["early"] - 1)
        what = f"{seconds / 60:g} min of load, cancelled and over-long requests among it"
        note = f"from {long['early']:.1f} to {long['late']:.1f} MB; {mix}"
        yield Row(f"{what}: memory grows", "%", grown, None if quick else Bar("ours", "<=", 1), note=note)
        yield Row(f"{what}: requests that hang", "", long["hung"], Bar("ours", "=", 0))
        failures = types(folder, 20 if quick else 200)
        yield Row("schemathesis, all checks: findings", "", failures, Bar("ours", "=", 0))


if __name__ == "__main__":
    main(measure, {"trivial": trivial}, ["fastapi", "uvicorn", "litserve", "gradio", "schemathesis"])
