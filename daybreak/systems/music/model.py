"""The public composer: a request in, clips out. It joins request, sampling and media, and owns none of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from daybreak.errors import UserError
from daybreak.lab.model import Model, Response, action
from daybreak.lab.program import Page, Program, Run
from daybreak.media import Media
from daybreak.media.audio import Audio, Mp3
from daybreak.media.midi import Midi
from daybreak.media.svg import Svg
from daybreak.media.synth import render
from daybreak.systems.music import arrange, harmony, instruments, metrics, score
from daybreak.systems.music import programs as exported
from daybreak.systems.music import request as requests
from daybreak.systems.music import source as source_
from daybreak.systems.music import tokens as T
from daybreak.systems.music.arrange import WINDOW
from daybreak.systems.music.check import Check, Checked, check
from daybreak.systems.music.compose import Composer
from daybreak.systems.music.copies import Copies
from daybreak.systems.music.decode import Sampling, decoder
from daybreak.systems.music.extract import Extract, Extracted, extract
from daybreak.systems.music.net import Decoder, NetConfig
from daybreak.systems.music.pieces import Accompany, Combine, Continue, Infill
from daybreak.systems.music.request import Compose, Sampled
from daybreak.systems.music.source import Source, read


class MusicConfig(BaseModel):
    """What a composer is made of, beside its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    net: NetConfig = NetConfig()
    """The network."""
    templates: list[list[int]] = []
    """Rows of keywords of training clips, from which requests are completed; what they hold is what was taught."""
    copies: int = Field(0, ge=0)
    """Bytes of the index of the training clips, in which near-copies are looked up; 0 is none."""


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


class Voice(Response):
    """One part of a piece."""

    role: str
    report: list[Keyword]


class Piece(Response):
    """Several parts."""

    midi: Midi
    """The piece: a track for each part; request, seed and model in a text event."""
    sound: Audio
    """A preview."""
    roll: Svg
    """The piano roll."""
    parts: list[Voice]
    """The composed parts, asked and got."""


class Pieces(Response):
    """What `accompany` and `combine` answer."""

    pieces: list[Piece]
    arrangement: str = ""
    """Sections and their bars."""


