"""daybreak: train at night, know in the morning."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daybreak.lab.model import Model

__version__ = "0.1.0"


def load(name: str) -> Model:
    """Load a model: "music", "music@3", "music@production", a run ("music:small#41") or a saved model's folder.

    A bare name is its production version, else the weights that come with the system, else its newest version, else
    the newest finished run, with a warning. Raises `daybreak.errors.UserError` with what would work.
    """
    import warnings

    from daybreak.lab.home import Lab
    from daybreak.lab.model import Model
    from daybreak.lab.registry import locate

    place = locate(Lab.existing(), name)
    if place.note:
        warnings.warn(place.note, stacklevel=2)
    return Model.load(place.path)
