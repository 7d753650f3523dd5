"""Learning from listeners: direct preference optimisation of a composer on pairs of clips that were voted on.

Rafailov et al. (NeurIPS 2023), equation 7: the loss of a pair is -log sigmoid(beta (r(winner) - r(loser))), where r is
the log-probability of the clip's stream given its keywords, minus the same under a frozen reference model: the one that
is tuned. It knows votes, tokens and networks; where votes come from is told in `listen`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from daybreak.errors import UserError
from daybreak.lab.batches import Batch, Order
from daybreak.lab.recipe import Config, Gate, Metric, Recipe, Score
from daybreak.systems.music import context
from daybreak.systems.music import tokens as T
from daybreak.systems.music.data import VOTE
from daybreak.systems.music.data.votes import SIDES, streams
from daybreak.systems.music.decode import decoder, sample
from daybreak.systems.music.model import Music, shown
from daybreak.systems.music.net import Decoder
from daybreak.systems.music.pairs import rules_of
from daybreak.systems.music.recipe import padded

if TYPE_CHECKING:
    from daybreak.lab.lake import Item, Snapshot, Split
    from daybreak.lab.model import Model
    from daybreak.media import Media


class TuneConfig(Config):
    """What a run of `music:tune` may change."""

    base: str = "music"
    """The model to tune, which is also the reference: a registered model, a run, or the folder of a saved model."""
    steps: int = Field(200, ge=0)
    """Updates to make. The schedule's horizon."""
    batch: int = Field(8, ge=1)
    """Pairs in one update, over all parts and ranks."""
    lr: float = Field(1e-4, gt=0)
    """Peak learning rate."""
    warmup: int = Field(10, ge=0)
    """Steps of linear warm-up."""
    schedule: Literal["constant", "cosine", "linear", "inverse_sqrt"] = "cosine"
    """Shape of the learning rate after the warm-up."""
    floor: float = Field(0.1, ge=0, le=1)
    """Share of the peak learning rate at which the schedule ends."""
    clip: float = Field(1.0, ge=0)
    """Largest gradient norm; 0 leaves gradients alone."""
    beta: float = Field(0.1, gt=0)
    """How dear it is to leave the reference: small values go far from it."""
    normalise: bool = True
    """Whether a clip's reward is divided by its number of tokens, times 100. A sum is dominated by the length."""


PER = 100
"""Tokens to which a normalised reward is scaled, so that `beta` means about the same for both kinds."""


@dataclass(frozen=True)
class Voted:
    """A vote as a batch has it: the preferred stream first."""

    item: Item
    row: np.ndarray
    streams: tuple[np.ndarray, np.ndarray]
    given: bool


def decided(items: Sequence[Item]) -> list[Item]:
    """The votes among items in which a clip was preferred."""
    return [item for item in items if item.labels.get("kind") == VOTE and item.labels.get("winner") in SIDES]


def voted(item: Item, data: Snapshot) -> Voted:
    """Read a vote."""
    row, both, given = streams(item, lambda part: data.read(item, part))
    first, second = ("a", "b") if item.labels["winner"] == "a" else ("b", "a")
    return Voted(item, row, (both[first], both[second]), given)  # type: ignore[index]  # one of SIDES


def batch_of(votes: Sequence[Voted]) -> Batch:
    """Votes as tensors, "batch 2 time", the preferred clip at 0."""
    flat = [stream for vote in votes for stream in vote.streams]
    tokens = padded([stream.astype(np.int64) for stream in flat])
    marks = padded([context.marks(stream) for stream in flat])
    learned = tokens != T.PAD
    for n, vote in enumerate(votes):
        if vote.given:  # chords that were asked for were not the composer's choice
            learned[2 * n : 2 * n + 2] &= tokens[2 * n : 2 * n + 2] < T.CHORD
    rows = np.stack([vote.row for vote in votes]).astype(np.int64) + T.OFFSETS
    tensors = {
        "keywords": torch.from_numpy(rows),
        "tokens": tokens.reshape(-1, 2, *tokens.shape[1:]),
        "marks": marks.reshape(-1, 2, *marks.shape[1:]),
        "learned": learned.reshape(-1, 2, *learned.shape[1:]),
    }
    return Batch(tuple(vote.item.id for vote in votes), tensors)


def log_probabilities(net: Decoder, batch: Batch) -> Float[Tensor, "batch 2"]:
    """Log-probability of each clip's stream given its keywords, in nats. The first token, always Bar, is given."""
    room = net.config.context + 1
    tokens, marks, learned = (batch[name][:, :, :room].flatten(0, 1) for name in ("tokens", "marks", "learned"))
    logits = net(batch["keywords"].repeat_interleave(2, 0), tokens[:, :-1], marks[:, :-1])
    losses = F.cross_entropy(logits.float().transpose(1, 2), tokens[:, 1:], reduction="none")
    out: Tensor = -(losses * learned[:, 1:]).sum(1)
    return out.reshape(-1, 2)


class Votes:
    """The training batches: all decided votes, epoch after epoch. Pure in (seed, step)."""

    def __init__(self, config: TuneConfig, data: Snapshot) -> None:
        self.config, self.data = config, data
        self._votes: list[Item] | None = None

    def items(self, step: int) -> tuple[str, ...]:
        """The votes of a step's batch."""
        return tuple(item.id for item in self._drawn(step))

    def __call__(self, step: int) -> Batch:
        return batch_of([voted(item, self.data) for item in self._drawn(step)])

    def _drawn(self, step: int) -> list[Item]:
        if self._votes is None:
            self._votes = decided(self.data.split("train"))
            if not self._votes:
                raise UserError(
                    "there is no vote to learn from in the training split; "
                    "make a page with `daybreak music listen --pairs generated`, vote, and bring the votes home"
                )
            self._order = Order(len(self._votes), self.config.batch, self.config.seed)
        return [self._votes[int(n)] for n in self._order(step)]

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config, "data": self.data, "_votes": None}