class Music(Model):
    """A composer of single parts."""

    Config = MusicConfig
    about = """
## Why it exists

It composes parts (melody, second melody, accompaniment, bass, pad, riff) and pieces that obey keywords, as MIDI. It is
there so that a newcomer can use the system before training anything.

## What taught it what

Real songs taught it pop, melody, second melody and accompaniment. The other genres (jazz, waltz, new age, cinematic,
folk, hymn, electronic) and the roles bass, pad and riff are taught by songs that the project composes by rule: they
follow a textbook, no musician's ear. Figures are of real songs alone. Songs of your own with a genre take their place.

## Whom it could harm

The real songs are arrangements of commercial pop songs. A clip may come near one of them: check before you publish.
Its pop is what one country's songs of some decades sound like on a piano; taking it for music as such would be unfair
to all other music.

## What it is not good for

Styles that it was not taught, lyrics, drums, performance beyond its grid, and any judgement of what music is good.
"""

    def __init__(self, config: MusicConfig, net: Decoder | None = None, copies: Copies | None = None) -> None:
        super().__init__(config)
        self.net = net or decoder(config.net).eval()
        if config.copies:
            if net is not None and copies is None:
                raise ValueError(f"the config says an index of {config.copies} bytes, and there is none")
            self.copies = copies or Copies(config.copies)

    @action
    def compose(self, request: Compose) -> Composition:
        """Compose clips that obey the keywords."""
        said = requests.asked(request)
        self._check(said)
        with self._quiet():
            return Composition(clips=[self._clip(request, said, n) for n in range(request.n)])

    @action
    def continue_(self, request: Continue) -> Composition:
        """Compose the bars that follow a clip."""
        self._numbered("continue")
        source = read(request.midi)
        voice = source.voice(request.track)
        said = source.keywords(voice)
        clips = []
        with self._quiet():
            for n in range(request.n):
                full, draw = self._completed({**said, "bars": WINDOW}, request.seed, n)
                chords = requests.spread(request.chords, request.bars, source.metre) if request.chords else None
                stream = source.stream(voice, 0, source.bars)
                notes, changes = arrange.going_on(
                    self._composer(request), full, stream, source.bars, request.bars, chords, int(draw.integers(2**31))
                )
                at = source.bars * source.bar
                joined = np.concatenate([voice.notes, T.later(notes, at)])
                force = T.tidy_chords(
                    np.concatenate([source.chords, T.later(changes, at)]), at + request.bars * source.bar
                )
                clips.append(
                    self._written_on(request, source, voice, full, joined, force, source.bars + request.bars, n)
                )
        return Composition(clips=clips)

    @action
    def infill(self, request: Infill) -> Composition:
        """Compose some bars of a clip anew, between those that stay."""
        self._numbered("infill")
        source = read(request.midi)
        voice = source.voice(request.track)
        first, stop = request.first - 1, request.last
        if stop > source.bars:
            raise UserError(f"the clip has {source.bars} bars; last is at most that, not {request.last}")
        chords = requests.spread(request.chords, stop - first, source.metre) if request.chords else None
        start, end = first * source.bar, stop * source.bar
        clips = []
        with self._quiet():
            for n in range(request.n):
                full, draw = self._completed(
                    {**source.keywords(voice), "bars": min(WINDOW, source.bars)}, request.seed, n
                )
                seed = int(draw.integers(2**31))
                notes, changes = arrange.within(self._composer(request), full, source, voice, first, stop, chords, seed)
                stays = voice.notes[(voice.notes[:, 0] < start) | (voice.notes[:, 0] >= end)]
                joined = np.concatenate([stays, T.later(notes, start)])
                force = source.chords
                if len(changes):
                    after = (
                        T.later(source.window(stop, source.bars - stop), end) if stop < source.bars else T.no_chords()
                    )
                    inside = force[force[:, 0] < start]
                    force = T.tidy_chords(
                        np.concatenate([inside, T.later(changes, start), after]), source.bars * source.bar
                    )
                clips.append(self._written_on(request, source, voice, full, joined, force, source.bars, n))
        return Composition(clips=clips)

    @action
    def accompany(self, request: Accompany) -> Pieces:
        """Compose other roles beside a melody, or over a chord progression."""
        self._numbered("accompany")
        source = read(request.midi) if request.midi is not None else None
        roles = [role.strip() for role in request.roles.split(",")]
        song: dict[str, Any] = {}
        if source is None:
            names = ("bpm", "key", "metre", "genre")
            song = {name: value for name in names if (value := getattr(request, name)) is not None}
            song |= {"bars": request.bars or WINDOW}
        else:
            song = {"metre": source.metre, "bpm": round(source.bpm), "bars": source.bars}
            song |= {name: value for name in ("key", "genre") if (value := getattr(request, name)) is not None}
            if source.key:
                song["key"] = source.key
        own = {name: value for name in ("density", "instrument") if (value := getattr(request, name)) is not None}
        self._check({**song, "bars": 1})
        pieces = []
        with self._quiet():
            for n in range(request.n):
                base, draw = self._completed({**song, "role": roles[0]}, request.seed, n)
                song = {name: base[name] for name in ("bpm", "key", "metre", "bars")} | song
                chords = requests.spread(request.chords, song["bars"], song["metre"]) if request.chords else None
                if chords is None and source is not None and len(source.chords):
                    chords = source.chords
                heard = [] if source is None else [(voice.role, voice.notes) for voice in source.voices]
                made: list[arrange.Part] = []
                for role in roles:
                    self._check({"role": role})
                    full = self._completed({**song, **own, "role": role}, request.seed, n)[0]
                    others = [*heard, *((str(part.keywords["role"]), part.notes) for part in made)]
                    seed = int(draw.integers(2**31))
                    notes, changes = arrange.beside(
                        self._composer(request), full, list(own), others, chords, song["bars"], seed
                    )
                    chords = changes if chords is None else chords
                    made.append(arrange.Part(full, notes))
                voices = source.voices if source is not None else ()
                pieces.append(self._piece(request, song, voices, made, chords, {**song, **own}, n))
        return Pieces(pieces=pieces)

    @action
    def combine(self, request: Combine) -> Pieces:
        """Compose a whole piece: several roles, in sections, mixed."""
        self._numbered("combine")
        plan = request.sections()
        names: tuple[str, ...] = ("bpm", "key", "genre", "metre")
        song: dict[str, Any] = {name: value for name in names if (value := getattr(request, name)) is not None}
        roles = [role.strip() for role in request.roles.split(",")]
        for role in roles:
            self._check({**song, "role": role})
        pieces = []
        with self._quiet():
            for n in range(request.n):
                lead, draw = self._completed({**song, "role": roles[0], "bars": WINDOW}, request.seed, n)
                shared = {name: lead[name] for name in names if name in lead}
                full = [
                    lead,
                    *(self._completed({**shared, "role": r, "bars": WINDOW}, request.seed, n)[0] for r in roles[1:]),
                ]
                seed = int(draw.integers(2**31))
                parts, chords, bars = arrange.piece(
                    self._composer(request), lead, list(song), full, plan, request.chords, seed
                )
                pieces.append(self._piece(request, {**shared, "bars": bars}, (), parts, chords, song, n))
        return Pieces(pieces=pieces, arrangement=", ".join(f"{section.name} {section.bars}" for section in plan))

    @action
    def extract(self, request: Extract) -> Extracted:
        """Say the keywords of a MIDI file, and how sure each is."""
        return extract(request.midi, request.track)

    @action
    def check(self, request: Check) -> Checked:
        """Say what a clip was to be and what it is, and what in it stands in the training clips."""
        return check(request.midi, getattr(self, "copies", None))

    def programs(self) -> dict[str, Program]:
        self._numbered("export")
        return exported.programs(self.net)

    def through(self, run: Mapping[str, Run]) -> None:
        exported.through(self.net, run)

    def page(self) -> Page:
        return exported.page(self.net, self.config.templates)

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

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """The network in evaluation, whatever it was in."""
        training = self.net.training
        self.net.eval()
        try:
            yield
        finally:
            self.net.train(training)

    def _numbered(self, what: str) -> None:
        if not self.config.net.numbered:
            raise UserError(f"these weights were not taught to {what}: their network does not number its bars")

    def _completed(self, said: dict[str, Any], seed: int, n: int) -> tuple[dict[str, Any], np.random.Generator]:
        """All keywords of the n-th clip, and the generator that goes on from there."""
        draw = np.random.default_rng((seed, n))
        return requests.complete(said, self.config.templates, draw), draw

    def _composer(self, request: Sampled) -> Composer:
        how = Sampling(request.temperature, request.top_p, request.guidance)
        return Composer(self.net, how, request.best_of, frozenset(int(bars) for bars in self._taught("bars")))

    def _clip(self, request: Compose, said: dict[str, Any], n: int) -> Clip:
        midi, report = self.written(request, said, n)
        return Clip(midi=midi, sound=midi.sound(), roll=midi.roll(), report=report)

    def written(self, request: Compose, said: dict[str, Any], n: int) -> tuple[Midi, list[Keyword]]:
        """The n-th clip's file and its report, without the preview."""
        full, draw = self._completed(said, request.seed, n)
        full["bars"] = min(full["bars"], self.most_bars)
        chords = requests.spread(full["chords"], full["bars"], full["metre"]) if "chords" in full else None
        taught = self._taught("chords")
        harmonic = chords is not None or not taught or "with" in taught
        seed = int(draw.integers(2**31))
        made = self._composer(request).part(full, said, seed, chords=chords, harmonic=harmonic)
        full.setdefault("chords", named(made.chords))
        about = self._about(request, n, said, full)
        midi = to_midi(made.notes, made.chords, full, about)
        return midi, _report(full, midi, said)

    def _about(self, request: Sampled, n: int, said: dict[str, Any], full: dict[str, Any]) -> str:
        """The text event: what made the file, so that it can be made again."""
        knobs = {name: getattr(request, name) for name in Sampled.model_fields if name != "n"}
        about = {"made by": "daybreak music", "model": self.name, "clip": n, **knobs, "request": said, "keywords": full}
        return json.dumps(about, ensure_ascii=False)

    def _written_on(
        self,
        request: Sampled,
        source: Source,
        voice: source_.Voice,
        full: dict[str, Any],
        notes: T.Notes,
        chords: T.Changes,
        bars: int,
        n: int,
    ) -> Clip:
        """A clip that was composed on, as a file: what stood in it stays."""
        said = source.keywords(voice)
        full = {
            **full,
            "bars": bars,
            "bpm": source.bpm,
            "instrument": instruments.PROGRAMS[voice.program],
            "chords": named(chords),
        }
        about = self._about(request, n, said, full)
        part = score.Part(voice.name or str(full["role"]), voice.program, T.tidy(notes, bars * source.bar))
        midi = score.write(
            [part], metre=source.metre, bpm=source.bpm, bars=bars, key=full["key"], chords=chords, text=about
        )
        return Clip(midi=midi, sound=midi.sound(), roll=midi.roll(), report=_report({**full, "bars": bars}, midi, said))

    def _piece(
        self,
        request: Sampled,
        song: dict[str, Any],
        heard: Sequence[source_.Voice],
        parts: Sequence[arrange.Part],
        chords: T.Changes | None,
        said: dict[str, Any],
        n: int,
    ) -> Piece:
        """Parts as one file, after those that were there."""
        bars, force = int(song["bars"]), T.no_chords() if chords is None else chords
        tracks = [score.Part(voice.name or voice.role or "part", voice.program, voice.notes) for voice in heard]
        voices = []
        for part in parts:
            full = {**part.keywords, "bars": bars, "chords": named(force)}
            program = instruments.program(str(full["instrument"]))
            tracks.append(score.Part(str(full["role"]), program, part.notes))
            alone = to_midi(part.notes, force, full)
            voices.append(Voice(role=str(full["role"]), report=_report(full, alone, {**said, "role": full["role"]})))
        about = self._about(request, n, said, {**song, "chords": named(force)})
        midi = score.write(
            tracks, metre=song["metre"], bpm=song["bpm"], bars=bars, key=song["key"], chords=force, text=about
        )
        return Piece(midi=midi, sound=midi.sound(), roll=midi.roll(), parts=voices)


def named(chords: T.Changes) -> str:
    """Chord changes as a progression's names."""
    return " ".join(harmony.chord_name(chord, bass) for _, chord, bass in chords.tolist())


def _report(full: dict[str, Any], midi: Midi, said: Collection[str]) -> list[Keyword]:
    got = metrics.keywords(midi)
    return [
        Keyword(
            name=name,
            asked=str(full[name]),
            got=str(got.get(name, "")),
            holds=metrics.holds(name, full[name], got),
            drawn=name not in said,
        )
        for name in Compose.model_fields
        if name in full and name not in Sampled.model_fields
    ]


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
