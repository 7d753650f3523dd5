"""`make demo`: one night in a few minutes. Every step is a command that a person could type; it is shown first."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

NIGHT = os.environ.get("DAYBREAK_DEMO_NIGHT", "150s")
"""How long the night lasts."""
PLAYERS = (("afplay",), ("paplay",), ("aplay", "-q"), ("ffplay", "-nodisp", "-autoexit", "-loglevel", "quiet"))


def main() -> None:
    """Ingest, play a clip, train a first run, queue three more from it, run the night, write the page."""
    start = time.monotonic()
    lab = Path(os.environ.get("DAYBREAK_LAB", "lab"))
    heading("Music that the project composes by rule becomes items in the lake")
    daybreak("lake", "add", "music")
    heading("A first clip, by the model that comes with the project")
    daybreak(
        "music", "compose", "--bpm", "80", "--key", "C minor", "--bars", "8", "--seed", "1", "-o", "out/first-clip"
    )
    play(Path("out/first-clip"))
    heading("Evening: a first small model, so that there is something to improve on")
    size = ("--steps", "120", "--evaluate", "40", "--checkpoint", "10", "--threads", "1")
    first = daybreak("train", "music:tiny", *size, "--lr", "3e-4", "--name", "first try").split()[-1]
    heading("Three experiments for tonight, each derived from it")
    again = ("tonight", "add", "music", "--from", first)
    daybreak(*again, "--lr", "3e-3", "--name", "ten times the rate")
    daybreak(*again, "--lr", "10", "--warmup", "120", "--clip", "0", "--name", "far too bold")
    daybreak(*again, "--lr", "3e-3", "--net.width", "192", "--name", "the rate, and wider")
    heading(f"Night ({NIGHT}, two workers)")
    daybreak("night", "--workers", "2", "--for", NIGHT)
    heading("Morning")
    screen = ["--open"] if sys.platform == "darwin" or os.environ.get("DISPLAY") else []
    daybreak("morning", *screen)
    pages = sorted((lab / "daily").glob("*/data.json"))
    verdict = json.loads(pages[-1].read_text())["verdict"] if pages else []
    print()
    for sentence in verdict[:3]:
        print(sentence["text"])
    print(f"page: {pages[-1].with_name('index.html') if pages else 'none'}")
    print(f"all of it took {time.monotonic() - start:.0f} s; `daybreak --help` tells what else there is")


def heading(text: str) -> None:
    """Say what comes next."""
    print(f"\n== {text}", flush=True)


def daybreak(*words: str) -> str:
    """Show a command and run it; its standard output is shown and returned. Ends the demo when it fails."""
    print(f"$ daybreak {shlex.join(words)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "daybreak", *words], stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        sys.exit(f"demo: that command failed with exit code {done.returncode}")
    return done.stdout


def play(folder: Path) -> None:
    """Play the first sound in a folder where the machine can; say where it is."""
    sound = next(iter(sorted(folder.rglob("*.wav"))), None)
    if sound is None:
        return
    print(f"listen: {sound}")
    for player in PLAYERS:
        if shutil.which(player[0]) and sys.stdout.isatty():
            subprocess.run([*player, str(sound)], check=False, stderr=subprocess.DEVNULL)
            return


if __name__ == "__main__":
    main()
