"""ONNX Runtime for browsers, from npm: fetched once at export, checked, and kept in the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from daybreak.errors import UserError
from daybreak.lab.home import sync_folder
from daybreak.lab.ship.export.environment import CACHE
from daybreak.lab.ship.export.session import last_words

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
PARTS = {
    "ort.js": "ort.wasm.min.js", "runtime.mjs": "ort-wasm-simd-threaded.mjs",
    "runtime.wasm": "ort-wasm-simd-threaded.wasm",
}  # fmt: skip
"""What a page needs -> its file in the package."""


def runtime() -> dict[str, bytes]:
    """The runtime's files. Raises `UserError` where npm is missing or cannot bring them."""
    cache = os.environ.get(CACHE) or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "daybreak"
    place = Path(cache) / f"{PACKAGE}-{VERSION}"
    if not place.is_dir():
        _fetch(place)
    return {name: (place / name).read_bytes() for name in PARTS}


def _fetch(place: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            f"a page needs {PACKAGE} {VERSION} from npm, and npm is not installed; install Node.js, or leave page out "
            "of --to"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".npm-") as scratch:
        command = [npm, "pack", "--silent", f"{PACKAGE}@{VERSION}"]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        found = list(Path(scratch).glob("*.tgz"))
        if done.returncode or len(found) != 1:
            raise UserError(f"npm cannot bring {PACKAGE} {VERSION}: {last_words(done.stderr)}; leave page out of --to")
        whole = Path(scratch) / "whole"
        whole.mkdir()
        with tarfile.open(found[0]) as archive:
            for name, inside in PARTS.items():
                member = archive.extractfile(f"package/dist/{inside}")
                if member is None:
                    raise UserError(f"{PACKAGE} {VERSION} has no file {inside}")
                (whole / name).write_bytes(member.read())
        sync_folder(whole)
        try:
            whole.rename(place)
        except OSError:  # another export was first
            if not place.is_dir():
                raise
