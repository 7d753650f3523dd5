"""What an operator sees: Prometheus metrics, and a line of JSON a request. Never a word of what was asked or answered.

It counts; it knows nothing about how requests are answered.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from daybreak.lab.ship.serve.worker import Worker

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
TOGETHER = (1, 2, 4, 8, 16, 32, 64)


class Measures:
    """The counters of one service. Labels are models and actions that exist, so that no caller can make new ones."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ["model", "action", "status"]
        self.requests = Counter("daybreak_requests", "Requests answered", labels, registry=self.registry)
        self.seconds = Histogram(
            "daybreak_request_seconds", "From a request's head to its answer's end", ["model", "action"],
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.together = Histogram(
            "daybreak_batch_size", "Requests answered together", ["model"], buckets=TOGETHER, registry=self.registry
        )

    def watch(self, workers: Sequence[Worker]) -> None:
        """Read queues and versions when they are asked for."""
        self.registry.register(_Now(workers))

    def text(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)


class _Now(Collector):
    """What is read at the moment of asking."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = workers

    def collect(self) -> Iterable[Metric]:
        taken = GaugeMetricFamily("daybreak_requests_inside", "Places taken in the model's queue", labels=["model"])
        busy = GaugeMetricFamily("daybreak_busy_seconds", "Seconds since what runs now began", labels=["model"])
        swaps = GaugeMetricFamily("daybreak_swaps", "Times that another version took over", labels=["model"])
        info = GaugeMetricFamily("daybreak_model_info", "The version that answers", labels=["model", "version"])
        stale = GaugeMetricFamily("daybreak_model_stale", "1 where the name means what cannot answer", labels=["model"])
        for worker in self.workers:
            slug = worker.named.slug
            taken.add_metric([slug], worker.taken)
            busy.add_metric([slug], worker.busy)
            swaps.add_metric([slug], worker.named.swaps)
            info.add_metric([slug, worker.named.current.title], 1)
            stale.add_metric([slug], bool(worker.named.note))
        return [taken, busy, swaps, info, stale]


Write = Callable[[str], None]


def to_stderr(line: str) -> None:
    """Where lines go by default."""
    print(line, file=sys.stderr, flush=True)


class Log:
    """Lines of JSON, with their time."""

    def __init__(self, write: Write = to_stderr) -> None:
        self.write = write

    def __call__(self, event: str, **fields: Any) -> None:
        """Write one line."""
        time = datetime.now().astimezone().isoformat(timespec="milliseconds")
        self.write(json.dumps({"time": time, "event": event, **fields}, ensure_ascii=False))
