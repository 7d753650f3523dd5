"""How the composer trains: batches of clips, the loss, the scores of held-out clips.

It knows items, tokens and the network; runs, nights and the update are the lab's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from daybreak.errors import UserError
from daybreak.lab.batches import Batch, Order
from daybreak.lab.recipe import Config, Gate, Metric, Recipe, Score, mean
from daybreak.systems.music import tokens as T
from daybreak.systems.music.data import clips
from daybreak.systems.music.net import Decoder, NetConfig

if TYPE_CHECKING:
    from daybreak.lab.lake import Item, Snapshot
    from daybreak.lab.model import Model
    from daybreak.media import Media

BLOCK = 16
"""Batches that are sorted by length together."""
TEMPLATES = 1024
"""Rows of keywords that a model keeps, to complete requests from."""


def _validity(scores: Sequence[Score]) -> float:
    return mean("validity")([score for score in scores if "validity" in score.values])


VALIDITY = Metric("validity", "higher", "share of composed clips", _validity)
"""Well-formed, with exactly the bars asked for, every note in the MIDI file. NaN where nothing was composed."""


class ComposeConfig(Config):
    """What a run of `music:compose` may change."""

    steps: int = Field(2000, ge=0)
    """Updates to make. The schedule's horizon."""
    batch: int = Field(16, ge=1)
    """Clips in one update, over all parts and ranks."""
    lr: float = Field(1.5e-3, gt=0)
    """Peak learning rate."""
    warmup: int = Field(50, ge=0)
    """Steps of linear warm-up."""
    schedule: Literal["constant", "cosine", "linear", "inverse_sqrt"] = "cosine"
    """Shape of the learning rate after the warm-up."""
    floor: float = Field(0.05, ge=0, le=1)
    """Share of the peak learning rate at which the schedule ends."""
    clip: float = Field(1.0, ge=0)
    """Largest gradient norm; 0 leaves gradients alone."""
    net: NetConfig = NetConfig()
    """The network."""
    decay: float = Field(0.05, ge=0)
    """Weight decay of the matrices."""
    drop_keywords: float = Field(0.15, ge=0, le=1)
    """Share of the keywords that training hides, so that any may be left out."""
    transpose: bool = True
    """Whether training clips are transposed by -6 to +5 semitones, anew each time they are seen."""
    clips_per_song: int = Field(3, ge=0)
    """Clips of each held-out song that are scored, spread over its parts; 0 scores all."""
    temperature: float = Field(1.0, gt=0, le=4)
    """Temperature of the samples that an evaluation composes."""
    top_p: float = Field(0.95, gt=0, le=1)
    """Probability mass from which those samples are drawn."""


