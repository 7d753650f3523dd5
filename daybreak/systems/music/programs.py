"""The composer's programs: the start of a stream, and its next tokens, with the cache as plain tensors.

`prefill` reads keywords and what stands before; `step` goes on from its cache. Both give the logits of the token after
each of theirs. Where no length may vary they read a token at a time, into a cache with room for a whole stream. They
know the network; what may be said next is the grammar's business (`decode.Automaton`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from daybreak.lab.lake import Snapshot, Split
from daybreak.lab.program import Axis, Inputs, Page, Program, Run
from daybreak.systems.music import context
from daybreak.systems.music import tokens as T
from daybreak.systems.music.compose import REACH, USUAL_REACH
from daybreak.systems.music.data import clips, only_songs
from daybreak.systems.music.net import Cache, Decoder

CLIPS = 2
"""Clips of a song that become real inputs."""
MOST_NEW = 64
"""Tokens of one step; a longer context is read by `prefill`."""

Kept = Float[Tensor, "layers batch heads length size"]


class Prefill(nn.Module):
    """Keywords and the stream's first tokens -> logits after each, and the cache of both."""

    def __init__(self, net: Decoder) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, keywords: Int[Tensor, "batch fields"], tokens: Int[Tensor, "batch time"],
        marks: Int[Tensor, "batch time 2"],
    ) -> tuple[Float[Tensor, "batch time stream"], Kept, Kept]:  # fmt: skip
        net, count, time = self.net, keywords.shape[1], tokens.shape[1]
        hidden = net._embedded(tokens, marks, keywords)
        places = torch.arange(-count, time, device=tokens.device)
        if net.config.keywords == "set":
            places = places.clamp(min=-1)  # the keywords stand at one place and see one another
        seen = places[None] <= places[:, None]
        places = places + (1 if net.config.keywords == "set" else count)
        turn = net.cos[places], net.sin[places]
        keys, values = [], []
        for block in net.blocks:
            q, k, v = block.split(hidden, turn)  # type: ignore[operator]
            hidden = block.join(hidden, q, k, v, seen)  # type: ignore[operator]
            keys.append(k)
            values.append(v)
        return net._head(hidden[:, count:]), torch.stack(keys), torch.stack(values)


class Step(nn.Module):
    """The next tokens and the cache -> logits after each, and the cache with theirs."""

    def __init__(self, net: Decoder) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, tokens: Int[Tensor, "batch new"], marks: Int[Tensor, "batch new 2"], keys: Kept, values: Kept
    ) -> tuple[Float[Tensor, "batch new stream"], Kept, Kept]:
        net, new, old = self.net, tokens.shape[1], keys.shape[3]
        hidden = net._embedded(tokens, marks, None)
        first = old if net.config.keywords == "sequence" else old - net.keywords + 1
        places = torch.arange(new, device=tokens.device)
        seen = torch.arange(old + new, device=tokens.device)[None] <= places[:, None] + old
        turn = net.cos[places + first], net.sin[places + first]
        after = [], []  # type: tuple[list[Tensor], list[Tensor]]
        for n, block in enumerate(net.blocks):
            q, k, v = block.split(hidden, turn)  # type: ignore[operator]
            k, v = torch.cat([keys[n], k], 2), torch.cat([values[n], v], 2)
            hidden = block.join(hidden, q, k, v, seen)  # type: ignore[operator]
            after[0].append(k)
            after[1].append(v)
        return net._head(hidden), torch.stack(after[0]), torch.stack(after[1])


class RoomPrefill(nn.Module):
    """The same with a cache that has room for a whole stream; what is not filled is zero."""

    def __init__(self, net: Decoder) -> None:
        super().__init__()
        self.prefill, self.room = Prefill(net), net.keywords + net.config.context

    def forward(
        self, keywords: Int[Tensor, "batch fields"], tokens: Int[Tensor, "batch time"],
        marks: Int[Tensor, "batch time 2"],
    ) -> tuple[Float[Tensor, "batch time stream"], Kept, Kept]:  # fmt: skip
        logits, keys, values = self.prefill(keywords, tokens, marks)
        empty = keys.new_zeros(*keys.shape[:3], self.room - keys.shape[3], keys.shape[4])
        return logits, torch.cat([keys, empty], 3), torch.cat([values, empty], 3)


