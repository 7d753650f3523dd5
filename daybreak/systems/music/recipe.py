"""How the music model is trained: clips in batches of like length, keywords dropped at random, keys transposed.

It knows clips, the network and what a night compares; how a clip is cut is `data`'s, how one is sampled `decode`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from daybreak.lab.batches import Batch, Order
from daybreak.lab.recipe import Config, Gate, Metric, Recipe, Score
from daybreak.systems.music import tokens as T
from daybreak.systems.music.data import clips
from daybreak.systems.music.model import Music, MusicConfig
from daybreak.systems.music.net import NetConfig

if TYPE_CHECKING:
    from daybreak.lab.lake import Item, Snapshot

POOL = 16
"""Batches whose clips are sorted by length together: little padding, and still another order every epoch."""
SHIFTS = 12
"""Keys that training sees each clip in: -6 to +5 semitones."""


class ComposeConfig(Config):
    """What a run of the music recipe may change."""

    net: NetConfig = NetConfig()
    steps: int = Field(4000, ge=0)
    """Updates to make. The schedule's horizon."""
    batch: int = Field(16, ge=1)
    """Clips in one update."""
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate."""
    warmup: int = Field(100, ge=0)
    """Steps of linear warm-up."""
    schedule: Literal["constant", "cosine", "linear", "inverse_sqrt"] = "cosine"
    """Shape of the learning rate after the warm-up."""
    clip: float = Field(1.0, ge=0)
    """Largest gradient norm; 0 leaves gradients alone."""
    ema: float = Field(0.999, ge=0, lt=1)
    """Decay of the moving average of the weights that is evaluated and shipped; 0 keeps none."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's decoupled weight decay."""
    drop_keywords: float = Field(0.15, ge=0, lt=1)
    """Probability that a keyword is left out, so that a request may be partial."""
    transpose: bool = True
    """Train in all twelve keys."""
    clips_per_song: int = Field(6, ge=1)
    """Clips of each held-out song that are scored, evenly over the song."""


class Clips:
    """The batches: a clip's place in the order decides its key and which keywords it says."""

    def __init__(self, config: ComposeConfig, data: Snapshot) -> None:
        self.config, self.data = config, data
        self._held: _Held | None = None

    def items(self, step: int) -> tuple[str, ...]:
        """The clips of a step, as "SONG#CLIP"."""
        held = self._open()
        return tuple(held.names[index] for index, _ in self._choose(step))

    def __call__(self, step: int) -> Batch:
        """A step's clips, padded to the longest."""
        held, config = self._open(), self.config
        chosen = self._choose(step)
        streams, rows = [], []
        for index, epoch in chosen:
            stream = held.tokens[held.offsets[index] : held.offsets[index + 1]]
            row = held.keywords[index]
            chance = np.random.default_rng((config.seed, 1, epoch, index))
            shift = int(chance.integers(SHIFTS)) - SHIFTS // 2 if config.transpose else 0
            stream, row = T.transpose(stream, row, shift)
            kept = chance.random(len(row)) >= config.drop_keywords
            streams.append(stream)
            rows.append(np.where(kept, row, 0))
        names = tuple(held.names[index] for index, _ in chosen)
        return Batch(names, {"keywords": torch.from_numpy(np.stack(rows)).long(), "tokens": pad(streams)})

    def _choose(self, step: int) -> list[tuple[int, int]]:
        """(clip, epoch) of a step: a pool of shuffled clips is sorted by length, cut and shuffled again."""
        held, batch = self._open(), self.config.batch
        pool, place = divmod(step, POOL)
        indices, epochs = held.order(pool), held.order.epoch(pool)
        by_length = np.argsort(held.lengths[indices], kind="stable").reshape(POOL, batch)
        chosen = by_length[np.random.default_rng((self.config.seed, 2, pool)).permutation(POOL)[place]]
        return [(int(indices[n]), int(epochs[n])) for n in chosen]

    def _open(self) -> _Held:
        if self._held is None:
            self._held = _Held(self.data, self.config)
        return self._held

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": None}


class _Held:
    """The training clips, flat."""

    def __init__(self, data: Snapshot, config: ComposeConfig) -> None:
        streams, rows, lengths, names = [], [], [], []
        for item in data.split("train"):
            found = data.derived(clips, item)
            sizes = np.diff(found["offsets"])
            kept = np.flatnonzero(sizes <= config.net.context)
            for index in kept:
                streams.append(found["tokens"][found["offsets"][index] : found["offsets"][index + 1]])
                names.append(f"{item.id}#{index}")
            lengths.append(sizes[kept])
            rows.append(found["keywords"][kept])
        self.names = names
        self.lengths = np.concatenate(lengths)
        self.tokens = np.concatenate(streams)
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        self.keywords = np.concatenate(rows)
        self.order = Order(len(names), config.batch * POOL, config.seed)


