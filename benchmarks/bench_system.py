"""The benchmarks' own system, installed for the time of a benchmark through the door that third parties use.

It knows how a package announces a system. Its recipes are in files of their own, so that the one without torch stays
without.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from daybreak.lab.system import System

system = System(
    name="bench",
    line="small recipes to measure the lab with",
    recipes={"mlp": "bench_mlp:Mlp", "clips": "bench_clips:Clips", "job": "bench_job:Job"},
    models={"served": "bench_served:Served"},
)


def install(folder: Path) -> None:
    """Announce the system to this process and to those that it starts: a package's metadata in `folder`."""
    about = folder / "daybreak_bench-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: daybreak-bench\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text("[daybreak.systems]\nbench = bench_system:system\n")
    paths = [str(folder), str(Path(__file__).parent)]
    sys.path[:0] = paths
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])])
