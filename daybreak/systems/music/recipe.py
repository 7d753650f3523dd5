"""How the composer trains: batches of clips, the loss, the scores of held-out clips.

It knows items, tokens and the network; runs, nights and the update are the lab's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from daybreak.errors import UserError
from daybreak.lab.batches import Batch, Order
from daybreak.lab.recipe import Config, Gate, Metric, Recipe, Score, mean
from daybreak.nn.muon import Muon
from daybreak.systems.music import context
from daybreak.systems.music import tokens as T
from daybreak.systems.music.copies import Copies
from daybreak.systems.music.data import clips, only_songs
from daybreak.systems.music.decode import Rules, Sampling, decoder, sample
from daybreak.systems.music.net import NetConfig
from daybreak.systems.music.rules import BY_RULE

if TYPE_CHECKING:
    from daybreak.lab.lake import Item, Snapshot, Split
    from daybreak.lab.model import Model
    from daybreak.media import Media

BLOCK = 16
"""Batches that are sorted by length together."""
GOLDEN = (5**0.5 - 1) / 2
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
    lr: float = Field(6e-3, gt=0)
    """Peak learning rate."""
    warmup: int = Field(50, ge=0)
    """Steps of linear warm-up."""
    schedule: Literal["constant", "cosine", "linear", "inverse_sqrt"] = "cosine"
    """Shape of the learning rate after the warm-up."""
    floor: float = Field(0.05, ge=0, le=1)
    """Share of the peak learning rate at which the schedule ends."""
    clip: float = Field(1.0, ge=0)
    """Largest gradient norm; 0 leaves gradients alone."""
    net: NetConfig = NetConfig(layers=4, width=320, heads=5, inner=1280, numbered=True)
    """The network."""
    compile: bool = False
    """Whether the network is compiled first: minutes at the start, faster steps on a GPU."""
    decay: float = Field(0.05, ge=0)
    """Weight decay of the matrices."""
    kind: Literal["adamw", "muon"] = "muon"
    """Optimiser of the blocks' matrices; everything else has AdamW. Muon (Jordan, 2024): orthogonalised momentum."""
    shuffle: bool = True
    """Whether the keywords come in an order drawn anew. A network that reads them as a set does not notice."""
    drop_keywords: float = Field(0.15, ge=0, le=1)
    """Share of the keywords that training hides, so that any may be left out."""
    drop_all: float = Field(0.1, ge=0, le=1)
    """Share of the clips whose keywords are all hidden: what guidance compares with."""
    context: float = Field(0.4, ge=0, le=1)
    """Share of the clips that are learned beside another part, or as bars within the rest; a numbered network's."""
    transpose: bool = True
    """Whether training clips are transposed by -6 to +5 semitones, anew each time they are seen."""
    clips_per_song: int = Field(3, ge=0)
    """Clips of each held-out song that are scored, spread over its parts; 0 scores all."""
    temperature: float = Field(1.0, gt=0, le=4)
    """Temperature of the samples that an evaluation composes."""
    top_p: float = Field(0.95, gt=0, le=1)
    """Probability mass from which those samples are drawn."""


@dataclass(frozen=True)
class Drawn:
    """A clip as a batch has it."""

    name: str
    keywords: np.ndarray
    """Their token ids."""
    tokens: np.ndarray
    """The context, if there is one, and the stream."""
    marks: np.ndarray
    start: int
    """Where the stream begins: nothing before it is learned."""


