"""What an export scores: the goal of the recipe that made the model, on test items, answered by the exported files.

A reduced precision is judged by this and not by digits: by the recipe's gate, and where it has none, by the same items
in fp32. The reading of the test set is recorded, as every one is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from daybreak.errors import UserError
from daybreak.lab.checkpoint import seed_everything
from daybreak.lab.compare import paired, signed
from daybreak.lab.config import check
from daybreak.lab.evaluate import scores, shared
from daybreak.lab.home import Lab
from daybreak.lab.lake import Item, Snapshot
from daybreak.lab.program import Run
from daybreak.lab.recipe import Recipe, Score
from daybreak.lab.registry.gates import record_reading
from daybreak.lab.ship.export.session import Session
from daybreak.lab.system import resolve, system


class Judge:
    """Scores a model, through its own nets or through an export's."""

    def __init__(self, folder: Path, data: Snapshot, split: str = "test", most: int = 0) -> None:
        try:
            self.record: dict[str, Any] = json.loads((folder / "record.json").read_text())
        except OSError as error:
            raise UserError(
                f"{folder} has no record.json, which says the recipe that scores it; fp16 and int8 need a registered "
                "version or packed weights"
            ) from error
        name, _, recipe = self.record["recipe"].partition(":")
        self.cls: type[Recipe[Any]] = resolve(system(name).recipes[recipe])
        self.folder, self.data, self.split, self.most = folder, data, split, most
        self.gate = next((gate for gate in self.cls.gates if gate.metric.name == self.cls.goal.name), None)

    def score(self, session: Session | None, names: Sequence[str]) -> list[Score]:
        """Each item's score, by the model itself (None) or by an export."""
        config = check(self.cls.Config, self.cls.shipped(self.record["config"]), f"{self.folder}/record.json")
        seed_everything(config.seed)
        recipe = self.cls(config, self.data, "cpu")
        model = recipe.model()
        model.read_weights(self.folder / "weights.safetensors")
        for net in model.nets().values():
            net.eval()
        if session is not None:
            model.through({name: _runner(session, name) for name in names})
        items = self.items(recipe)
        return list(scores(recipe, items))

    def wrong(self, found: Sequence[Score], own: Sequence[Score]) -> str:
        """Why an export with the scores `found` is not to be kept, in words, beside the model's own; "" where it is.

        Without a gate it may not be surely worse: the paired 95 % interval over the items' groups must reach equality.
        """
        goal = self.cls.goal
        value, before = goal.aggregate(found), goal.aggregate(own)
        if self.gate is not None:
            if self.gate.passes(value):
                return ""
            return f"{goal.name} is {value:.4g}, the gate asks for {self.gate.bound:g} (in fp32 it is {before:.4g})"
        interval = paired(shared(self.cls, found), shared(self.cls, own), goal)
        if interval.verdict != "worse":
            return ""
        return f"{goal.name} is {value:.4g}, in fp32 it is {before:.4g}: worse by {signed(interval)}, without a gate"

    def items(self, recipe: Recipe[Any]) -> Sequence[Item]:
        """The items that are scored: `most` of the split, evenly spread, or all of them."""
        items = recipe.items(self.split)  # type: ignore[arg-type]
        if not len(items):
            raise UserError(f"there are no {self.split} items to score an export on; open the lab that has them")
        if self.most and self.most < len(items):
            items = [items[n * len(items) // self.most] for n in range(self.most)]
        return items

    def record_reading(self, lab: Lab, value: float, what: str, by: str) -> None:
        """Write that the test set was read."""
        if self.split != "test":
            return
        config = check(self.cls.Config, self.cls.shipped(self.record["config"]), f"{self.folder}/record.json")
        items = self.items(self.cls(config, self.data, "cpu"))
        goal = {"name": self.cls.goal.name, "value": value}
        record_reading(lab, self.record["run"], self.data.id, items, export=what, goal=goal, by=by)


def _runner(session: Session, name: str) -> Run:
    run: Callable[..., tuple[Tensor, ...]] = lambda *inputs: session.call(name, inputs).outputs  # noqa: E731
    return run
