"""Songs composed by rule: the data that the project makes itself. For a first run and for tests, never for claims.

Each song has a key, a progression of sections (A A B A), and parts by role in one of eight styles. A melody is made
of two-bar motifs: a rhythm that returns, strong beats on tones of the chord, steps between them, a close on the tonic.
It knows keys, chords and time; it knows nothing about files beyond writing one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from daybreak.lab.lake import Draft
from daybreak.media.midi import Midi
from daybreak.systems.music import score
from daybreak.systems.music import tokens as T

SONGS = 192
BY_RULE = "by rule"
"""The label `composed` of these songs: they are trained on, never scored beside real ones."""
_MAJOR, _MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
_DIATONIC = {
    "major": ("maj", "min", "min", "maj", "maj", "min", "dim"),
    "minor": ("min", "dim", "maj", "min", "maj", "maj", "maj"),  # V is major: the leading note
}
_SEVENTHS = {
    "major": ("maj7", "min7", "min7", "maj7", "7", "min7", "hdim7"),
    "minor": ("min7", "hdim7", "maj7", "min7", "7", "maj7", "7"),
}

Row = tuple[int, int, int, int]
Player = Callable[["Song", np.random.Generator], list[Row]]


@dataclass(frozen=True)
class Style:
    """How a genre is played."""

    genre: str
    metres: Sequence[str]
    tempos: tuple[int, int]
    progressions: Sequence[Sequence[int]]
    """Degrees (0 is the tonic), one a bar."""
    rhythms: Sequence[Sequence[int]]
    """Durations in twelfths of a beat of a bar's melody; negative: a rest."""
    sevenths: bool
    parts: dict[str, str]
    """Role and way of playing."""
    loudness: tuple[int, int]


@dataclass(frozen=True)
class Song:
    """What all of a song's parts share."""

    style: Style
    key: str
    metre: str
    bpm: int
    bars: int
    chords: T.Changes

    @property
    def bar(self) -> int:
        """Twelfths in a bar."""
        return T.METRES[self.metre].beats * T.PER_BEAT

    def chord(self, at: int) -> tuple[int, tuple[int, ...]]:
        """Root and intervals of the chord in force."""
        chord = int(self.chords[np.searchsorted(self.chords[:, 0], at, "right") - 1, 1])
        root, quality = divmod(chord, len(T.QUALITIES))
        return root, T.INTERVALS[quality]

    def scale(self) -> tuple[int, list[int]]:
        """Tonic, and the scale's pitch classes."""
        root, mode = self.key.split()
        tonic = T.ROOTS.index(root)
        return tonic, [(tonic + step) % 12 for step in (_MAJOR if mode == "major" else _MINOR)]

    def loud(self, at: int, draw: np.random.Generator, level: float = 1.0) -> int:
        """A velocity: louder on strong beats and towards the third quarter of the song."""
        low, high = self.style.loudness
        swell = np.sin(np.pi * min(1.0, at / (self.bars * self.bar) / 0.75) / 2)
        accent = 8 if at % self.bar == 0 else 3 if at % T.PER_BEAT == 0 else 0
        return int(np.clip((low + (high - low) * swell) * level + accent + draw.integers(-3, 4), 20, 124))


def nearest(pitch: int, classes: Sequence[int]) -> int:
    """The pitch of one of the classes that is nearest; of two equally near the lower.

    >>> nearest(61, [0, 4, 7])
    60
    """
    return min(range(pitch - 6, pitch + 7), key=lambda p: (p % 12 not in classes, abs(p - pitch), p))


