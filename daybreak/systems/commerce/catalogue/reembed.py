"""Embedding a catalogue again with another model: new vectors grow beside the old, and one commit swaps them.

    again = Reembedding(catalogue, model="shopnet-2", spaces={"product": 128})
    for rows in again.missing():
        again.add(rows, embed(rows))
    again.swap()

The old vectors answer searches until the swap, and the shop may go on changing the catalogue. A job that was killed
goes on where it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from daybreak.errors import UserError
from daybreak.systems.commerce.catalogue.manifest import BESIDE, MANIFEST, Part, write
from daybreak.systems.commerce.catalogue.rows import Row
from daybreak.systems.commerce.catalogue.store import Catalogue
from daybreak.systems.commerce.catalogue.writer import LARGEST, Added, write_parts


class Reembedding:
    """New vectors for all rows of a catalogue."""

    def __init__(self, catalogue: Catalogue, model: str, spaces: Mapping[str, int]) -> None:
        """Begin, or go on where a job for the same model was.

        Raises:
            UserError: the catalogue is of this model already, or a job for another one is under way.
        """
        if model == catalogue.model:
            raise UserError(f"the catalogue {catalogue.path} has the vectors of {model} already")
        self.catalogue = catalogue
        folder = catalogue.path / BESIDE
        if (folder / MANIFEST).exists():
            self._new = Catalogue(folder, auto_index=False)
            if self._new.model != model or self._new.spaces != dict(spaces):
                raise UserError(
                    f"{catalogue.path} is being embedded with {self._new.model}, not {model}; "
                    f"finish that, or delete {folder}"
                )
        else:
            # A folder without a manifest is what a kill left of its making.
            shutil.rmtree(folder, ignore_errors=True)
            self._new = Catalogue.create(folder, model, spaces, auto_index=False)

    def missing(self, batch: int = 256) -> Iterator[list[Row]]:
        """The rows that have no new vectors yet, in batches."""
        waiting: list[Row] = []
        for row in self.catalogue.rows():
            if not self._new.has(row.id, row.digest):
                waiting.append(row)
            if len(waiting) == batch:
                yield waiting
                waiting = []
        if waiting:
            yield waiting

    def add(self, rows: Sequence[Row], vectors: Mapping[str, Float[np.ndarray, "n d"]]) -> Added:
        """Keep new vectors of some rows, durably."""
        with self._new.writing() as writer:
            return writer.add(rows, vectors)

    def swap(self) -> None:
        """Make the new vectors the catalogue's, in one commit. Rows keep the fields that they have now.

        Raises:
            UserError: rows without new vectors, as those added meanwhile; nothing was changed.
        """
        path = self.catalogue.path
        with self.catalogue.writing() as writer:
            view, new = self.catalogue.view(), self._new.view()
            at = np.full(view.rows, -1, np.int64)
            for start in range(0, view.rows, LARGEST):
                rows = [view.row(int(i)) for i in view.positions[start : start + LARGEST]]
                found = new.find([row.id for row in rows])
                for i, row in enumerate(rows):
                    if found[i] >= 0 and new.row(int(found[i])).digest == row.digest:
                        at[start + i] = found[i]
            if (at < 0).any():
                raise UserError(
                    f"{int((at < 0).sum())} of {view.rows} items have no vectors of {new.manifest.model} yet; "
                    "embed what is missing, then swap"
                )
            manifest = view.manifest
            parts: list[Part] = []
            number = manifest.next
            for start in range(0, view.rows, LARGEST):
                rows = [view.row(int(i)) for i in view.positions[start : start + LARGEST]]
                some = at[start : start + LARGEST]
                more, number = write_parts(
                    path,
                    number,
                    rows,
                    lambda space, part, some=some: new.vectors(some[part], space),
                    new.manifest.spaces,
                )
                parts += more
            changed = {
                "model": new.manifest.model, "spaces": new.manifest.spaces, "parts": tuple(parts), "next": number,
                "generation": manifest.generation + 1,
            }  # fmt: skip
            write(path / MANIFEST, manifest.model_copy(update=changed))
            writer.collect()
