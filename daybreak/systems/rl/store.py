"""Replay: a columnar ring in which each observation is stored once.

Rows are times; a row holds one step of every copy of every seed. Frame stacks, n-step returns and sequences are built
when they are sampled. In a checkpoint the ring is an append-only log: full segments are hard-linked from the
checkpoint before, only new rows are written. It knows arrays; it knows nothing about networks.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from daybreak.errors import UserError
from daybreak.lab import codec
from daybreak.systems.rl.spec import Spec

SEGMENT = 4096
"""Steps of one copy in one file of the log, about."""


@dataclass(frozen=True)
class Block:
    """What was played: columns [time, seeds, copies, ...], and what cut-off episodes would have gone on from.

    Columns are "vector", "image", "mask" (the observation that the action answers to), "action", "reward",
    "terminated", "truncated", and whatever the policy adds (its log-probability, its carry).
    """

    columns: Mapping[str, np.ndarray]
    finals: Mapping[tuple[int, int, int], Mapping[str, np.ndarray]] = field(default_factory=dict)
    """(time, seed, copy) of each truncated step -> the observation that it led to."""
    after: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What the next action will answer to, [seeds, copies, ...]."""

    def __len__(self) -> int:
        return len(self.columns["reward"])


class Ring:
    """The last `capacity` steps of every seed, over all of its copies.

    Raises `UserError` where it does not fit into memory, unless `spill`: then columns are files that the system pages.
    """

    def __init__(self, spec: Spec, seeds: int, copies: int, capacity: int, stack: int = 1, spill: bool = False) -> None:
        self.spec, self.seeds, self.copies, self.stack, self.spill = spec, seeds, copies, stack, spill
        self.rows = -(-capacity // copies)
        self.segment = max(1, min(SEGMENT // copies, self.rows))
        self.columns: dict[str, np.ndarray] = {}
        self.finals: dict[tuple[int, int, int], Mapping[str, np.ndarray]] = {}
        """(row's number since the start, seed, copy) -> the last observation of an episode that was cut off there."""
        self.added = 0
        """Rows ever added; row n lies at n % rows."""
        self._old = 0

    @property
    def oldest(self) -> int:
        """The number of the oldest row that is there."""
        return max(0, self.added - self.rows)

    def __len__(self) -> int:
        return self.added - self.oldest

    def add(self, block: Block) -> np.ndarray:
        """Append. Returns the numbers of the rows."""
        if not self.columns:
            self._allocate({name: (column.shape[1:], column.dtype) for name, column in block.columns.items()})
        numbers = np.arange(self.added, self.added + len(block))
        at = numbers % self.rows
        for name, column in block.columns.items():
            self.columns[name][at] = column
        for (t, seed, copy), final in block.finals.items():
            self.finals[int(numbers[t]), seed, copy] = final
        self.added += len(block)
        while self._old < self.oldest:  # finals of rows that were written over
            for seed in range(self.seeds):
                for copy in range(self.copies):
                    self.finals.pop((self._old, seed, copy), None)
            self._old += 1
        return numbers

    def draw(self, random: np.random.Generator, count: int, length: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of rows and copies [seeds, count], uniform over those that `length` rows follow on."""
        span = len(self) - length + 1
        if span < 1:
            raise ValueError(f"{len(self)} rows hold no run of {length}")
        shape = (self.seeds, count)
        return self.oldest + random.integers(span, size=shape), random.integers(self.copies, size=shape)

    def column(self, name: str, rows: Int[np.ndarray, "seeds ..."], copies: Int[np.ndarray, "seeds ..."]) -> np.ndarray:
        """A column at rows and copies, for each seed: [seeds, ..., *value]."""
        which = np.arange(self.seeds).reshape(-1, *[1] * (rows.ndim - 1))
        found: np.ndarray = self.columns[name][rows % self.rows, which, copies]
        return found

    def observe(self, rows: np.ndarray, copies: np.ndarray) -> dict[str, np.ndarray]:
        """The observations at rows and copies, frames stacked on the channel axis, oldest first."""
        out = {name: self.column(name, rows, copies) for name in self.spec.observations if name != "image"}
        if "image" in self.columns:
            out["image"] = self._stacked(rows, copies)
        return out

    def _stacked(self, rows: np.ndarray, copies: np.ndarray) -> np.ndarray:
        frames = [self.column("image", rows, copies)]
        at = rows
        for _ in range(self.stack - 1):
            before = np.maximum(at - 1, self.oldest)
            # An episode's first frame stands for those before it.
            at = np.where(self._ended(before, copies) & (before < at), at, before)
            frames.append(self.column("image", at, copies))
        axis = rows.ndim
        return np.concatenate(frames[::-1], axis=axis) if self.stack > 1 else frames[0]

    def _ended(self, rows: np.ndarray, copies: np.ndarray) -> np.ndarray:
        ended: np.ndarray = self.column("terminated", rows, copies) | self.column("truncated", rows, copies)
        return ended

    def transitions(self, rows: np.ndarray, copies: np.ndarray, n: int, gamma: float) -> dict[str, Any]:
        """n-step transitions from rows and copies [seeds, batch]: "observation", "action", "reward" (the discounted
        sum), "next" (the observation to bootstrap from) and "discount" (gamma^n there, 0 where nothing follows).

        A return stops where its episode does; a truncated one is bootstrapped from the episode's last observation.
        n rows and the one after them must be there.
        """
        reward = np.zeros(rows.shape, np.float32)
        discount = np.ones(rows.shape, np.float32)
        going = np.ones(rows.shape, bool)
        reached = rows.copy()
        cut = np.zeros(rows.shape, bool)
        for k in range(n):
            at = rows + k if n > 1 else rows
            reward += np.where(going, discount * self.column("reward", at, copies), 0)
            discount *= np.where(going, gamma, 1)
            reached = np.where(going, at + 1, reached)
            terminated, truncated = self.column("terminated", at, copies), self.column("truncated", at, copies)
            discount *= ~(going & terminated)
            cut |= going & truncated & ~terminated
            going &= ~(terminated | truncated)
        # Where the episode ended, the row after is another episode's: its value is not used, or replaced below.
        following = self.observe(reached, copies)
        if cut.any():
            for place in zip(*np.nonzero(cut), strict=True):
                self._final(following, place, int(reached[place]) - 1, int(copies[place]))
        out: dict[str, Any] = {"observation": self.observe(rows, copies), "next": following, "reward": reward}
        out["action"], out["discount"] = self.column("action", rows, copies), discount
        return out

    def _final(self, into: dict[str, np.ndarray], place: tuple[np.ndarray, ...], row: int, copy: int) -> None:
        """Write the last observation of an episode that was cut off at a row into a batch."""
        final = self.finals[row, int(place[0]), copy]
        for name, value in final.items():
            if name == "image" and self.stack > 1:
                value = np.concatenate([*self._history(int(place[0]), row, copy), value], axis=0)
            into[name][place] = value

    def _history(self, seed: int, row: int, copy: int) -> list[np.ndarray]:
        """The last stack - 1 frames up to a row of one copy, oldest first."""
        frames, at = [], row
        for _ in range(self.stack - 1):
            frames.append(self.columns["image"][at % self.rows, seed, copy])
            before = max(at - 1, self.oldest)
            place = before % self.rows, seed, copy
            if not (before < at and (self.columns["terminated"][place] or self.columns["truncated"][place])):
                at = before
        return frames[::-1]

    def sequences(self, rows: np.ndarray, copies: np.ndarray, length: int) -> dict[str, Any]:
        """Runs of `length` rows from rows and copies [seeds, batch]: every column as [length, seeds, batch, ...],
        "observation" and "next" among them, and "first" where an episode begins (never at the start: the carry that
        was stored there is that of its own row). The row after them must be there."""
        times = np.arange(length)
        at = np.moveaxis(rows[..., None] + times, -1, 1)  # seeds, length, batch
        each = np.broadcast_to(copies[:, None], at.shape)
        out: dict[str, Any] = {
            name: np.moveaxis(self.column(name, at, each), 1, 0)
            for name in self.columns
            if name not in self.spec.observations
        }
        seen = self.observe(at, each)
        following = self.observe(at + 1, each)
        cut = self.column("truncated", at, each) & ~self.column("terminated", at, each)
        for place in zip(*np.nonzero(cut), strict=True):
            self._final(following, place, int(at[place]), int(each[place]))
        ended = self._ended(at, each)
        first = np.concatenate([np.zeros_like(ended[:, :1]), ended[:, :-1]], axis=1)
        out["first"] = np.moveaxis(first, 1, 0)
        out["observation"] = {name: np.moveaxis(value, 1, 0) for name, value in seen.items()}
        out["next"] = {name: np.moveaxis(value, 1, 0) for name, value in following.items()}
        return out

    def cut(self, final: Mapping[str, np.ndarray]) -> None:
        """End the newest row's episodes, as cut off at `final` [seeds, copies, ...]: their environments were lost."""
        if not self.added:
            return
        row = self.added - 1
        for seed, copy in np.ndindex(self.seeds, self.copies):
            place = row % self.rows, seed, copy
            if not (self.columns["terminated"][place] or self.columns["truncated"][place]):
                self.columns["truncated"][place] = True
                self.finals[row, seed, copy] = {name: value[seed, copy].copy() for name, value in final.items()}

    # Keeping

    def write(self, folder: Path, last: Path | None) -> None:
        """Write the ring into a folder; full segments that the folder `last` has are hard-linked."""
        numbers = range(self.oldest // self.segment, -(-self.added // self.segment))
        for number in numbers:
            begin, end = number * self.segment, (number + 1) * self.segment
            name = f"{number:08d}"
            sealed = end <= self.added
            if sealed and last is not None and (last / f"{name}.json").exists():
                for suffix in (".json", ".safetensors"):
                    os.link(last / f"{name}{suffix}", folder / f"{name}{suffix}")
                continue
            begin = max(begin, self.oldest)
            rows = np.arange(begin, min(end, self.added))
            finals = [[list(key), dict(value)] for key, value in self.finals.items() if rows[0] <= key[0] <= rows[-1]]
            columns = {name: column[rows % self.rows] for name, column in self.columns.items()}
            # A sealed segment's name promises all of its rows: one whose first rows are gone keeps a name of its own.
            name = name if sealed and begin == number * self.segment else f"{name}-{begin}-{rows[-1] + 1}"
            codec.save(folder / name, {"begin": int(begin), "columns": columns, "finals": finals})
        codec.save(folder / "ring", {"added": self.added})

    def read(self, folder: Path) -> None:
        """Fill an empty ring from what `write` wrote."""
        self.added = codec.load(folder / "ring")["added"]
        self._old = self.oldest
        for path in sorted(folder.glob("0*.json")):
            tree = codec.load(path.with_suffix(""))
            if not self.columns:
                self._allocate({name: (c.shape[1:], c.dtype) for name, c in tree["columns"].items()})
            rows = np.arange(tree["begin"], tree["begin"] + len(tree["columns"]["reward"]))
            kept = rows >= self.oldest
            for name, column in tree["columns"].items():
                self.columns[name][rows[kept] % self.rows] = column[kept]
            self.finals.update({tuple(key): value for key, value in tree["finals"] if key[0] >= self.oldest})

    def _allocate(self, shapes: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> None:
        size = sum(self.rows * int(np.prod(shape)) * kind.itemsize for shape, kind in shapes.values())
        room = available()
        if size > room and not self.spill:
            raise UserError(
                f"replay of {self.rows * self.copies:,} steps of {self.spec.name} x {self.seeds} needs "
                f"{size / 2**30:.1f} GiB and {room / 2**30:.1f} GiB of memory are free; "
                "use a smaller --replay, or --spill"
            )
        for name, (shape, kind) in shapes.items():
            whole = (self.rows, *shape)
            if self.spill:
                with tempfile.NamedTemporaryFile(prefix="daybreak-replay-") as file:
                    self.columns[name] = np.memmap(file.name, kind, "w+", shape=whole)
            else:
                self.columns[name] = np.zeros(whole, kind)


def available() -> int:
    """Bytes of memory that are free for a new allocation."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


FAN = 64
"""Nodes under each node of the sum tree: three levels, not sixteen, over 50,000 steps, and as many fewer calls."""


class Priorities:
    """Prioritised sampling (Schaul et al. 2016, section 3.3) for each seed: a sum tree over ring rows x copies.

    Sampling and updating are vectorised over seeds and batch. New entries get the largest priority seen.
    """

    def __init__(self, seeds: int, rows: int, copies: int, alpha: float) -> None:
        self.seeds, self.rows, self.copies, self.alpha = seeds, rows, copies, alpha
        sizes = [-(-rows * copies // FAN) * FAN]
        while sizes[0] > FAN:
            sizes.insert(0, -(-sizes[0] // FAN**2) * FAN)
        self.sums = [np.zeros((seeds, size)) for size in sizes]
        """From below the root down to the leaves: node n sums nodes FAN n to FAN n + FAN - 1 of the next level."""
        self.largest = np.ones(seeds)
        self._seed = np.arange(seeds)[:, None]

    @property
    def leaves(self) -> Float[np.ndarray, "seeds leaves"]:
        """Priorities to the power alpha, by row x copies + copy."""
        return self.sums[-1]

    def complete(self, ring: Ring, rows: np.ndarray, span: int) -> None:
        """After rows were added: shut what was written over, and open what they complete runs of `span` rows from."""
        self.shut(rows)
        self.open(np.arange(max(ring.oldest, rows[0] - span + 1), rows[-1] - span + 2))
        # The oldest rows have lost the frames before them.
        self.shut(np.arange(ring.oldest, min(ring.oldest + ring.stack - 1, rows[0])))

    def pick(
        self, ring: Ring, random: np.random.Generator, count: int, beta: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers of rows, copies and importance weights [seeds, count] (section 3.4); a seed's largest is 1."""
        at, copies, chances = self.draw(random, count)
        rows = ring.added - 1 - (ring.added - 1 - at) % ring.rows  # a ring position back to the number of its row
        there = np.maximum(1, (self.leaves > 0).sum(1, keepdims=True))
        weights = (there * chances) ** -beta
        return rows, copies, (weights / weights.max(1, keepdims=True)).astype(np.float32)

    def set(
        self, rows: Int[np.ndarray, "seeds batch"], copies: Int[np.ndarray, "seeds batch"], values: np.ndarray
    ) -> None:
        """Set priorities |error| + a little; zero takes an entry out."""
        self.largest = np.maximum(self.largest, values.max(axis=1, initial=0.0))
        self._put(rows, copies, values)

    def open(self, rows: np.ndarray) -> None:
        """Let all copies of the rows be sampled, with the largest priority seen."""
        self._rows(rows, self.largest[:, None])

    def shut(self, rows: np.ndarray) -> None:
        """Let no copy of the rows be sampled."""
        self._rows(rows, np.zeros((self.seeds, 1)))

    def _rows(self, rows: np.ndarray, values: np.ndarray) -> None:
        if not len(rows):
            return
        shape = (self.seeds, len(rows) * self.copies)
        every = np.broadcast_to(np.repeat(rows, self.copies), shape)
        copies = np.broadcast_to(np.tile(np.arange(self.copies), len(rows)), shape)
        self._put(every, copies, np.broadcast_to(values, shape))

    def _put(self, rows: np.ndarray, copies: np.ndarray, values: np.ndarray) -> None:
        at = (rows % self.rows) * self.copies + copies
        self.leaves[self._seed, at] = values**self.alpha
        for level in range(len(self.sums) - 2, -1, -1):
            at = at // FAN
            self.sums[level][self._seed, at] = np.add.reduce(self._below(level, at), axis=-1)

    def _below(self, level: int, at: np.ndarray) -> np.ndarray:
        """The nodes under nodes `at` [seeds, count] of a level: [seeds, count, FAN]."""
        found: np.ndarray = self.sums[level + 1].reshape(self.seeds, -1, FAN)[self._seed, at]
        return found

    def draw(self, random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ring rows, copies and probabilities [seeds, count], stratified over the total."""
        total = self.sums[0].sum(1, keepdims=True)
        mass = (np.arange(count) + random.random((self.seeds, count))) / count * total
        at = np.zeros((self.seeds, count), np.int64)
        each = np.arange(at.size).reshape(at.shape) * FAN
        for level in range(-1, len(self.sums) - 1):
            # The nodes under each drawn one, and where they begin; those below the root are the same for all.
            nodes, first = (self._below(level, at), each) if level >= 0 else (self.sums[0][:, None], self._seed * FAN)
            upto = np.add.accumulate(nodes, axis=-1)
            which = (mass[..., None] < upto).argmax(axis=-1)
            beyond = mass >= upto[..., -1]
            if beyond.any():  # by rounding: the last node that has any weight, for an empty one is never entered
                which = np.where(beyond, FAN - 1 - (nodes[..., ::-1] > 0).argmax(axis=-1), which)
            place = first + which
            weight = nodes.take(place)
            mass -= upto.take(place) - weight
            at = at * FAN + which
        return at // self.copies, at % self.copies, weight / total

    def state_dict(self) -> dict[str, Any]:
        """The leaves and the largest priority."""
        return {"leaves": self.leaves.copy(), "largest": self.largest.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give it the priorities that `state_dict` took."""
        self.leaves[:] = state["leaves"]
        self.largest = state["largest"].copy()
        for level in range(len(self.sums) - 2, -1, -1):
            whole = np.add.reduce(self.sums[level + 1].reshape(self.seeds, -1, FAN), axis=-1)
            self.sums[level][:, : whole.shape[1]] = whole