SEED = ComposeConfig(
    kind="adamw", lr=1e-3, warmup=100, schedule="inverse_sqrt", decay=0.0, shuffle=False, drop_keywords=0.0,
    drop_all=0.0, context=0.0,
    net=NetConfig(layers=6, width=500, heads=10, inner=1000, keywords="sequence", dropout=0.1),
)  # fmt: skip
"""ComMU's size and recipe (Lee et al., 2022), on our decoder and tokens; every keyword present, no weight decay."""


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
        self._block: tuple[int, list[list[Drawn]]] | None = None

    def items(self, step: int) -> tuple[str, ...]:
        """The clips of a step's batch, as "ID#CLIP"."""
        return tuple(drawn.name for drawn in self._drawn(step))

    def __call__(self, step: int) -> Batch:
        drawn = self._drawn(step)
        tensors = {
            "keywords": torch.from_numpy(np.stack([one.keywords for one in drawn])),
            "tokens": padded([one.tokens for one in drawn]),
            "starts": torch.tensor([one.start for one in drawn]),
            "marks": padded([one.marks for one in drawn]),
        }
        return Batch(tuple(one.name for one in drawn), tensors)

    def _drawn(self, step: int) -> list[Drawn]:
        block, place = divmod(step, BLOCK)
        if self._block is None or self._block[0] != block:
            if self._order is None:
                self._songs = only_songs(self.data.split("train"))
                if not len(self._songs):
                    raise UserError("the snapshot has no song to train on; daybreak lake add music PATH brings some")
                self._order = Order(len(self._songs), self.config.batch * BLOCK, self.config.seed)
            songs, epochs = self._order(block), self._order.epoch(block)
            drawn = [self._clip(int(song), int(epoch)) for song, epoch in zip(songs, epochs, strict=True)]
            drawn.sort(key=lambda clip: len(clip.tokens))
            size = self.config.batch
            deal = np.random.default_rng((self.config.seed, block, 1)).permutation(BLOCK)
            self._block = block, [drawn[n * size : (n + 1) * size] for n in deal]
        return self._block[1][place]

    def _clip(self, song: int, epoch: int) -> Drawn:
        """A song's clip at its `epoch`-th turn. A song without clips passes to the next."""
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
        row, stream = made["keywords"][index], stream_of(made, index)
        shift, hidden = int(draw.integers(-6, 6)), draw.random(len(row)) < self.config.drop_keywords
        if draw.random() < self.config.drop_all:
            hidden[:] = True
        beside = context.NONE
        if self.config.net.numbered and draw.random() < self.config.context:
            beside, stream = _beside(made, index, draw)
            if len(beside.tokens) + len(stream) > self.config.net.context + 1:
                beside, stream = context.NONE, stream_of(made, index)
        if self.config.transpose:
            together = np.concatenate([beside.tokens, stream])
            moved = T.transpose(together, row, shift)[0]
            if moved is not together:
                row = T.transpose(stream_of(made, index), row, shift)[1]
            beside, stream = replace(beside, tokens=moved[: len(beside.tokens)]), moved[len(beside.tokens) :]
        ids = np.where(hidden, 0, row).astype(np.int64) + T.OFFSETS
        if self.config.shuffle:
            ids = draw.permutation(ids)
        marks = np.concatenate([beside.marks, context.marks(stream, beside.first)])
        tokens = np.concatenate([beside.tokens, stream])[: self.config.net.context + 1]
        return Drawn(f"{self._songs[song].id}#{index}", ids, tokens, marks[: len(tokens)], len(beside.tokens))

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


def stream_of(made: Mapping[str, np.ndarray], index: int) -> np.ndarray:
    """One clip's stream, of those that `data.clips` derives."""
    return made["tokens"][made["offsets"][index] : made["offsets"][index + 1]]


def _beside(
    made: Mapping[str, np.ndarray], index: int, draw: np.random.Generator
) -> tuple[context.Context, np.ndarray]:
    """A context drawn for a clip, and what is then composed of it: beside one or two of its song's other parts, or the
    bars that are missing in itself."""
    stream, row, places = stream_of(made, index), made["keywords"], made["places"]
    bars = row[index][T.COLUMN["bars"]]
    together = (places[:, :2] == places[index, :2]).all(1) & (row[:, T.COLUMN["bars"]] == bars)
    others = np.flatnonzero(together & (places[:, 2] != places[index, 2]))
    if len(others) and draw.random() < 0.5:
        chosen = draw.permutation(others)[: 1 + (draw.random() < 0.3)]
        parts = [(T.value(row[n], "role"), stream_of(made, int(n))) for n in chosen]
        return context.beside([(None if role is None else str(role), part) for role, part in parts]), stream
    count = int(bars)
    if count < 2:
        return context.NONE, stream
    length = int(draw.integers(1, count))
    first = int(draw.integers(0, count - length + 1)) if draw.random() < 0.5 else count - length
    role = T.value(row[index], "role")
    made_of = context.without(None if role is None else str(role), stream, first, first + length)
    return made_of, np.append(context.divided(stream, first, first + length)[1], T.EOS)