def melody(song: Song, draw: np.random.Generator, centre: int = 72, sparse: bool = False) -> list[Row]:
    """Motifs in the form a a' b a: their rhythm returns, their contour too."""
    tonic, scale = song.scale()
    rhythms = song.style.rhythms
    motifs = []
    for _ in range(2):
        bars = [rhythms[int(draw.integers(len(rhythms)))] for _ in range(2)]
        motifs.append((bars, draw.integers(-2, 3, size=64)))
    rows: list[Row] = []
    pitch, step = centre, 0
    for bar in range(song.bars):
        section = bar // 8 % 4
        bars, steps = motifs[1 if section == 2 or bar % 8 in (4, 5) else 0]
        if bar % 4 == 0:
            pitch, step = centre + int(draw.integers(-2, 3)), 0
        if sparse and bar % 2 == 0:
            continue
        rhythm = bars[bar % 2]
        if bar % 8 == 7:  # a close: one long note
            rhythm = (song.bar,)
        at = bar * song.bar
        for length in rhythm:
            if length > 0:
                root, intervals = song.chord(at)
                tones = [(root + i) % 12 for i in intervals]
                aim = int(np.clip(pitch + 2 * int(steps[step % 64]), centre - 9, centre + 11))
                last = bar == song.bars - 1
                strong = at % (2 * T.PER_BEAT) == 0 or length >= 2 * T.PER_BEAT
                pitch = nearest(aim, [tonic] if last else tones if strong else sorted({*scale}))
                gap = 1 if length > 3 and not last else 0
                rows.append((at, length - gap, pitch, song.loud(at, draw)))
                step += 1
            at += abs(length)
    return rows


def counter(song: Song, draw: np.random.Generator) -> list[Row]:
    """A second voice that moves where the first rests."""
    return melody(song, draw, 64, sparse=True)


def _voicing(song: Song, at: int, centre: int) -> list[int]:
    root, intervals = song.chord(at)
    return sorted({nearest(centre + 2 * n, [(root + i) % 12]) for n, i in enumerate(intervals)})


def block(song: Song, draw: np.random.Generator) -> list[Row]:
    """Chords on the beats: low on the first, high after it (a waltz in three)."""
    rows: list[Row] = []
    for at in range(0, song.bars * song.bar, T.PER_BEAT):
        voicing = _voicing(song, at, 57)
        if at % song.bar == 0:
            rows.append((at, 11, voicing[0] - 12, song.loud(at, draw, 0.95)))
        else:
            rows += [(at, 9, pitch, song.loud(at, draw, 0.75)) for pitch in voicing]
    return rows


def strum(song: Song, draw: np.random.Generator) -> list[Row]:
    """Off-beat chords of a pop ballad."""
    pattern = [(0, 18), (18, 6), (24, 12), (36, 12)] if song.bar == 48 else [(0, 12), (12, 6), (18, 6)]
    rows: list[Row] = []
    for start in range(0, song.bars * song.bar, song.bar):
        for offset, length in pattern:
            if offset < song.bar:
                at = start + offset
                rows += [(at, length - 1, p, song.loud(at, draw, 0.8)) for p in _voicing(song, at, 58)]
    return rows