class Base:
    """The model that is tuned, frozen. Its weights are not checkpointed: a run remembers where they were, and which."""

    def __init__(self, text: str, data: Snapshot, device: torch.device | str) -> None:
        from daybreak.lab.registry import locate

        place = locate(getattr(data, "lab", None), text)
        self.text, self.title, self.device = text, place.title, device
        self._read(place.path)

    def _read(self, path: Path) -> None:
        self.path, self.model = path.absolute(), Music.load(path)
        self.digest = hashlib.sha256((path / "weights.safetensors").read_bytes()).hexdigest()
        self.model.net.to(self.device)

    def state_dict(self) -> dict[str, Any]:
        """Where the weights were, and their digest."""
        return {"path": str(self.path), "digest": self.digest}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Find the weights of that digest again. Raises `UserError` where they are gone."""
        if self.digest == state["digest"]:
            return
        path = Path(state["path"])
        if path != self.path and (path / "weights.safetensors").is_file():
            self._read(path)
        if self.digest != state["digest"]:
            raise UserError(
                f"the base {self.text!r} ({self.title}) has other weights than when this run began; they were in "
                f"{state['path']}: put them back, or begin a new run"
            )


class Tune(Recipe[TuneConfig]):
    """A composer and votes on its clips -> a composer that makes more of what was preferred.

    Votes without a preference are not learned from. "preferred" is the share of held-out votes in which the tuned
    model's reward is higher for the clip that the listener chose; before the first update every pair counts half.
    """

    Config = TuneConfig
    goal = Metric("preferred", "higher", "share of pairs")
    gates = (Gate(goal, 0.6),)

    @staticmethod
    def batches(config: TuneConfig, data: Snapshot) -> Votes:
        return Votes(config, data)

    def __init__(self, config: TuneConfig, data: Snapshot, device: torch.device | str = "cpu") -> None:
        super().__init__(config, data, device)
        self.base = Base(config.base, data, device)
        size = self.base.model.config.net
        # No dropout: the reward compares two networks on the same clip, not two draws of one.
        self.net = decoder(size).to(device).eval()
        self.net.load_state_dict(self.base.model.net.state_dict())
        self.optimiser("net", self.net.parameters(), betas=(0.9, 0.95), weight_decay=0.0)

    def items(self, split: Split) -> Sequence[Item]:
        """The decided votes of a split."""
        return decided(self.data.split(split))

    def state(self) -> Mapping[str, Base]:
        return {"base": self.base}

    def rewards(self, batch: Batch) -> Float[Tensor, "batch 2"]:
        """The implicit reward of each clip: beta times what tuning has added to its log-probability."""
        longest, room = int((batch["tokens"] != T.PAD).sum(2).max()), self.net.config.context
        if longest > room + 1:
            raise UserError(
                f"a vote in {', '.join(batch.items)} has a clip of {longest} tokens, and the context of "
                f"{self.base.title} holds {room}: tune the model that composed it"
            )
        with torch.no_grad():
            before = log_probabilities(self.base.model.net, batch)
        gained = log_probabilities(self.net, batch) - before
        if self.config.normalise:
            gained = gained * PER / batch["learned"].sum(2)
        return self.config.beta * gained

    def step(self, batch: Batch, step: int) -> dict[str, Tensor | float]:
        """One update. `margin`: how much higher the preferred clips' reward is; `chosen`: their reward."""
        rewards = self.rewards(batch)
        margin = rewards[:, 0] - rewards[:, 1]
        loss = -F.logsigmoid(margin).mean()
        self.update("net", loss)
        return {
            "loss": loss.detach(),
            "margin": margin.detach().mean(),
            "chosen": rewards[:, 0].detach().mean(),
            "preferred": _share(margin.detach()).mean(),
        }

    def evaluate(self, items: Sequence[Item]) -> Iterator[Score]:
        """A score for each vote; the first `samples` of the split come with what is now composed for their keywords,
        beside the clip that was preferred."""
        heard = {item.id for item in self.items(items[0].split)[: self.config.samples]} if items else set()
        for item in items:
            vote = voted(item, self.data)
            rewards = self.rewards(batch_of([vote]).to(self.device))[0]
            margin = rewards[0] - rewards[1]
            values = {
                "preferred": float(_share(margin)),
                "margin": float(margin),
                "loss": float(-F.logsigmoid(margin)),
            }
            composed, natural = self._heard(vote) if item.id in heard else ({}, {})
            yield Score(item.id, item.group, values, composed, natural)

    def model(self) -> Model:
        return Music(self.base.model.config, net=self.net, copies=getattr(self.base.model, "copies", None))

    def _heard(self, vote: Voted) -> tuple[dict[str, Media], dict[str, Media]]:
        chords = T.decode(vote.streams[0], T.METRES[str(T.value(vote.row, "metre") or "4/4")].beats)[1]
        rules = rules_of(vote.row, int((vote.streams[0] == T.BAR).sum()), chords if vote.given else None)
        seed = int.from_bytes(hashlib.blake2b(vote.item.id.encode(), digest_size=4).digest())
        made = sample(self.net, [vote.row], rules, seed)[0]
        return shown(vote.row, made), shown(vote.row, vote.streams[0])


def _share(margin: Tensor) -> Tensor:
    """1 where the preferred clip has the higher reward, 0 where the other has, half where they are equal."""
    return (margin.sign() + 1) / 2
