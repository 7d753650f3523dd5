"""The public composer: a request in, clips out. It joins request, sampling and media, and owns none of them."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from daybreak.errors import UserError
from daybreak.lab.model import Model, Response, action
from daybreak.media import Media
from daybreak.media.audio import Audio, Mp3
from daybreak.media.midi import Midi
from daybreak.media.svg import Svg
from daybreak.media.synth import render
from daybreak.systems.music import harmony, instruments, metrics, score
from daybreak.systems.music import request as requests
from daybreak.systems.music import tokens as T
from daybreak.systems.music.decode import Rules, Sampling, decoder, sample
from daybreak.systems.music.net import Decoder, NetConfig
from daybreak.systems.music.request import Compose


class MusicConfig(BaseModel):
    """What a composer is made of, beside its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    net: NetConfig = NetConfig()
    """The network."""
    templates: list[list[int]] = []
    """Rows of keywords of training clips, from which requests are completed; what they hold is what was taught."""


class Keyword(BaseModel):
    """One line of a clip's report."""

    name: str
    asked: str
    """What the clip was to be."""
    got: str
    """What it is, measured on its notes or read in its file."""
    holds: bool
    drawn: bool
    """The request left it out; it was drawn from the seed."""


class Clip(Response):
    """One composed clip."""

    midi: Midi
    """The clip, with request, seed and model in a text event."""
    sound: Audio
    """A preview."""
    roll: Svg
    """The piano roll."""
    report: list[Keyword]
    """Asked and got, keyword by keyword."""


class Composition(Response):
    """What `compose` answers."""

    clips: list[Clip]