def arpeggio(song: Song, draw: np.random.Generator) -> list[Row]:
    """Broken chords: eighths in simple metres, the metre's own eighths in compound ones."""
    step = 4 if "8" in song.metre else 6
    shape = [0, 2, 3, 4, 3, 2] if step == 4 else [0, 2, 3, 4, 5, 4, 3, 2]
    rows: list[Row] = []
    for n, at in enumerate(range(0, song.bars * song.bar, step)):
        voicing = _voicing(song, at, 55)
        ladder = [voicing[0] - 12, *voicing, *(p + 12 for p in voicing)]
        place = shape[(n % (song.bar // step)) % len(shape)]
        rows.append((at, step, ladder[min(place, len(ladder) - 1)], song.loud(at, draw, 0.8)))
    return rows


def comp(song: Song, draw: np.random.Generator) -> list[Row]:
    """Jazz comping: short chords before and after the beat, in swung eighths."""
    patterns = ([(0, 10), (20, 4)], [(8, 4), (36, 8)], [(0, 4), (20, 10)], [(20, 12)])
    rows: list[Row] = []
    for start in range(0, song.bars * song.bar, song.bar):
        for offset, length in patterns[int(draw.integers(len(patterns)))]:
            at = start + offset
            rows += [(at, length, p, song.loud(at, draw, 0.75)) for p in _voicing(song, at, 60)]
    return rows


def walk(song: Song, draw: np.random.Generator) -> list[Row]:
    """A walking bass: the root, tones of the chord, a half step into the next root."""
    rows: list[Row] = []
    for bar in range(song.bars):
        start = bar * song.bar
        root, intervals = song.chord(start)
        following, _ = song.chord(min(start + song.bar, song.bars * song.bar - 1))
        low = nearest(41, [root])
        beats = song.bar // T.PER_BEAT
        line = [low, *(low + intervals[1 + n % (len(intervals) - 1)] for n in range(beats - 2))]
        line.append(nearest(low + 3, [following]) + int(draw.choice((-1, 1))))
        rows += [(start + n * 12, 11, p, song.loud(start + n * 12, draw, 0.95)) for n, p in enumerate(line[:beats])]
    return rows


def bass(song: Song, draw: np.random.Generator) -> list[Row]:
    """Roots and fifths."""
    rows: list[Row] = []
    half = song.bar // 2 if song.bar % 24 == 0 else song.bar
    for at in range(0, song.bars * song.bar, half):
        root, _ = song.chord(at)
        low = nearest(40, [root]) + (0 if at % song.bar == 0 else int(draw.choice((0, 7, -5))))
        rows.append((at, half - 2, low, song.loud(at, draw)))
    return rows


def pad(song: Song, draw: np.random.Generator) -> list[Row]:
    """Held chords."""
    ends = [*song.chords[1:, 0].tolist(), song.bars * song.bar]
    return [
        (at, min(stop - at, T.LONGEST), pitch, song.loud(at, draw, 0.6))
        for at, stop in zip(song.chords[:, 0].tolist(), ends, strict=True)
        for pitch in _voicing(song, at, 62)
    ]


def ostinato(song: Song, draw: np.random.Generator) -> list[Row]:
    """A figure of sixteenths that stays while the chords move under it."""
    shape = draw.integers(0, 4, size=8)
    rows: list[Row] = []
    for n, at in enumerate(range(0, song.bars * song.bar, 3)):
        voicing = _voicing(song, at, 60)
        if n % 4 != 3 or n % 16 == 15:
            pitch = voicing[int(shape[n % 8]) % len(voicing)]
            rows.append((at, 3, pitch, song.loud(at, draw, 0.85)))
    return rows


PLAYERS: dict[str, Player] = {
    "melody": melody, "counter": counter, "block": block, "strum": strum, "arpeggio": arpeggio, "comp": comp,
    "walk": walk, "bass": bass, "pad": pad, "ostinato": ostinato,
}  # fmt: skip
_FOUR = (
    (12, 12, 12, 12),
    (18, 6, 12, 12),
    (24, 12, 12),
    (6, 6, 12, 24),
    (12, 6, 6, 12, 12),
    (-12, 12, 6, 6, 12),
    (36, 12),
)
_SWING = ((8, 4, 8, 4, 12, 12), (12, 8, 4, 24), (-12, 8, 4, 8, 4, 12), (4, 4, 4, 12, 24), (20, 4, 12, 12))
_THREE = ((12, 12, 12), (24, 12), (18, 6, 12), (36,), (12, 6, 6, 12))
_SIX = ((8, 4, 8, 4), (4, 4, 4, 12), (12, 8, 4), (24,), (12, 4, 4, 4))
_SLOW = ((24, 24), (36, 12), (48,), (12, 12, 24), (-12, 12, 24))
STYLES = (
    Style("pop", ("4/4",), (72, 120), ((0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4)), _FOUR, False,
          {"main_melody": "melody", "sub_melody": "counter", "accompaniment": "strum", "bass": "bass"}, (62, 92)),
    Style("jazz", ("4/4",), (100, 180), ((1, 4, 0, 5), (0, 5, 1, 4), (2, 5, 1, 4)), _SWING, True,
          {"main_melody": "melody", "accompaniment": "comp", "bass": "walk"}, (60, 88)),
    Style("waltz", ("3/4",), (90, 160), ((0, 0, 4, 4, 4, 4, 0, 0), (0, 3, 4, 0)), _THREE, False,
          {"main_melody": "melody", "sub_melody": "counter", "accompaniment": "block"}, (58, 90)),
    Style("new_age", ("4/4",), (60, 84), ((0, 3, 5, 4), (5, 3, 0, 4), (0, 2, 3, 3)), _SLOW, True,
          {"main_melody": "melody", "accompaniment": "arpeggio", "pad": "pad"}, (44, 72)),
    Style("cinematic", ("4/4",), (80, 130), ((0, 5, 2, 6), (0, 3, 5, 4), (0, 0, 5, 4)), _SLOW, False,
          {"main_melody": "melody", "riff": "ostinato", "bass": "bass", "pad": "pad"}, (50, 112)),
    Style("folk", ("6/8", "6/8", "12/8"), (90, 135), ((0, 3, 0, 4), (0, 4, 5, 3), (0, 0, 3, 4)), _SIX, False,
          {"main_melody": "melody", "accompaniment": "arpeggio", "bass": "bass"}, (60, 90)),
    Style("hymn", ("4/4", "3/4"), (66, 92), ((0, 3, 4, 0), (0, 5, 1, 4)), _THREE, False,
          {"main_melody": "melody", "pad": "pad", "bass": "bass"}, (56, 80)),
    Style("electronic", ("4/4",), (110, 132), ((5, 3, 0, 4), (0, 0, 5, 3)), _FOUR, False,
          {"main_melody": "melody", "riff": "ostinato", "bass": "bass", "pad": "pad"}, (70, 104)),
)  # fmt: skip


def compose(number: int) -> tuple[Song, dict[str, T.Notes]]:
    """The song of that number, always the same: what its parts share, and their notes."""
    draw = np.random.default_rng((909, number))
    style = STYLES[number % len(STYLES)]
    metre = style.metres[int(draw.integers(len(style.metres)))]
    mode = "minor" if draw.random() < (0.75 if style.genre == "cinematic" else 0.35) else "major"
    tonic = int(draw.integers(12))
    bars = int(draw.choice((16, 24, 32)))
    bar = T.METRES[metre].beats * T.PER_BEAT
    qualities = (_SEVENTHS if style.sevenths else _DIATONIC)[mode]
    steps = _MAJOR if mode == "major" else _MINOR
    sections = [style.progressions[int(draw.integers(len(style.progressions)))] for _ in range(2)]
    changes = []
    for n in range(bars):
        progression = sections[n // 8 % 4 == 2]
        degree = 0 if n == bars - 1 else progression[n % len(progression)]
        root = (tonic + steps[degree]) % 12
        changes.append((n * bar, root * len(T.QUALITIES) + T.QUALITIES.index(qualities[degree]), root))
    song = Song(
        style,
        f"{T.ROOTS[tonic]} {mode}",
        metre,
        int(draw.integers(style.tempos[0] // 2, style.tempos[1] // 2 + 1)) * 2,
        bars,
        T.tidy_chords(np.array(changes), bars * bar),
    )
    if style.rhythms is _THREE and metre == "4/4":
        song = Song(**{**vars(song), "style": Style(**{**vars(style), "rhythms": _SLOW})})
    if metre == "12/8":
        rhythms = [[*a, *b] for a in _SIX for b in _SIX]
        song = Song(**{**vars(song), "style": Style(**{**vars(style), "rhythms": rhythms})})
    parts = {}
    for n, (role, player) in enumerate(style.parts.items()):
        rows = PLAYERS[player](song, np.random.default_rng((909, number, n)))
        parts[role] = T.tidy(np.array(rows, np.int64), bars * bar)
    return song, parts


PROGRAMS = {"main_melody": 73, "sub_melody": 71, "accompaniment": 0, "bass": 32, "pad": 48, "riff": 46}
"""General MIDI program by role."""


def write(song: Song, parts: dict[str, T.Notes]) -> Midi:
    """A song as a MIDI file that says its key, metre, tempo, chords (markers) and roles (track names)."""
    return score.write(
        [score.Part(role, PROGRAMS[role], notes) for role, notes in parts.items()],
        metre=song.metre,
        bpm=song.bpm,
        bars=song.bars,
        key=song.key,
        chords=song.chords,
        text=f"{song.style.genre} in {song.key}, composed by rule",
    )


def songs(count: int = SONGS) -> Iterator[Draft]:
    """All the songs as drafts; each is a group of its own."""
    for number in range(count):
        song, parts = compose(number)
        name = f"rules/{song.style.genre}-{number:02d}"
        labels = {"genre": song.style.genre, "composed": BY_RULE}
        yield Draft(name, group=name, parts={"mid": write(song, parts).to_bytes()}, labels=labels)
