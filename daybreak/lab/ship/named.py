"""A model by its name, followed: when the name comes to mean another version, that one is loaded and takes over.

It looks at folders and loads models; it knows nothing about requests. What cannot be loaded never takes over.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daybreak.errors import UserError
from daybreak.lab.home import Lab
from daybreak.lab.model import Model
from daybreak.lab.registry import Place, locate

SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._-]{0,79}")
"""What may stand for a model in an address."""


@dataclass(frozen=True)
class Loaded:
    """A model that can answer, and which one it is."""

    model: Model
    title: str
    """As `daybreak registry` calls it: "music@3"."""
    path: Path
    limits: Mapping[str, Any] = field(default_factory=dict)
    """What `describe()` said when it was loaded."""


class Named:
    """What "music", "music@3", "music@canary", a run or a folder means now, and meant before.

    `SLUG=TEXT` gives it another word in addresses; by default that is the text, or a folder's name.
    """

    def __init__(self, lab: Lab | None, text: str, resources: Mapping[str, str] | None = None) -> None:
        slug, equals, rest = text.partition("=")
        self.text = rest if equals else text
        self.slug = slug if equals else Path(text).name.replace("#", "-").replace(":", "-")
        if not SLUG.fullmatch(self.slug):
            raise UserError(f"{self.slug!r} cannot stand in an address; give {self.text!r} a word: word={self.text}")
        self.lab = lab
        self.resources = dict(resources or {})
        self.swaps = 0
        self.note = ""
        """What an operator should know: why the name's present meaning does not answer. Empty where all is well."""
        self._signature = self._look()
        self._place = locate(lab, self.text)
        self.current = self.load(self._place)

    def load(self, place: Place) -> Loaded:
        """Load a model and open its resources. Raises `UserError`."""
        model = Model.load(place.path).open(**self.resources)
        return Loaded(model, place.title, place.path, model.describe())

    def changed(self) -> bool:
        """Whether the name may have come to mean something else. One stat: an alias is written by a rename."""
        return self._look() != self._signature

    def follow(self) -> str:
        """Load what the name means now, if that is another model. Returns what happened, or "".

        The model that answered keeps answering until the other is ready, and where it cannot be loaded.
        """
        signature = self._look()
        began = time.monotonic()
        try:
            place = locate(self.lab, self.text)
            if place.path != self.current.path:
                loaded = self.load(place)
                if type(loaded.model) is not type(self.current.model):
                    kinds = [type(x.model).__name__ for x in (loaded, self.current)]
                    raise UserError(f"{loaded.title} is a {kinds[0]}, what is served is a {kinds[1]}; serve it anew")
        except Exception as error:  # a version may fail to load in any way; it is told, and the last one answers
            said = str(error) if isinstance(error, UserError) else f"{type(error).__name__} while it was loaded"
            self._signature = signature
            before, self.note = self.note, f"{self.text}: {said}; {self.current.title} answers"
            return self.note if self.note != before else ""
        self._signature, self.note = signature, ""
        if place.path == self.current.path:
            return ""
        before, self.current = self.current.title, loaded
        self.swaps += 1
        return f"{self.slug}: {loaded.title} answers instead of {before}, loaded in {time.monotonic() - began:.2f} s"

    def _look(self) -> tuple[int, ...]:
        """A signature of the folder in which the name's meaning is written: its entries change by renames."""
        if self.lab is None:
            return ()
        try:
            about = os.stat(self.lab.registry / self.text.partition("@")[0])
        except (OSError, ValueError):
            return ()
        return (about.st_ino, about.st_mtime_ns)