class Clips:
    """The training batches. A song's turn gives one of its clips; all of its clips come before one comes again.

    Pure in (seed, step): a block of batches is drawn, sorted by length so that little is padded, and dealt in a drawn
    order. The songs' tokens are opened on first call and kept for the latest songs alone.
    """

    KEPT = 2048
    """Songs whose tokens are held in memory (about 15 KB each)."""

    def __init__(self, config: ComposeConfig, data: Snapshot) -> None:
        self.config, self.data = config, data
        self._start()

    def _start(self) -> None:
        self._songs: Sequence[Item] | None = None
        self._order: Order | None = None
        self._held: dict[int, dict[str, np.ndarray]] = {}
        self._block: tuple[int, list[list[tuple[str, np.ndarray, np.ndarray]]]] | None = None

    def items(self, step: int) -> tuple[str, ...]:
        """The clips of a step's batch, as "ID#CLIP"."""
        return tuple(name for name, _, _ in self._drawn(step))

    def __call__(self, step: int) -> Batch:
        drawn = self._drawn(step)
        keywords = np.stack([row.astype(np.int64) + T.OFFSETS for _, row, _ in drawn])
        tensors = {"keywords": torch.from_numpy(keywords), "tokens": padded([stream for _, _, stream in drawn])}
        return Batch(tuple(name for name, _, _ in drawn), tensors)

    def _drawn(self, step: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
        block, place = divmod(step, BLOCK)
        if self._block is None or self._block[0] != block:
            if self._order is None:
                self._songs = self.data.split("train")
                self._order = Order(len(self._songs), self.config.batch * BLOCK, self.config.seed)
            songs, epochs = self._order(block), self._order.epoch(block)
            drawn = [self._clip(int(song), int(epoch)) for song, epoch in zip(songs, epochs, strict=True)]
            drawn.sort(key=lambda clip: len(clip[2]))
            size = self.config.batch
            deal = np.random.default_rng((self.config.seed, block, 1)).permutation(BLOCK)
            self._block = block, [drawn[n * size : (n + 1) * size] for n in deal]
        return self._block[1][place]

    def _clip(self, song: int, epoch: int) -> tuple[str, np.ndarray, np.ndarray]:
        """A song's clip at its `epoch`-th turn: name, keywords, stream. A song without clips passes to the next."""
        assert self._songs is not None
        for _ in range(len(self._songs)):
            made = self._made(song)
            if count := len(made["keywords"]):
                break
            song = (song + 1) % len(self._songs)
        else:
            raise UserError("none of the training items has a clip: they have no regular bars with notes in them")
        turn, place = divmod(epoch, count)
        index = int(np.random.default_rng((self.config.seed, song, turn, 2)).permutation(count)[place])
        draw = np.random.default_rng((self.config.seed, song, epoch, 3))
        stream = made["tokens"][made["offsets"][index] : made["offsets"][index + 1]]
        row = made["keywords"][index]
        shift, hidden = int(draw.integers(-6, 6)), draw.random(len(row)) < self.config.drop_keywords
        if self.config.transpose:
            stream, row = T.transpose(stream, row, shift)
        return f"{self._songs[song].id}#{index}", np.where(hidden, 0, row), stream[: self.config.net.context + 1]

    def _made(self, song: int) -> dict[str, np.ndarray]:
        if song not in self._held:
            assert self._songs is not None
            if len(self._held) >= self.KEPT:
                self._held.pop(next(iter(self._held)))
            self._held[song] = self.data.derived(clips, self._songs[song])
        return self._held[song]

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config, "data": self.data}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.config, self.data = state["config"], state["data"]
        self._start()