class RoomStep(nn.Module):
    """The next token goes to the place `past` of a cache of fixed room, and sees those before it."""

    def __init__(self, net: Decoder) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, tokens: Int[Tensor, "batch 1"], marks: Int[Tensor, "batch 1 2"], past: Int[Tensor, " 1"], keys: Kept,
        values: Kept,
    ) -> tuple[Float[Tensor, "batch 1 stream"], Kept, Kept]:  # fmt: skip
        net = self.net
        hidden = net._embedded(tokens, marks, None)
        first = past if net.config.keywords == "sequence" else past - net.keywords + 1
        places = torch.arange(keys.shape[3], device=tokens.device)
        seen, here = places[None] <= past, (places == past)[:, None]
        turn = net.cos[first], net.sin[first]
        after = [], []  # type: tuple[list[Tensor], list[Tensor]]
        for n, block in enumerate(net.blocks):
            q, k, v = block.split(hidden, turn)  # type: ignore[operator]
            k, v = torch.where(here, k, keys[n]), torch.where(here, v, values[n])
            hidden = block.join(hidden, q, k, v, seen)  # type: ignore[operator]
            after[0].append(k)
            after[1].append(v)
        return net._head(hidden), torch.stack(after[0]), torch.stack(after[1])


def programs(net: Decoder) -> dict[str, Program]:
    """Both, for a network that is told marks, and one stream at a time."""
    config = net.config
    size = config.width // config.heads
    cache = torch.zeros(config.layers, 1, config.heads, net.keywords + 7, size)
    cached = {3: Axis("past", net.keywords + 1, net.keywords + config.context - 1)}
    three = {"tokens": torch.zeros(1, 3, dtype=torch.int64), "marks": torch.zeros(1, 3, 2, dtype=torch.int64)}
    said = torch.from_numpy(T.OFFSETS[None].astype(np.int64))
    static = static_programs(net)
    time, new = Axis("time", 1, config.context), Axis("new", 1, MOST_NEW)
    return {
        "prefill": Program(
            Prefill(net), {"keywords": said, **three}, ("logits", "keys_next", "values_next"), real_prefill,
            {"tokens": {1: time}, "marks": {1: time}},
            about="Keywords (with their offsets), the stream's first tokens and their marks; the cache begins.",
            static=static["prefill"],
        ),
        "step": Program(
            Step(net), {**three, "keys": cache, "values": cache.clone()}, ("logits", "keys_next", "values_next"),
            lambda data, split: real_step(net, data, split),
            {"tokens": {1: new}, "marks": {1: new}, "keys": cached, "values": cached},
            carried={"keys": "keys_next", "values": "values_next"},
            about="The next tokens, their marks and the cache of all before them; the cache grows.",
            static=static["step"],
        ),
    }  # fmt: skip


