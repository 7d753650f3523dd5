"""Batches: which items a step sees, and getting them ready in the background.

The order of items is a pure function of (seed, step), so that a resumed run sees what an uninterrupted one sees, and
a spike can name the items of its batch. This file knows nothing about files, nets or runs.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Tensors whose first axis is the item, and the items' ids in that order."""

    items: tuple[str, ...]
    tensors: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def part(self, index: int, parts: int) -> Batch:
        """The items [index::parts]: a share for accumulation or for a rank."""
        if parts == 1:
            return self
        tensors = {name: tensor[index::parts] for name, tensor in self.tensors.items()}
        return Batch(self.items[index::parts], tensors)

    def to(self, device: Any) -> Batch:
        """The same batch on a device."""
        return Batch(self.items, {k: v.to(device, non_blocking=True) for k, v in self.tensors.items()})


class Batches(Protocol):
    """What a recipe's `batches` returns: small, picklable, without nets; files are opened on first call."""

    def items(self, step: int) -> tuple[str, ...]:
        """The ids of the items of a step's batch, without loading them."""
        ...

    def __call__(self, step: int) -> Batch:
        """A step's batch. Pure: the same (seed, step) gives the same bits."""
        ...


class Order:
    """Epoch after epoch, all of `count` items in a new order; `batch` indices a step. Pure in (seed, step).

    The last batch of an epoch is filled from the next epoch's order, so that every batch is full and no item is lost.
    """

    def __init__(self, count: int, batch: int, seed: int) -> None:
        if count < 1:
            raise ValueError("there are no items to put in order")
        self.count, self.batch, self.seed = count, batch, seed
        self._epochs: dict[int, np.ndarray] = {}

    def __call__(self, step: int) -> np.ndarray:
        """Indices of the step's items, int64."""
        places = np.arange(step * self.batch, (step + 1) * self.batch)
        epochs, offsets = np.divmod(places, self.count)
        return np.concatenate([self._epoch(int(e))[offsets[epochs == e]] for e in np.unique(epochs)])

    def epoch(self, step: int) -> np.ndarray:
        """For each item of the step, how often it has been seen before: what augmentation is drawn from."""
        return np.arange(step * self.batch, (step + 1) * self.batch) // self.count

    def _epoch(self, epoch: int) -> np.ndarray:
        if epoch not in self._epochs:
            while len(self._epochs) >= 2:
                self._epochs.pop(min(self._epochs))
            self._epochs[epoch] = np.random.default_rng((self.seed, epoch)).permutation(self.count)
        return self._epochs[epoch]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_epochs": {}}


def prefetched(batches: Batches, start: int, stop: int, loaders: int) -> Iterator[Batch]:
    """The batches of steps [start, stop), prepared by `loaders` spawned processes, in order."""
    if loaders == 0:
        for step in range(start, stop):
            yield batches(step)
        return
    import torch
    from torch.utils.data import DataLoader

    yield from DataLoader(
        _Steps(batches),  # type: ignore[arg-type]  # torch asks for its own base class, and needs these two methods
        batch_size=None,
        sampler=range(start, stop),
        num_workers=loaders,
        multiprocessing_context="spawn",
        prefetch_factor=4,
        collate_fn=None,
        # Its own generator: a loader must not draw from the run's.
        generator=torch.Generator().manual_seed(0),
        worker_init_fn=_stay,
    )


def _stay(number: int) -> None:
    """A terminal's Ctrl-C and a service manager's SIGTERM reach the whole group: the run decides, and its loaders end
    with it."""
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, signal.SIG_IGN)


class _Steps:
    """A step index -> batch mapping, as torch's loader wants it."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> Batch:
        return self.batches(step)

    def __len__(self) -> int:
        return 2**62
