"""The network: a pre-norm decoder whose keywords are a set.

All keyword tokens stand at one position and attend to one another; the stream's tokens come after them, causal. So the
order of keywords cannot matter, whatever was learnt. RMSNorm (Zhang and Sennrich, 2019), rotary positions (Su et al.,
2021), tied embedding. It knows token ids; it knows nothing about music.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn


class NetConfig(BaseModel):
    """The network's size."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    layers: int = Field(6, ge=1)
    """Blocks of attention and feed-forward."""
    width: int = Field(256, ge=8)
    """Size of a token's vector."""
    heads: int = Field(8, ge=1)
    """Attention heads; they divide the width."""
    ff: int = Field(1024, ge=8)
    """Hidden size of the feed-forward part."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of activations dropped in training."""
    context: int = Field(1024, ge=16)
    """Most stream tokens in a clip."""


class Cache:
    """Keys and values of what was read so far: per layer, "batch heads time dim"."""

    def __init__(self, keys: list[Tensor], values: list[Tensor], length: int) -> None:
        self.keys, self.values, self.length = keys, values, length


class Block(nn.Module):
    """Attention, then feed-forward, each behind its norm."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout  # none inside attention: there it halves the speed
        self.before = nn.RMSNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.between = nn.RMSNorm(config.width)
        self.up = nn.Linear(config.width, config.ff, bias=False)
        self.down = nn.Linear(config.ff, config.width, bias=False)

    def forward(
        self,
        x: Float[Tensor, "batch time width"],
        turn: tuple[Tensor, Tensor],
        mask: Bool[Tensor, "query key"] | None,
        past: tuple[Tensor, Tensor, int] | None = None,
    ) -> Float[Tensor, "batch time width"]:
        """One block. With `past` (keys, values, length) the new keys and values are written behind `length`."""
        batch, time, width = x.shape
        q, k, v = self.qkv(self.before(x)).view(batch, time, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, *turn), rotate(k, *turn)
        if past is not None:
            keys, values, length = past
            keys[:, :, length : length + time], values[:, :, length : length + time] = k, v
            k, v = keys[:, :, : length + time], values[:, :, : length + time]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + F.dropout(self.out(y.transpose(1, 2).reshape(batch, time, width)), self.dropout, self.training)
        return x + F.dropout(self.down(F.gelu(self.up(self.between(x)))), self.dropout, self.training)


def rotate(x: Float[Tensor, "batch heads time dim"], cos: Tensor, sin: Tensor) -> Float[Tensor, "batch heads time dim"]:
    """Rotary positions: the two halves of a vector are turned against one another."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class Decoder(nn.Module):
    """Keywords and a stream -> logits of the next stream token.

    Args:
        config: sizes.
        offsets: for each keyword field, what to add to a value (0: none) to get its token id.
        stream: size of the stream's vocabulary, whose ids come first; id 0 starts a stream.
        vocabulary: all ids, keywords included.
    """

    def __init__(self, config: NetConfig, offsets: tuple[int, ...], stream: int, vocabulary: int) -> None:
        super().__init__()
        if config.width % (2 * config.heads):
            raise ValueError(f"width {config.width} must be a multiple of twice the {config.heads} heads")
        self.config, self.stream, self.fields = config, stream, len(offsets)
        self.embedding = nn.Embedding(vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width)
        dim = config.width // config.heads
        # The keywords share position 0; the stream starts at 1.
        position = torch.cat([torch.zeros(self.fields), torch.arange(1, config.context + 2)])
        angle = position[:, None] * 10_000 ** (-torch.arange(0, dim, 2) / dim)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        self.register_buffer("offsets", torch.tensor(offsets), persistent=False)
        self.cos: Tensor
        self.sin: Tensor
        self.offsets: Tensor
        nn.init.normal_(self.embedding.weight, std=0.02)
        for block in self.blocks:
            for linear in (block.out, block.down):
                assert isinstance(linear, nn.Linear)
                nn.init.normal_(linear.weight, std=0.02 / (2 * config.layers) ** 0.5)

    def hidden(
        self, keywords: Int[Tensor, "batch fields"], tokens: Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time width"]:
        """Vectors from which each token of the stream is predicted: the one at t has seen the tokens before t."""
        shifted = F.pad(tokens[:, :-1], (1, 0))
        x = self.embedding(torch.cat([keywords + self.offsets, shifted], 1))
        x = F.dropout(x * self.config.width**0.5, self.config.dropout, self.training)
        length = x.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        mask[:, : self.fields] = True
        turn = self.cos[:length], self.sin[:length]
        for block in self.blocks:
            x = block(x, turn, mask)
        return self.norm(x[:, self.fields :])

    def logits(self, hidden: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch stream"]:
        """Logits over the stream's vocabulary."""
        return F.linear(hidden, self.embedding.weight[: self.stream])

    def forward(
        self, keywords: Int[Tensor, "batch fields"], tokens: Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time stream"]:
        """Logits of each token of the stream given the keywords and the tokens before it."""
        return self.logits(self.hidden(keywords, tokens))

    def read(self, keywords: Int[Tensor, "batch fields"]) -> tuple[Float[Tensor, "batch stream"], Cache]:
        """Read the keywords; logits of the first token and the cache to go on from."""
        batch, device = len(keywords), keywords.device
        dim = self.config.width // self.config.heads
        shape = batch, self.config.heads, self.fields + self.config.context + 1, dim
        kind = self.embedding.weight.dtype
        make = lambda: [torch.zeros(shape, dtype=kind, device=device) for _ in self.blocks]  # noqa: E731
        cache = Cache(make(), make(), 0)
        start = torch.zeros(batch, 1, dtype=keywords.dtype, device=device)
        mask = torch.ones(self.fields + 1, self.fields + 1, dtype=torch.bool, device=device)
        mask[: self.fields, -1] = False
        return self._through(torch.cat([keywords + self.offsets, start], 1), mask, cache), cache

    def next(self, cache: Cache, tokens: Int[Tensor, " batch"]) -> Float[Tensor, "batch stream"]:
        """Read one token more; logits of the one after it."""
        return self._through(tokens[:, None], None, cache)

    def _through(self, ids: Tensor, mask: Tensor | None, cache: Cache) -> Tensor:
        x = self.embedding(ids) * self.config.width**0.5
        end = cache.length + ids.shape[1]
        turn = self.cos[cache.length : end], self.sin[cache.length : end]
        for block, keys, values in zip(self.blocks, cache.keys, cache.values, strict=True):
            x = block(x, turn, mask, (keys, values, cache.length))
        cache.length = end
        return self.logits(self.norm(x[:, -1]))
