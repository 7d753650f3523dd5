"""The regression with something to hear and look at: every scored item comes with a sound of 8 s and a piano roll."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from bench_mlp import Mlp

from daybreak.lab.lake import Item
from daybreak.lab.recipe import Metric, Score
from daybreak.media import Media
from daybreak.media.audio import Mp3
from daybreak.media.midi import Midi
from daybreak.media.roll import piano_roll
from daybreak.media.synth import render

SECONDS, RATE, SONGS = 8, 24_000, 6


@cache
def song(number: int) -> tuple[Midi, np.ndarray]:
    """One of a few composed songs and the sound of its first seconds."""
    from daybreak.systems.music.rules import compose, write

    midi = write(*compose(number))
    return midi, render(midi, RATE).samples[: SECONDS * RATE]


class Clips(Mlp):
    """What an item gets is how far the net's output is from the item's number; its sample is a song with noise."""

    goal = Metric("error", "lower")

    def evaluate(self, items: Sequence[Item]) -> Iterator[Score]:
        """Score each; the first `config.samples` come with media."""
        for n, item in enumerate(items):
            x = torch.from_numpy(np.frombuffer(self.data.read(item), "u1")[:16].astype("f4") / 64 - 2)
            error = abs(float(self.net(x)) - float(torch.sin(x.sum())))
            if n >= self.config.samples:
                yield Score(item.id, item.group, {"error": error})
                continue
            midi, sound = song(n % SONGS)
            noisy = sound + 0.02 * np.random.default_rng(self.config.seed).standard_normal(sound.shape, "f4")
            roll = piano_roll(midi)
            sample: dict[str, Media] = {"sound": Mp3(noisy.clip(-1, 1).astype("f4"), RATE), "roll": roll}
            yield Score(item.id, item.group, {"error": error}, sample, {"sound": Mp3(sound, RATE), "roll": roll})
