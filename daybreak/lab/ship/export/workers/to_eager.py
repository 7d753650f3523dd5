"""The traced program run by torch itself: what every target is measured beside, and proof of the .pt2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import Runner, main


def convert(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Nothing is to be converted."""
    return {"versions": {"torch": torch.__version__}}


def load(folder: Path, program: str) -> Runner:
    """The program as a module."""
    torch.set_num_threads(1)
    module = torch.export.load(folder / f"{program}.pt2").module()

    @torch.inference_mode()
    def run(arrays: list[Any]) -> Sequence[Any]:
        return [x.numpy() for x in module(*(torch.from_numpy(x.copy()) for x in arrays))]

    return run


if __name__ == "__main__":
    main(convert, load)
