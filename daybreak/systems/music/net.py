"""The network: a decoder that reads keywords as a set and the stream after them. It knows token ids and shapes; it
knows nothing about music, training or sampling.

Pre-norm blocks with RMSNorm (Zhang and Sennrich, 2019), rotary positions (Su et al., 2021), tied embedding. All
keyword tokens stand at one position and see one another; the stream sees them and its own past. So the order in which
keywords come makes no difference beyond rounding. Read as a sequence instead, they are tokens like any others.

A numbered network is also told marks of each token: small numbers, each with a table of its own, added to the token's
vector (which bar, whose).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F


class NetConfig(BaseModel):
    """The network's size."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    layers: int = Field(6, ge=1, le=64)
    """Blocks."""
    width: int = Field(256, ge=16, le=8192)
    """Size of a token's vector."""
    heads: int = Field(8, ge=1, le=128)
    """Attention heads; they divide the width into parts of even size."""
    inner: int = Field(1024, ge=16, le=32768)
    """Size inside the feed-forward layers."""
    context: int = Field(1024, ge=64, le=8192)
    """Longest stream, in tokens; the keywords come on top."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of activations dropped in training."""
    keywords: Literal["set", "sequence"] = "set"
    """How keywords are read: as a set, at one position, or one after another, as other models read them."""
    numbered: bool = False
    """Whether tokens come with their marks. What continues, fills in or accompanies needs it."""


Cache = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer, "batch heads room size": room for the keywords and a whole stream."""


class Decoder(nn.Module):
    """Keywords and a stream -> logits of each next token of the stream.

    `vocabulary` counts all ids, `stream` those that can be predicted (the first ones), `keywords` the set's size,
    `marks` the values of each mark.
    """

    def __init__(
        self, config: NetConfig, vocabulary: int, stream: int, keywords: int, marks: Sequence[int] = ()
    ) -> None:
        super().__init__()
        if config.width % (2 * config.heads):
            raise ValueError(f"width {config.width} is no even multiple of {config.heads} heads")
        self.config, self.stream, self.keywords = config, stream, keywords
        self.embedding = nn.Embedding(vocabulary, config.width)
        self.marks = nn.ModuleList(nn.Embedding(size, config.width) for size in marks if config.numbered)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width)
        self.drop = nn.Dropout(config.dropout)
        for table in (self.embedding, *self.marks):
            nn.init.normal_(table.weight, std=0.02)
        for name, weight in self.named_parameters():
            if name.endswith(("out.weight", "down.weight")):  # GPT-2: residual branches start small
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * config.layers))
            elif name.endswith(("qkv.weight", "up.weight")):
                nn.init.normal_(weight, std=0.02)
        size = config.width // config.heads
        rates = 10000.0 ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
        angles = torch.arange(keywords + config.context + 1, dtype=torch.float64)[:, None] * rates
        self.register_buffer("cos", torch.cat([angles.cos()] * 2, 1).float(), persistent=False)
        self.register_buffer("sin", torch.cat([-angles.sin(), angles.sin()], 1).float(), persistent=False)
        self.cos: Tensor
        self.sin: Tensor

    def forward(
        self,
        keywords: Int[Tensor, "batch fields"],
        tokens: Int[Tensor, "batch time"],
        marks: Int[Tensor, "batch time marks"] | None = None,
    ) -> Float[Tensor, "batch time stream"]:
        """Logits of the token after each of `tokens`. Padding goes to the right end; it changes nothing before it."""
        count, length = keywords.shape[1], tokens.shape[1]
        hidden = self.drop(self._embedded(tokens, marks, keywords))
        mask, turn = self._mask(0, count, length, tokens.device), self._turn(0, count, length, hidden.dtype)
        for block in self.blocks:
            hidden = block(hidden, turn, mask)
        return self._head(hidden[:, count:])

    def cache(self, batch: int) -> Cache:
        """Room for one stream of full context each."""
        shape = (batch, self.config.heads, self.keywords + self.config.context, self.config.width // self.config.heads)
        weight = self.embedding.weight
        return [(weight.new_zeros(shape), weight.new_zeros(shape)) for _ in self.blocks]

    def extend(
        self,
        cache: Cache,
        tokens: Int[Tensor, "batch new"],
        start: int,
        keywords: Int[Tensor, "batch fields"] | None = None,
        marks: Int[Tensor, "batch new marks"] | None = None,
    ) -> Float[Tensor, "batch stream"]:
        """Logits of the token after the last of `tokens`, which stand at `start`.. in their streams.

        The first call (`start` 0) brings the keywords. The cache is written to.
        """
        count, new = 0 if keywords is None else self.keywords, tokens.shape[1]
        old = 0 if keywords is not None else self.keywords + start
        # Explicit: a causal flag would align a longer past at the wrong corner.
        mask = self._mask(old, count, new, tokens.device) if count + new > 1 else None
        hidden = self._embedded(tokens, marks, keywords)
        turn = self._turn(old, count, new, hidden.dtype)
        for block, (keys, values) in zip(self.blocks, cache, strict=True):
            hidden = block(hidden, turn, mask, (keys, values, old))
        return self._head(hidden[:, -1])

    def _embedded(self, tokens: Tensor, marks: Tensor | None, keywords: Tensor | None) -> Tensor:
        hidden: Tensor = self.embedding(tokens)
        for n, table in enumerate(self.marks):
            if marks is None:
                raise ValueError("a numbered network wants each token's marks")
            hidden = hidden + table(marks[..., n])
        return hidden if keywords is None else torch.cat([self.embedding(keywords), hidden], 1)

    def _mask(self, old: int, count: int, new: int, device: torch.device) -> Tensor:
        """Who sees whom: the past of `old`, then `count` keywords, then `new` tokens."""
        mask = torch.ones(count + new, old + count + new, dtype=torch.bool, device=device).tril(old)
        if self.config.keywords == "set":
            mask[:count, :count] = True
        return mask

    def _turn(self, old: int, count: int, new: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The angles: a set of keywords stands at 0 and the stream begins at 1; in a sequence each has its place."""
        first = old if self.config.keywords == "sequence" else max(old - self.keywords, 0) + 1
        places = torch.arange(first, first + count + new, device=self.cos.device)
        if count and self.config.keywords == "set":
            places = torch.cat([places.new_zeros(count), places[:new]])
        return self.cos[places].to(dtype), self.sin[places].to(dtype)

    def _head(self, hidden: Tensor) -> Tensor:
        return F.linear(self.norm(hidden), self.embedding.weight[: self.stream])


