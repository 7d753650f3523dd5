"""The network: what belongs to a set of pieces that lacks one.

For a set without one piece it says, for every category c, log p(c | the others) - log p(c): how much more often c
stands beside these than anywhere. The evidence of pairs (pointwise mutual information, counted on training outfits)
is a residual that it starts from; a set transformer [Lee et al., 2019] over the others adds what pairs do not say. A
title or a product embedding adds a term of its own, which is 0 where a piece has neither. An outfit's score is a soft
minimum of its pieces' values: one that does not fit cannot hide behind many that do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from daybreak.systems.commerce.outfits.pieces import Names, Outfit, Piece, buckets

PAD, UNKNOWN, FIRST = 0, 1, 2
"""Categories as numbers: no piece, a category that was not taught, and the first that was."""

TOLD = 20
"""Titles in which a word must be to say something."""


class NetConfig(BaseModel):
    """The shape of the network."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    width: int = Field(64, ge=8)
    """Numbers a piece."""
    layers: int = Field(1, ge=1, le=8)
    """Layers of attention among the pieces."""
    heads: int = Field(4, ge=1)
    """Heads of attention; they divide the width."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """Of embeddings and inside the layers."""
    buckets: int = Field(4096, ge=16)
    """Places to which a title's words are hashed."""
    product: int = Field(0, ge=0)
    """Numbers of a product embedding; 0 takes none."""
    softness: float = Field(2.0, gt=0)
    """Of the minimum over pieces: near 0 the worst piece decides, at infinity it is their mean."""


class Sets(NamedTuple):
    """Sets of pieces as tensors."""

    category: Int[Tensor, "batch pieces"]
    """PAD where there is no piece."""
    words: Int[Tensor, "batch pieces words"]
    """Hashed words of titles; 0 where there is none."""
    product: Float[Tensor, "batch pieces numbers"]
    """Product embeddings; all 0 where a piece has none."""


def encode(sets: Sequence[Sequence[Piece]], names: Names, config: NetConfig) -> Sets:
    """Pieces as the network takes them. A category that was not taught is UNKNOWN."""
    most = max([1, *(len(pieces) for pieces in sets)])
    hashed = [[buckets(piece.title, config.buckets) if piece.title else [] for piece in pieces] for pieces in sets]
    longest = max([0, *(len(one) for pieces in hashed for one in pieces)])
    category = np.zeros((len(sets), most), np.int64)
    words = np.zeros((len(sets), most, longest), np.int64)
    product = np.zeros((len(sets), most, config.product), np.float32)
    for n, pieces in enumerate(sets):
        for place, piece in enumerate(pieces):
            found = names.find(piece.category)
            category[n, place] = UNKNOWN if found is None else found + FIRST
            words[n, place, : len(hashed[n][place])] = hashed[n][place]
            if config.product and piece.product:
                product[n, place] = piece.product
    return Sets(torch.from_numpy(category), torch.from_numpy(words), torch.from_numpy(product))


def without_each(sets: Sets) -> Sets:
    """Each set without each of its places: "batch pieces" sets of one piece less, as the batch's first axis."""
    count = sets.category.shape[1]
    index = torch.tensor([[b for b in range(count) if b != a] for a in range(count)], dtype=torch.int64)
    index = index.reshape(count, count - 1).to(sets.category.device)
    return Sets(*(part[:, index].flatten(0, 1) for part in sets))


class Query(NamedTuple):
    """What a set without one piece asks for."""

    kinds: Float[Tensor, "batch categories"]
    """log p(category | set) - log p(category); 0 for PAD and UNKNOWN."""
    wish: Float[Tensor, "batch width"]
    """What the missing piece's title and picture are held against."""


def counts(outfits: Sequence[Outfit], names: Names) -> Float[np.ndarray, "categories categories"]:
    """How often two categories stand in one outfit: ordered pairs, so the matrix is symmetric; a pair of pieces of one
    category counts twice on the diagonal."""
    together = np.zeros((len(names) + FIRST,) * 2)
    for outfit in outfits:
        found = [names.find(piece.category) for piece in outfit.pieces]
        known = [n + FIRST for n in found if n is not None]
        for a, one in enumerate(known):
            for b, other in enumerate(known):
                if a != b:
                    together[one, other] += 1
    return together