def padded(rows: Sequence[np.ndarray]) -> Tensor:
    """Streams of different lengths as one tensor, "batch time" (or "batch time marks") of int64, with PAD behind the
    shorter ones.

    Lengths come in steps of 32 (and one, the token that is only predicted): kernels are kept by shape, and a shape for
    each length would fill gigabytes.
    """
    longest = max(len(row) for row in rows)
    out = np.full((len(rows), -(-(longest - 1) // 32) * 32 + 1, *rows[0].shape[1:]), T.PAD, np.int64)
    for line, row in zip(out, rows, strict=True):
        line[: len(row)] = row
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
            batch=12,
            net=NetConfig(layers=4, width=128, heads=4, inner=512, context=512, numbered=True),
            clips_per_song=2,
        ),
        "small": ComposeConfig(),
        "base": ComposeConfig(
            batch=64, steps=10_000, warmup=500, precision="bf16", compile=True, loaders=4,
            net=NetConfig(layers=12, width=512, heads=8, inner=2048, numbered=True, dropout=0.1),
        ),
        "large": ComposeConfig(
            batch=128, steps=50_000, warmup=1000, lr=2e-3, precision="bf16", compile=True, loaders=8, ema=0.999,
            net=NetConfig(layers=24, width=1024, heads=16, inner=4096, context=2048, numbered=True, dropout=0.1),
        ),
        "seed": SEED,
        "seed_shuffled": SEED.model_copy(update={"shuffle": True}),
    }  # fmt: skip
    """`small`: about 5 M parameters, for a CPU. `base` (40 M) and `large` (300 M): GPUs. `seed`: what ComMU trains,
    with its fixed order of keywords; `seed_shuffled`: the same, with the order drawn anew for each clip."""
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
        self.net = decoder(config.net).to(device)
        if config.compile:
            self.net.compile(dynamic=True)
        inside = [p for p in self.net.blocks.parameters() if p.ndim >= 2]
        tables = [p for p in self.net.parameters() if p.ndim >= 2 and not any(p is q for q in inside)]
        others = [p for p in self.net.parameters() if p.ndim < 2]
        groups = [{"params": tables, "weight_decay": config.decay}, {"params": others, "weight_decay": 0.0}]
        if config.kind == "adamw":
            groups[0]["params"] = [*inside, *tables]
        else:
            self.optimiser("blocks", inside, Muon, weight_decay=config.decay)
        self.optimiser("net", groups, betas=(0.9, 0.95))

    def items(self, split: Split) -> Sequence[Item]:
        """Real songs alone are scored; songs composed by rule only where there are no others."""
        items = only_songs(self.songs.split(split))
        real = [item for item in items if item.labels.get("composed") != BY_RULE]
        return real or items

    def step(self, batch: Batch, step: int) -> dict[str, Tensor | float]:
        """One update. `tokens`: those that were learned from."""
        tokens = batch["tokens"]
        logits = self.net(batch["keywords"], tokens[:, :-1], batch["marks"][:, :-1])
        places = torch.arange(1, tokens.shape[1], device=tokens.device)
        # A stream's first token is always the same; after a context it would be learned.
        targets = tokens[:, 1:].where(places > batch["starts"][:, None], T.PAD)
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=T.PAD)
        self.update(tuple(self.optimisers), loss)
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
            streams = [stream_of(made, n) for n in places]
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

        # Near-copies are looked up among the real songs; of songs by rule there are no others.
        copies = Copies.of(self.songs.derived(clips, item) for item in self.items("train"))
        config = MusicConfig(net=self.config.net, templates=self._templates(), copies=len(copies.bits))
        return Music(config, net=self.net, copies=copies)

    def _shown(self, items: Sequence[Item]) -> dict[str, int]:
        """The items that come with a sample, numbered. They do not change where an evaluation goes on in its midst."""
        if not items:
            return {}
        from daybreak.lab.evaluate import spread

        split = self.items(items[0].split)
        most = self.config.evaluate_items
        first = spread(split, most) if most else [split[n] for n in range(min(self.config.samples, len(split)))]
        return {item.id: n for n, item in enumerate(first[: self.config.samples])}

    @torch.inference_mode()
    def _values(self, rows: np.ndarray, streams: Sequence[np.ndarray]) -> list[dict[str, float]]:
        keywords = torch.from_numpy(rows.astype(np.int64) + T.OFFSETS).to(self.device)
        tokens = padded([stream[: self.config.net.context + 1] for stream in streams]).to(self.device)
        marks = padded([context.marks(stream)[: self.config.net.context + 1] for stream in streams]).to(self.device)
        logits = self.net(keywords, tokens[:, :-1], marks[:, :-1]).float()
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
        from daybreak.systems.music.model import shown, valid

        metre = T.METRES[str(T.value(row, "metre"))]
        _, chords, bars = T.decode(stream, metre.beats)
        window = tuple(int(T.value(row, field) or 0) for field in ("min_velocity", "max_velocity"))
        rules = Rules(bars, metre.beats, (window[0], window[1]), chords if len(chords) else None, bool(len(chords)))
        seed = int.from_bytes(hashlib.blake2b(f"{name}".encode(), digest_size=4).digest())
        how = Sampling(self.config.temperature, self.config.top_p)
        made = sample(self.net, [row], rules, seed, how)[0]
        return shown(row, made), shown(row, stream), float(valid(row, made, bars))

    def _templates(self) -> list[list[int]]:
        """Rows of keywords of the training songs, from all over each song by steps of the golden ratio: the first clip
        of every song would be its melody, and no other role would count as taught."""
        train = only_songs(self.songs.split("train"))
        rows: list[list[int]] = []
        count = min(len(train), TEMPLATES)
        each = max(1, TEMPLATES // max(1, count))
        for n in range(count):
            made = self.songs.derived(clips, train[n * len(train) // count])["keywords"]
            places = (np.arange(n * each, (n + 1) * each) * GOLDEN) % 1 * len(made)
            rows += made[places.astype(int)].tolist() if len(made) else []
        return rows[:TEMPLATES]