class Block(nn.Module):
    """Attention, then feed-forward, each on the normed input and added to it."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.before = nn.RMSNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.between = nn.RMSNorm(config.width)
        self.up = nn.Linear(config.width, config.inner, bias=False)
        self.down = nn.Linear(config.inner, config.width, bias=False)
        self.drop = nn.Dropout(config.dropout) if config.dropout else nn.Identity()

    def forward(
        self,
        hidden: Float[Tensor, "batch time width"],
        turn: tuple[Tensor, Tensor],
        mask: Tensor | None,
        past: tuple[Tensor, Tensor, int] | None = None,
    ) -> Float[Tensor, "batch time width"]:
        q, k, v = self.split(hidden, turn)
        if past is not None:
            keys, values, old = past
            time = hidden.shape[1]
            keys[:, :, old : old + time], values[:, :, old : old + time] = k, v
            k, v = keys[:, :, : old + time], values[:, :, : old + time]
        return self.join(hidden, q, k, v, mask)

    def split(self, hidden: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values "batch heads time size"."""
        batch, time, width = hidden.shape
        qkv = self.qkv(self.before(hidden)).view(batch, time, 3, self.heads, width // self.heads)
        qkv = qkv.permute(2, 0, 3, 1, 4)
        q, k = _turned(qkv[:2], turn)
        return q, k, qkv[2]

    def join(self, hidden: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """What the block makes of `hidden` that looks at keys and values, of the past too."""
        mixed = F.scaled_dot_product_attention(q, k, v, mask)
        hidden = hidden + self.drop(self.out(mixed.transpose(1, 2).reshape(hidden.shape)))
        inner = F.gelu(self.up(self.between(hidden)), approximate="tanh")
        out: Tensor = hidden + self.drop(self.down(inner))
        return out


def _turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate each pair (i, i + size/2) by its position's angle."""
    cos, sin = turn
    first, second = x.chunk(2, -1)  # not rolled: a roll becomes operators that phones lack
    turned: Tensor = x * cos + torch.cat([second, first], -1) * sin
    return turned