def evidence(
    together: Float[np.ndarray, "categories categories"], smoothing: float
) -> Float[np.ndarray, "categories categories"]:
    """Pointwise mutual information of two categories in one outfit [Church and Hanks, 1990]: log of how often they
    stand together over how often they would by chance. `smoothing` is added to both, so that what is rare says
    little; a category that never occurs says 0."""
    margin = together.sum(1)
    expected = np.outer(margin, margin) / max(1.0, together.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log((together + smoothing) / (expected + smoothing))
    return np.where(expected > 0, found, 0.0)


class OutfitNet(nn.Module):
    """See the file's beginning. Its buffers hold the counts and what is made of them."""

    together: Tensor
    pairs: Tensor
    prior: Tensor
    words: Tensor

    def __init__(self, config: NetConfig, categories: int) -> None:
        super().__init__()
        size, width = categories + FIRST, config.width
        self.config = config
        self.category = nn.Embedding(size, width)
        self.title = nn.Embedding(config.buckets + 1, width, padding_idx=0)
        self.product = nn.Linear(config.product, width, bias=False) if config.product else None
        self.missing = nn.Parameter(torch.randn(width) * 0.3)
        for table in (self.category, self.title):
            nn.init.normal_(table.weight, std=0.3)
        self.drop = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, config.heads, 2 * width, config.dropout, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.kinds = nn.Linear(width, size)
        nn.init.zeros_(self.kinds.weight)
        nn.init.zeros_(self.kinds.bias)
        self.wish = nn.Linear(width, width, bias=False)
        self.offer = nn.Linear(width, width, bias=False)
        self.gain = nn.Parameter(torch.full((8,), math.log(0.6)))
        """Log of how much a pair counts in a set of so many others: pairs repeat one another's evidence."""
        self.register_buffer("together", torch.zeros(size, size, dtype=torch.int32))
        self.register_buffer("pairs", torch.zeros(size, size))
        self.register_buffer("prior", torch.zeros(size))
        self.register_buffer("words", torch.zeros(config.buckets + 1))

    def count(self, outfits: Sequence[Outfit], names: Names, smoothing: float) -> None:
        """Take the evidence of pairs, the frequency of categories and the words of titles from training outfits. A word
        that is in fewer than TOLD titles says nothing, then or later."""
        together = counts(outfits, names)
        self.together.copy_(torch.from_numpy(together))
        self.pairs.copy_(torch.from_numpy(evidence(together, smoothing)))
        often = np.full(len(names) + FIRST, 0.5)
        for outfit in outfits:
            for piece in outfit.pieces:
                if (found := names.find(piece.category)) is not None:
                    often[found + FIRST] += 1
        self.prior.copy_(torch.from_numpy(np.log(often / often[FIRST:].sum())))
        told = np.zeros(self.config.buckets + 1)
        for outfit in outfits:
            for piece in outfit.pieces:
                told[buckets(piece.title, self.config.buckets)] += 1
        self.words.copy_(torch.from_numpy(told >= TOLD))

    def features(self, sets: Sets) -> Float[Tensor, "batch pieces width"]:
        """What titles and pictures say: 0 for a piece with neither."""
        told = self.words[sets.words][..., None]
        found = (told * self.title(sets.words)).sum(2) / told.sum(2).clamp(min=1)
        if self.product is not None:
            found = found + self.product(sets.product)
        return torch.as_tensor(found)

    def forward(self, sets: Sets) -> Query:
        """What is missing in each set."""
        inside = sets.category != PAD
        size = inside.sum(1)
        hidden = self.drop(self.category(sets.category) + self.features(sets))
        hidden = torch.cat([self.missing.expand(len(hidden), 1, -1), hidden], 1)
        outside = F.pad(~inside, (1, 0))
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=outside)
        seen = self.drop(self.norm(hidden[:, 0]))
        gain = self.gain[size.clamp(1, len(self.gain)) - 1].exp()
        logits = gain[:, None] * self.pairs[sets.category].sum(1) + self.kinds(seen)
        taught = torch.arange(logits.shape[1], device=logits.device) >= FIRST
        logits = (logits.float() + self.prior).masked_fill(~taught, float("-inf"))
        kinds = (F.log_softmax(logits, -1) - self.prior).masked_fill(~taught, 0.0)
        return Query(kinds, self.wish(seen))

    def fit(self, query: Query, offered: Sets) -> Float[Tensor, "batch pieces"]:
        """How well each offered piece fills its set's blank: log-ratios in nats, 0 is by chance."""
        kinds = query.kinds.gather(1, offered.category)
        return kinds + self.taste(query, self.features(offered))

    def taste(self, query: Query, features: Float[Tensor, "*sets pieces width"]) -> Float[Tensor, "batch pieces"]:
        """The part of titles and pictures. Pieces that are the same for all sets need no axis for these."""
        offer = self.offer(features)
        scale = 1 / math.sqrt(self.config.width)
        if offer.ndim == 2:
            return torch.as_tensor(scale * query.wish @ offer.T)
        return torch.as_tensor(scale * torch.einsum("bw,bpw->bp", query.wish, offer))

    def pieces(self, sets: Sets) -> Float[Tensor, "batch pieces"]:
        """How well each piece fits the others of its set; 0 where there is none."""
        batch, count = sets.category.shape
        query = self(without_each(sets))
        own = Sets(*(part.flatten(0, 1)[:, None] for part in sets))
        return self.fit(query, own).view(batch, count) * (sets.category != PAD)

    def score(self, sets: Sets) -> Float[Tensor, " batch"]:
        """Each set's score: the soft minimum of its pieces' values."""
        return soft_minimum(self.pieces(sets), sets.category != PAD, self.config.softness)


def soft_minimum(
    values: Float[Tensor, "batch pieces"], inside: Bool[Tensor, "batch pieces"], softness: float
) -> Float[Tensor, " batch"]:
    """-t log mean exp(-v / t) over the pieces that are there: it does not grow with their number."""
    found = torch.where(inside, -values / softness, float("-inf")).logsumexp(1)
    return -softness * (found - inside.sum(1).clamp(min=1).log())
