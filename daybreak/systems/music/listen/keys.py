"""The key of a listening page: what stands on which side of each pair, and all that a vote needs later.

It knows pairs and JSON; it knows nothing about pages.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from daybreak.errors import UserError
from daybreak.lab.home import Lab
from daybreak.systems.music import tokens as T
from daybreak.systems.music.data.votes import SIDES, Made, Pair, keywords

FORMAT = 1
ID = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class Key:
    """One page's key."""

    key: str
    """12 hex digits over the pairs; the page names it."""
    created: str
    seed: int
    models: Mapping[str, str]
    """The model first, then the one it stands against: id -> title."""
    pairs: Mapping[str, Pair]

    @classmethod
    def of(cls, pairs: Sequence[Pair], models: Mapping[str, str], seed: int, created: str) -> Self:
        """The key of these pairs."""
        whole = "\n".join(pair.id for pair in pairs)
        id = hashlib.blake2b(whole.encode(), digest_size=6).hexdigest()
        return cls(id, created, seed, models, {pair.id: pair for pair in pairs})

    def to_bytes(self) -> bytes:
        """The key as JSON."""
        about = {
            "format": FORMAT, "key": self.key, "created": self.created, "seed": self.seed, "models": self.models,
            "pairs": [_plain(pair) for pair in self.pairs.values()],
        }  # fmt: skip
        return (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a key file. Raises `UserError`."""
        try:
            about = json.loads(path.read_bytes())
            if about["format"] > FORMAT:
                raise UserError(f"{path} was written by a newer daybreak (format {about['format']})")
            pairs = {one["id"]: _pair(one) for one in about["pairs"]}
            return cls(about["key"], about["created"], about["seed"], about["models"], pairs)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is not the key of a listening page: {error!r}") from error


def folder(lab: Lab, key: str) -> Path:
    """Where the lab keeps a page and its key."""
    return lab.root / "listening" / key


def _plain(pair: Pair) -> dict[str, Any]:
    return {
        "id": pair.id, "keywords": keywords(pair.row), "given": pair.given, "group": pair.group,
        "licence": pair.licence,
        **{
            side: {
                "maker": made.maker, "title": made.title, "midi": base64.b64encode(made.midi).decode(),
                "stream": made.stream.tolist(),
            }
            for side, made in pair.clips.items()
        },
    }  # fmt: skip


def _pair(one: Mapping[str, Any]) -> Pair:
    clips = {
        side: Made(
            one[side]["maker"],
            one[side]["title"],
            np.array(one[side]["stream"], np.int16),
            base64.b64decode(one[side]["midi"], validate=True),
        )
        for side in SIDES
    }
    return Pair(one["id"], T.row(**one["keywords"]), one["given"], one["group"], one["licence"], clips)