def padded(streams: Sequence[np.ndarray]) -> Tensor:
    """Streams of different lengths as one tensor, "batch time" of int64, with PAD behind the shorter ones.

    Lengths come in steps of 32 (and one, the token that is only predicted): kernels are kept by shape, and a shape for
    each length would fill gigabytes.
    """
    longest = max(len(stream) for stream in streams)
    out = np.full((len(streams), -(-(longest - 1) // 32) * 32 + 1), T.PAD, np.int64)
    for line, stream in zip(out, streams, strict=True):
        line[: len(stream)] = stream
    return torch.from_numpy(out)


class Compose(Recipe[ComposeConfig]):
    """Keywords -> one part of 4 or 8 bars.

    The loss is the mean cross-entropy of the stream's tokens, chords included; keywords are given, never predicted.
    "note NLL" leaves chords out: nats a token over Bar, Position, Pitch, Velocity, Duration and EOS, given keywords
    and chords; the mean of a clip's tokens, then of the clips, each weighing the same.
    """

    Config = ComposeConfig
    presets: ClassVar[Mapping[str, ComposeConfig]] = {
        "tiny": ComposeConfig(
            batch=12, lr=3e-3, net=NetConfig(layers=4, width=128, heads=4, inner=512, context=512), clips_per_song=2
        ),
        "small": ComposeConfig(precision="bf16"),
    }
    derives = (clips,)
    goal = Metric("note NLL", "lower", "nats/token")
    gates = (Gate(goal, 2.0), Gate(VALIDITY, 1.0))
    clock = "tokens"

    @staticmethod
    def batches(config: ComposeConfig, data: Snapshot) -> Clips:
        return Clips(config, data)

    def __init__(self, config: ComposeConfig, data: Snapshot, device: torch.device | str = "cpu") -> None:
        super().__init__(config, data, device)
        self.songs = data
        self.net = Decoder(config.net, T.VOCABULARY, T.STREAM, len(T.FIELDS)).to(device)
        matrices = [p for p in self.net.parameters() if p.ndim >= 2]
        others = [p for p in self.net.parameters() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": config.decay}, {"params": others, "weight_decay": 0.0}]
        self.optimiser("net", groups, betas=(0.9, 0.95))

    def step(self, batch: Batch, step: int) -> dict[str, Tensor | float]:
        """One update. `tokens`: those that were learned from."""
        tokens = batch["tokens"]
        logits = self.net(batch["keywords"], tokens[:, :-1])
        targets = tokens[:, 1:]
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=T.PAD)
        self.update("net", loss)
        return {"loss": loss.detach(), "tokens": float((targets != T.PAD).sum())}

    def evaluate(self, items: Sequence[Item]) -> Iterator[Score]:
        """A score for each of a song's clips ("ID#CLIP"); one clip of each of the first `samples` songs comes with
        what the network composes from that clip's keywords and chords."""
        shown = self._shown(items)
        self.net.eval()
        for item in items:
            made = self.songs.derived(clips, item)
            count = len(made["keywords"])
            wanted = min(count, self.config.clips_per_song or count)
            places = [(2 * n + 1) * count // (2 * wanted) for n in range(wanted)]
            streams = [made["tokens"][made["offsets"][n] : made["offsets"][n + 1]] for n in places]
            for first in range(0, wanted, 16):
                part = slice(first, first + 16)
                values = self._values(made["keywords"][places[part]], streams[part])
                for n, stream, value in zip(places[part], streams[part], values, strict=True):
                    sample: Mapping[str, Media] = {}
                    natural: Mapping[str, Media] = {}
                    if shown.get(item.id, -1) % wanted == places.index(n) and item.id in shown:
                        sample, natural, valid = self._composed(item.id, made["keywords"][n], stream)
                        value = {**value, "validity": valid}
                    yield Score(f"{item.id}#{n}", item.group, value, sample, natural)

    def model(self) -> Model:
        from daybreak.systems.music.model import Music, MusicConfig

        return Music(MusicConfig(net=self.config.net, templates=self._templates()), net=self.net)

    def _shown(self, items: Sequence[Item]) -> dict[str, int]:
        """The items that come with a sample, numbered. They do not change where an evaluation goes on in its midst."""
        if not items:
            return {}
        from daybreak.lab.evaluate import spread

        split = self.songs.split(items[0].split)
        most = self.config.evaluate_items
        first = spread(split, most) if most else [split[n] for n in range(min(self.config.samples, len(split)))]
        return {item.id: n for n, item in enumerate(first[: self.config.samples])}

    @torch.inference_mode()
    def _values(self, rows: np.ndarray, streams: Sequence[np.ndarray]) -> list[dict[str, float]]:
        keywords = torch.from_numpy(rows.astype(np.int64) + T.OFFSETS).to(self.device)
        tokens = padded([stream[: self.config.net.context + 1] for stream in streams]).to(self.device)
        logits = self.net(keywords, tokens[:, :-1]).float()
        targets = tokens[:, 1:]
        losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        note = (targets != T.PAD) & (targets < T.CHORD)
        pitch = (targets >= T.PITCH) & (targets < T.VELOCITY)
        found = (logits.argmax(-1) == targets).float()
        counts = note.sum(1).clamp(min=1)
        nll, likeliest = (losses * note).sum(1) / counts, (found * note).sum(1) / counts
        pitches = (losses * pitch).sum(1) / pitch.sum(1).clamp(min=1)
        names = ("note NLL", "pitch NLL", "top-1")
        return [dict(zip(names, values, strict=True)) for values in torch.stack([nll, pitches, likeliest], 1).tolist()]

    def _composed(
        self, name: str, row: np.ndarray, stream: np.ndarray
    ) -> tuple[dict[str, Media], dict[str, Media], float]:
        from daybreak.systems.music.decode import Rules, sample
        from daybreak.systems.music.model import shown, valid

        metre = T.METRES[str(T.value(row, "metre"))]
        _, chords, bars = T.decode(stream, metre.beats)
        window = tuple(int(T.value(row, field) or 0) for field in ("min_velocity", "max_velocity"))
        rules = Rules(bars, metre.beats, (window[0], window[1]), chords if len(chords) else None, bool(len(chords)))
        seed = int.from_bytes(hashlib.blake2b(f"{name}".encode(), digest_size=4).digest())
        made = sample(self.net, [row], rules, seed, self.config.temperature, self.config.top_p)[0]
        return shown(row, made), shown(row, stream), float(valid(row, made, bars))

    def _templates(self) -> list[list[int]]:
        """Rows of keywords of the training songs, a clip of each in turn."""
        songs = self.songs.split("train")
        rows: list[list[int]] = []
        count = min(len(songs), TEMPLATES)
        for n in range(count):
            made = self.songs.derived(clips, songs[n * len(songs) // count])["keywords"]
            rows += (
                made[np.linspace(0, len(made) - 1, max(1, TEMPLATES // count)).astype(int)].tolist()
                if len(made)
                else []
            )
        return rows[:TEMPLATES]