class Music(Model):
    """A composer of single parts."""

    Config = MusicConfig
    about = """
## Why it exists

It composes single parts (melody, second melody, accompaniment) of 1 to 32 bars that obey keywords, as MIDI. It is there
so that a newcomer can use the system before training anything.

## Whom it could harm

The training songs are arrangements of commercial pop songs. A clip may come near one of them: check before you publish.
Its music is what one country's pop of some decades sounds like on a piano; taking it for music as such would be unfair
to all other music.

## What it is not good for

Styles that it was not taught, lyrics, drums, whole pieces, and any judgement of what music is good.
"""

    def __init__(self, config: MusicConfig, net: Decoder | None = None) -> None:
        super().__init__(config)
        self.net = net or decoder(config.net).eval()

    @action
    def compose(self, request: Compose) -> Composition:
        """Compose clips that obey the keywords."""
        said = requests.asked(request)
        self._check(said)
        training = self.net.training
        self.net.eval()
        try:
            return Composition(clips=[self._clip(request, said, n) for n in range(request.n)])
        finally:
            self.net.train(training)

    def describe(self) -> dict[str, Any]:
        """What these weights were taught, by keyword."""
        taught = {name: list(self._taught(name)) for name in ("role", "genre", "metre", "bars")}
        return {**taught, "most_bars": self.most_bars}

    @property
    def most_bars(self) -> int:
        """Bars for which the context has room: 32 tokens a bar, what a dense one needs."""
        return max(1, min(T.MOST_BARS, int(self.config.net.context) // 32))

    @cached_property
    def name(self) -> str:
        """Twelve letters of the weights' hash."""
        digest = hashlib.sha256()
        for weight in self.net.state_dict().values():
            digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def _taught(self, name: str) -> tuple[str | int, ...]:
        seen = {row[T.COLUMN[name]] for row in self.config.templates}
        return tuple(value for n, value in enumerate(T.FIELDS[name], 1) if n in seen)

    def _check(self, said: dict[str, Any]) -> None:
        for name in ("genre", "role", "metre"):
            if name in said and self.config.templates and said[name] not in self._taught(name):
                known = ", ".join(map(str, self._taught(name)))
                raise UserError(f"{name} {said[name]!r} was not taught to this model; it knows {known or 'no ' + name}")
        if said.get("bars", 1) > self.most_bars:
            raise UserError(f"bars is 1 to {self.most_bars} for this model's context, not {said['bars']}")

    def _clip(self, request: Compose, said: dict[str, Any], n: int) -> Clip:
        midi, report = self.written(request, said, n)
        return Clip(midi=midi, sound=midi.sound(), roll=midi.roll(), report=report)

    def written(self, request: Compose, said: dict[str, Any], n: int) -> tuple[Midi, list[Keyword]]:
        """The n-th clip's file and its report, without the preview."""
        draw = np.random.default_rng((request.seed, n))
        full = requests.complete(said, self.config.templates, draw)
        full["bars"] = min(full["bars"], self.most_bars)
        metre = T.METRES[full["metre"]]
        chords = requests.spread(full["chords"], full["bars"], full["metre"]) if "chords" in full else None
        taught = self._taught("chords")
        harmonic = chords is not None or not taught or "with" in taught
        row = requests.row_of(full, harmonic, {int(bars) for bars in self._taught("bars")})
        window = full["min_velocity"] // 4, full["max_velocity"] // 4
        rules = Rules(full["bars"], metre.beats, window, chords, harmonic)
        seed = int(draw.integers(2**31))
        stream = sample(self.net, [row], rules, seed, Sampling(request.temperature, request.top_p))[0]
        notes, changes, _ = T.decode(stream, metre.beats)
        full.setdefault("chords", " ".join(harmony.chord_name(c, b) for _, c, b in changes.tolist()))
        about = {
            "made by": "daybreak music",
            "model": self.name,
            "seed": request.seed,
            "clip": n,
            "request": said,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "keywords": full,
        }
        midi = to_midi(notes, changes, full, json.dumps(about, ensure_ascii=False))
        got = metrics.keywords(midi)
        report = []
        for name in (field for field in Compose.model_fields if field in full):
            holds = metrics.holds(name, full[name], got)
            report.append(
                Keyword(
                    name=name, asked=str(full[name]), got=str(got.get(name, "")), holds=holds, drawn=name not in said
                )
            )
        return midi, report


def to_midi(notes: T.Notes, chords: T.Changes, keywords: dict[str, Any], text: str = "") -> Midi:
    """A clip as a MIDI file."""
    end = keywords["bars"] * T.METRES[keywords["metre"]].beats * T.PER_BEAT
    tidied = T.tidy(notes, end)
    if len(tidied):
        # A bin of four velocities may reach over the edge of the window that was asked for.
        tidied[:, 3] = tidied[:, 3].clip(keywords.get("min_velocity", 1), keywords.get("max_velocity", 127))
    program = instruments.program(keywords.get("instrument", "0"))
    return score.write(
        [score.Part(keywords.get("role") or "part", program, tidied)],
        metre=keywords["metre"],
        bpm=keywords["bpm"],
        bars=keywords["bars"],
        key=keywords.get("key"),
        chords=chords,
        text=text,
    )


def of_stream(row: np.ndarray, stream: np.ndarray) -> Midi:
    """A clip of a data set, or one made for its keywords, as a MIDI file."""
    keywords = {name: value for name in T.FIELDS if (value := T.value(row, name)) is not None}
    metre = str(keywords.setdefault("metre", "4/4"))
    notes, chords, bars = T.decode(stream, T.METRES[metre].beats)
    keywords |= {"bars": bars, "min_velocity": 1, "max_velocity": 127}
    keywords.setdefault("bpm", 100)
    return to_midi(notes, chords, keywords)


def shown(row: np.ndarray, stream: np.ndarray) -> dict[str, Media]:
    """A clip to hear and to look at in a page."""
    midi = of_stream(row, stream)
    sound = render(midi, 24000)
    return {"sound": Mp3(sound.samples, sound.rate), "roll": midi.roll()}


def valid(row: np.ndarray, stream: np.ndarray, bars: int) -> bool:
    """Whether a stream is a well-formed clip of so many bars whose MIDI file has every one of its notes."""
    metre = T.METRES[str(T.value(row, "metre") or "4/4")]
    try:
        notes, _, found = T.decode(stream, metre.beats)
        held = Midi.from_bytes(of_stream(row, stream).to_bytes()).score().note_num()
    except (ValueError, UserError):
        return False
    return found == bars and len(notes) > 0 and held == len(notes) and int(stream[-1]) == T.EOS