def pad(streams: Sequence[np.ndarray]) -> Tensor:
    """Streams as one tensor "batch time" of int64, padded at the end."""
    made = np.full((len(streams), max(map(len, streams))), T.PAD, np.int64)
    for row, stream in zip(made, streams, strict=True):
        row[: len(stream)] = stream
    return torch.from_numpy(made)


def per_token(scores: Sequence[Score]) -> float:
    """Mean over all tokens of all clips, so that a long clip counts for its length."""
    count = math.fsum(score.values["tokens"] for score in scores)
    return math.fsum(s.values["note NLL"] * s.values["tokens"] for s in scores) / count if count else math.nan


NLL = Metric("note NLL", "lower", "nats/token", per_token)
"""Negative log-likelihood of the tokens of notes (position, pitch, velocity, duration) given all before them."""


class Compose(Recipe[ComposeConfig]):
    """Teach the decoder to continue streams, given any subset of their keywords."""

    Config = ComposeConfig
    presets: ClassVar[Mapping[str, ComposeConfig]] = {
        "tiny": ComposeConfig(
            net=NetConfig(layers=3, width=128, heads=4, ff=512, context=768), steps=600, batch=8, warmup=30, lr=2e-3,
            ema=0.99, clips_per_song=3, evaluate=100,
        ),
        "small": ComposeConfig(evaluate=500),
    }  # fmt: skip
    goal = NLL
    gates = (Gate(NLL, 2.2),)
    clock = "tokens"

    @staticmethod
    def batches(config: ComposeConfig, data: Snapshot | None) -> Clips:
        """The training clips."""
        assert data is not None
        return Clips(config, data)

    def __init__(self, config: ComposeConfig, data: Snapshot | None, device: torch.device | str = "cpu") -> None:
        super().__init__(config, data, device)
        self.net = Music(MusicConfig(net=config.net)).net.to(device)
        decayed = [p for p in self.net.parameters() if p.ndim > 1]
        others = [p for p in self.net.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimiser("net", groups, betas=(0.9, 0.95))

    def step(self, batch: Batch, step: int) -> Mapping[str, Tensor | float]:
        """Cross-entropy over the stream's tokens."""
        tokens = batch["tokens"]
        real = tokens != T.PAD
        hidden = self.net.hidden(batch["keywords"], tokens)
        loss = F.cross_entropy(self.net.logits(hidden[real]).float(), tokens[real])
        self.update("net", loss)
        return {"loss": loss.detach(), "tokens": int(real.sum())}

    def evaluate(self, items: Sequence[Item]) -> Iterator[Score]:
        """Score held-out clips one by one; the first few also show what the model composes for their keywords."""
        assert self.data is not None
        shown = 0
        for item in items:
            found = self.data.derived(clips, item)
            sizes = np.diff(found["offsets"])
            fitting = np.flatnonzero(sizes <= self.config.net.context)
            most = min(self.config.clips_per_song, len(fitting))
            for index in fitting[[(2 * n + 1) * len(fitting) // (2 * most) for n in range(most)]]:
                stream = found["tokens"][found["offsets"][index] : found["offsets"][index + 1]]
                row = found["keywords"][index]
                values = self._nll(stream, row)
                sample: dict[str, Any] = {}
                natural: dict[str, Any] = {}
                if shown < self.config.samples and index == fitting[len(fitting) // 2]:
                    shown += 1
                    model = self.model()
                    sample = model.answer_to(row, seed=shown, bpm=float(found["bpm"][index]))
                    natural = model.show(stream, row, bpm=float(found["bpm"][index]))
                yield Score(f"{item.id}#{index}", item.group, values, sample, natural)

    def _nll(self, stream: np.ndarray, row: np.ndarray) -> dict[str, float]:
        tokens = torch.from_numpy(stream.astype(np.int64))[None].to(self.device)
        keywords = torch.from_numpy(row.astype(np.int64))[None].to(self.device)
        losses = F.cross_entropy(self.net(keywords, tokens)[0].float(), tokens[0], reduction="none")
        note = (tokens[0] >= T.POSITION) & (tokens[0] < T.CHORD)
        return {"note NLL": losses[note].mean().item(), "tokens": float(note.sum())}

    def model(self) -> Music:
        """The model around this recipe's network."""
        model = Music(MusicConfig(net=self.config.net))
        model.net = self.net
        return model