def static_programs(net: Decoder) -> dict[str, Program]:
    """Both without a length that varies: a token at a time, and room for a whole stream."""
    config, outputs = net.config, ("logits", "keys_next", "values_next")
    cache = torch.zeros(config.layers, 1, config.heads, net.keywords + config.context, config.width // config.heads)
    one = {"tokens": torch.zeros(1, 1, dtype=torch.int64), "marks": torch.zeros(1, 1, 2, dtype=torch.int64)}
    said, past = torch.from_numpy(T.OFFSETS[None].astype(np.int64)), torch.tensor([net.keywords + 1])
    return {
        "prefill": Program(
            RoomPrefill(net), {"keywords": said, **one}, outputs, first_token,
            about="Keywords (with their offsets), the stream's first token and its marks; the cache begins.",
        ),
        "step": Program(
            RoomStep(net), {**one, "past": past, "keys": cache, "values": cache.clone()}, outputs,
            lambda data, split: next_token(net, data, split), carried={"keys": "keys_next", "values": "values_next"},
            about=f"The next token and its marks; past: how much of the cache is filled, {net.keywords + 1} at first.",
        ),
    }  # fmt: skip


def page(net: Decoder, templates: Sequence[Sequence[int]]) -> Page:
    """The page that composes, with what its script must know of tokens and keywords."""
    tokens = {
        "pad": T.PAD, "eos": T.EOS, "bar": T.BAR, "position": T.POSITION, "pitch": T.PITCH, "velocity": T.VELOCITY,
        "duration": T.DURATION, "chord": T.CHORD, "bass": T.BASS, "stream": T.STREAM, "no_chord": T.NO_CHORD,
        "per_beat": T.PER_BEAT, "longest": T.LONGEST, "most_bars": T.MOST_BARS, "context": net.config.context,
        "range_cuts": T.RANGE_CUTS, "offsets": T.OFFSETS.tolist(),
    }  # fmt: skip
    data = {
        "tokens": tokens,
        "fields": {name: list(values) for name, values in T.FIELDS.items()},
        "templates": [list(row) for row in templates],
        "beats": {name: metre.beats for name, metre in T.METRES.items()},
        "quarters": {name: metre.quarters for name, metre in T.METRES.items()},
        "reach": {**REACH, "usual": USUAL_REACH},
    }
    return Page(Path(__file__).parent / "page.js", data)


def real_prefill(data: Snapshot, split: Split) -> Iterator[Inputs]:
    """Clips of the split's songs, whole."""
    for item in only_songs(data.split(split)):
        made = data.derived(clips, item)
        count = len(made["keywords"])
        for n in sorted({(2 * n + 1) * count // (2 * CLIPS) for n in range(min(CLIPS, count))}):
            stream = made["tokens"][made["offsets"][n] : made["offsets"][n + 1]].astype(np.int64)[:1024]
            yield {
                "keywords": torch.from_numpy(made["keywords"][n].astype(np.int64) + T.OFFSETS)[None],
                "tokens": torch.from_numpy(stream)[None],
                "marks": torch.from_numpy(context.marks(stream))[None],
            }


def real_step(net: Decoder, data: Snapshot, split: Split) -> Iterator[Inputs]:
    """The same clips, in the midst of being composed: their last tokens, one or three, and the cache before them."""
    prefill = Prefill(net)
    for n, inputs in enumerate(real_prefill(data, split)):
        tokens, marks = inputs["tokens"], inputs["marks"]
        new = 1 if n % 4 else 3
        cut = max(1, (tokens.shape[1] - new) * (n % 5 + 1) // 5)
        with torch.no_grad():
            _, keys, values = prefill(inputs["keywords"], tokens[:, :cut], marks[:, :cut])
        last = slice(cut, cut + new)
        yield {"tokens": tokens[:, last], "marks": marks[:, last], "keys": keys, "values": values}


def first_token(data: Snapshot, split: Split) -> Iterator[Inputs]:
    """Clips' keywords and first tokens."""
    for given in real_prefill(data, split):
        yield {"keywords": given["keywords"], "tokens": given["tokens"][:, :1], "marks": given["marks"][:, :1]}


def next_token(net: Decoder, data: Snapshot, split: Split) -> Iterator[Inputs]:
    """Clips in the midst of being composed, their cache with the room of a whole stream."""
    room = net.keywords + net.config.context
    for given in real_step(net, data, split):
        past = given["keys"].shape[3]
        keys, values = (nn.functional.pad(given[name], (0, 0, 0, room - past)) for name in ("keys", "values"))
        one = {"tokens": given["tokens"][:, :1], "marks": given["marks"][:, :1]}
        yield {**one, "past": torch.tensor([past]), "keys": keys, "values": values}


def through(net: Decoder, run: Mapping[str, Run]) -> None:
    """Let a network answer by `run`: `forward` by "prefill", `extend` by both; each stream on its own."""

    def forward(keywords: Tensor, tokens: Tensor, marks: Tensor | None = None) -> Tensor:
        assert marks is not None
        rows = [slice(n, n + 1) for n in range(len(tokens))]
        return torch.cat([run["prefill"](keywords[row], tokens[row], marks[row])[0] for row in rows])

    def extend(
        cache: Cache, tokens: Tensor, start: int, keywords: Tensor | None = None, marks: Tensor | None = None
    ) -> Tensor:
        assert marks is not None
        old, logits = net.keywords + start, []
        for n in range(len(tokens)):
            one = slice(n, n + 1)
            if keywords is not None:
                said, keys, values = run["prefill"](keywords[one], tokens[one], marks[one])
            else:
                held = (torch.stack([layer[side][one, :, :old] for layer in cache]) for side in (0, 1))
                said, keys, values = run["step"](tokens[one], marks[one], *held)
            for layer, k, v in zip(cache, keys, values, strict=True):
                layer[0][one, :, : k.shape[2]], layer[1][one, :, : v.shape[2]] = k, v
            logits.append(said[:, -1])
        return torch.cat(logits)

    net.forward, net.extend = forward, extend  # type: ignore[method-assign]
