"""MIDI -> written music: MusicXML, and a sheet as SVG. It writes what the file says; it changes no note and no time.

MusicXML 4.0 counts time in divisions of a quarter note; here 24, which holds twelfths of simple and of compound beats.
What lies off that grid is refused. Drum tracks are written as percussion: no pitch, each sound with its own place.
"""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, ClassVar, Self

from daybreak.errors import UserError
from daybreak.media.base import Media
from daybreak.media.midi import Midi
from daybreak.media.percussion import drum
from daybreak.media.svg import Svg

DIVISIONS = 24
"""Of a quarter note."""
_NAMES = ("32nd", "16th", "eighth", "quarter", "half", "whole")
_PLAIN = {3 * 2**n: (name, 0, False) for n, name in enumerate(_NAMES)}
_DOTTED = {9 * 2**n: (name, 1, False) for n, name in enumerate(_NAMES[1:])}
_TRIPLET = {2**n: (name, 0, True) for n, name in enumerate(("64th", *_NAMES[:5]))}
VALUES = {**_PLAIN, **_DOTTED, **_TRIPLET}
"""Divisions -> type of note, dots, whether three stand for two."""
_KINDS = {
    "": "major", "maj": "major", "M": "major", "m": "minor", "min": "minor", "dim": "diminished", "aug": "augmented",
    "sus2": "suspended-second", "sus4": "suspended-fourth", "maj7": "major-seventh", "m7": "minor-seventh",
    "7": "dominant", "6": "major-sixth", "m6": "minor-sixth", "m7b5": "half-diminished", "dim7": "diminished-seventh",
}  # fmt: skip
_CHORD = re.compile(r"([A-G])(#|b)?([^/]*)(?:/([A-G])(#|b)?)?")
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_Element = ElementTree.Element
_add = ElementTree.SubElement


class MusicXml(Media):
    """Written music as uncompressed MusicXML."""

    mime: ClassVar[str] = "application/vnd.recordare.musicxml+xml"
    suffix: ClassVar[str] = ".musicxml"

    def __init__(self, text: str) -> None:
        self.text = text

    def to_bytes(self) -> bytes:
        return self.text.encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Check and read. Raises `UserError`."""
        if b"<!ENTITY" in data:
            raise UserError("the MusicXML file declares entities, which are not read")
        try:
            root = ElementTree.fromstring(data.decode())
        except (ElementTree.ParseError, UnicodeDecodeError) as error:
            raise UserError(f"not a MusicXML file: {error}") from error
        if root.tag != "score-partwise":
            raise UserError(f"not a MusicXML file by parts: its root is {root.tag!r}")
        return cls(data.decode())

    def html(self) -> str:
        data = base64.b64encode(self.to_bytes()).decode()
        return f'<a download="score{self.suffix}" href="data:{self.mime};base64,{data}">MusicXML</a>'

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MusicXml) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def sheet(midi: Midi) -> Svg:
    """The sheet, engraved by Verovio on one long page. Raises `UserError` where the extra `score` is missing."""
    try:
        import verovio
    except ImportError:
        raise UserError("a sheet needs verovio: pip install 'daybreak[score]'") from None
    engraver = verovio.toolkit()
    engraver.setOptions({"pageHeight": 60000, "adjustPageHeight": True, "xmlIdSeed": 1, "footer": "none"})
    if not engraver.loadData(musicxml(midi).text):
        raise UserError("verovio cannot engrave this music")
    if (pages := engraver.getPageCount()) != 1:
        raise UserError(f"the music fills {pages} sheets of the greatest height; notate fewer bars at once")
    return Svg.from_bytes(engraver.renderToSVG(1).encode())


def musicxml(midi: Midi) -> MusicXml:
    """Parts, bars, keys, tempos and chords of a MIDI file. Raises `UserError` where one of them lies off the grid, or a
    metre or key changes within a bar."""
    score = midi.score()
    if not any(len(track.notes) for track in score.tracks):
        raise UserError("the MIDI file has no notes to write")
    root = _Element("score-partwise", version="4.0")
    listed = _add(root, "part-list")
    bars = list(_bars(score))
    for n, track in enumerate(score.tracks, 1):
        about = _add(listed, "score-part", id=f"P{n}")
        _text(about, "part-name", _UNWRITABLE.sub("?", track.name) or f"Part {n}")
        _instruments(about, n, track)
    for n, track in enumerate(score.tracks, 1):
        _part(_add(root, "part", id=f"P{n}"), score, track, bars, n)
    ElementTree.indent(root)
    return MusicXml(f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n')


def _instruments(about: _Element, n: int, track: Any) -> None:
    """What plays part n. Of a drum track each sound is an instrument, so that its note number is kept."""
    sounds = sorted({note.pitch for note in track.notes}) if track.is_drum else []
    name = _UNWRITABLE.sub("?", track.name)
    names = {f"P{n}-D{number}": drum(number).name for number in sounds} or {f"P{n}-I1": name}
    for identity, words in names.items():
        _text(_add(about, "score-instrument", id=identity), "instrument-name", words)
    for place, identity in enumerate(names):
        played = _add(about, "midi-instrument", id=identity)
        _text(played, "midi-channel", 10 if track.is_drum else (n - 1) % 15 + 1 + ((n - 1) % 15 >= 9))
        _text(played, "midi-program", track.program + 1)
        if sounds:
            _text(played, "midi-unpitched", sounds[place] + 1)


def _divisions(ticks: int, tpq: int, what: str) -> int:
    made, off = divmod(ticks * DIVISIONS, tpq)
    if off:
        raise UserError(
            f"{what} at tick {ticks} is off the grid of 1/{DIVISIONS} of a quarter; quantise the file first"
        )
    return made


def _bars(score: Any) -> Iterator[tuple[int, int, int, int]]:
    """Start and length in divisions, beats and beat type of each bar."""
    signatures = {0: (4, 4)}  # the standard's default
    for s in score.time_signatures:
        signatures[_divisions(s.time, score.tpq, "a time signature")] = (s.numerator, s.denominator)
    ends = [m.time for m in score.markers if m.text == "end"]
    end = -(-max(score.end(), *ends, 1) * DIVISIONS // score.tpq)
    at, current = 0, signatures[0]
    while at < end:
        current = signatures.pop(at, current)
        length = current[0] * 4 * DIVISIONS // current[1]
        if length == 0:
            raise UserError(f"a bar of {current[0]}/{current[1]} is too short to be written")
        if inside := [t for t in signatures if at < t < at + length]:
            raise UserError(f"the time signature changes within a bar, {inside[0] / DIVISIONS:g} quarters in")
        yield at, length, *current
        at += length


def _voices(score: Any, track: Any) -> list[list[tuple[int, int, list[int]]]]:
    """Chords (onset, duration, pitches), parted so that within a voice none overlaps another."""
    chords: dict[tuple[int, int], list[int]] = defaultdict(list)
    for note in track.notes:
        onset = _divisions(note.time, score.tpq, "a note")
        duration = _divisions(note.duration, score.tpq, "the length of a note")
        if duration < 1:
            raise UserError(f"a note at tick {note.time} has no length")
        chords[onset, duration].append(note.pitch)
    voices: list[list[tuple[int, int, list[int]]]] = [[]]
    for (onset, duration), pitches in sorted(chords.items()):
        free = next((v for v in voices if not v or v[-1][0] + v[-1][1] <= onset), None)
        if free is None:
            voices.append(free := [])
        free.append((onset, duration, sorted(pitches)))
    return voices


def _pieces(at: int, length: int, beat: int) -> Iterator[int]:
    """A duration within a bar as written values; those off the beat end with it."""
    while length:
        room = length if at % beat == 0 or (at % 12 == 0 and length in _PLAIN) else min(length, beat - at % beat)
        kinds = (*_PLAIN, *_DOTTED) if room % 3 == 0 else tuple(VALUES)
        piece = room if room in VALUES else max(v for v in kinds if v <= room)
        yield piece
        at, length = at + piece, length - piece


def _keys(score: Any, bars: list[tuple[int, int, int, int]]) -> dict[int, tuple[int, str]]:
    """Sharps and mode from each division on at which a bar begins. Of several at one time the last holds."""
    signs = sorted(score.key_signatures, key=lambda key: key.time)
    keys = {
        _divisions(key.time, score.tpq, "a key signature"): (key.key, "minor" if key.tonality else "major")
        for key in signs
    }
    for start, length, *_ in bars:
        if inside := [at for at in keys if start < at < start + length]:
            raise UserError(f"the key changes within a bar, {inside[0] / DIVISIONS:g} quarters in")
    return keys


def _part(part: _Element, score: Any, track: Any, bars: list[tuple[int, int, int, int]], number: int) -> None:
    keys = _keys(score, bars)
    voices = _voices(score, track)
    pitches = [note.pitch for note in track.notes] or [60]
    sharps, metre = 0, (0, 0)
    for n, (start, length, beats, kind) in enumerate(bars, 1):
        measure = _add(part, "measure", number=str(n))
        attributes = _Element("attributes")
        if n == 1:
            _text(attributes, "divisions", DIVISIONS)
        if start in keys:
            sharps, mode = keys[start]
            key = _add(attributes, "key")
            _text(key, "fifths", 0 if track.is_drum else sharps)  # left out, it would be the other parts' key
            _text(key, "mode", "none" if track.is_drum else mode)
        if (beats, kind) != metre:
            metre = (beats, kind)
            time = _add(attributes, "time")
            _text(time, "beats", beats)
            _text(time, "beat-type", kind)
        if n == 1:
            clef = _add(attributes, "clef")
            low = sum(pitches) / len(pitches) < 60
            sign, line = ("percussion", None) if track.is_drum else ("F", 4) if low else ("G", 2)
            _text(clef, "sign", sign)
            if line:
                _text(clef, "line", line)
        if len(attributes):
            measure.append(attributes)
        if number == 1:
            _above(measure, score, start, length)
        beat = 36 if kind == 8 and beats % 3 == 0 else DIVISIONS
        used = 0
        for v, voice in enumerate(voices, 1):
            inside = [c for c in voice if c[0] < start + length and c[0] + c[1] > start]
            if v > 1 and not inside:
                continue
            if used:
                _text(_add(measure, "backup"), "duration", length)
            used = v
            _voice(measure, inside, start, length, beat, None if track.is_drum else sharps, v, number)


def _voice(
    measure: _Element,
    chords: list[tuple[int, int, list[int]]],
    start: int,
    length: int,
    beat: int,
    sharps: int | None,
    n: int,
    part: int,
) -> None:
    """One voice of one bar: its chords with ties, and rests between them. `sharps` is None in percussion."""
    at = start
    made: list[tuple[int, int, list[int], bool, bool]] = []
    for onset, duration, pitches in [*chords, (start + length, 0, [])]:
        begin, stop = max(onset, start), min(onset + duration, start + length)
        if not chords:
            break
        for piece in _pieces(at - start, begin - at, beat):
            made.append((at, piece, [], False, False))
            at += piece
        for piece in _pieces(begin - start, stop - begin, beat) if pitches else ():
            made.append((at, piece, pitches, at > onset, at + piece < onset + duration))
            at += piece
    if not chords:
        note = _add(measure, "note")
        _add(note, "rest", measure="yes")
        _text(note, "duration", length)
        _text(note, "voice", n)
        return
    opened = False
    for index, (at, piece, pitches, tied, ties) in enumerate(made):
        name, dots, triplet = VALUES[piece]
        begins = triplet and not opened
        follows = index + 1 < len(made) and VALUES[made[index + 1][1]][2]
        stops = triplet and ((at + piece - start) % beat == 0 or not follows)
        opened = triplet and not stops
        for k, pitch in enumerate(pitches or [None]):
            note = _add(measure, "note")
            if k:
                _add(note, "chord")
            if pitch is None:
                _add(note, "rest")
            elif sharps is None:
                shown = _add(note, "unpitched")
                _text(shown, "display-step", drum(pitch).place[0])
                _text(shown, "display-octave", drum(pitch).place[1])
            else:
                _spell(_add(note, "pitch"), pitch, sharps)
            _text(note, "duration", piece)
            for yes, word in ((tied, "stop"), (ties, "start")):
                if yes:
                    _add(note, "tie", type=word)
            if pitch is not None and sharps is None:
                _add(note, "instrument", id=f"P{part}-D{pitch}")
            _text(note, "voice", n)
            _text(note, "type", name)
            for _ in range(dots):
                _add(note, "dot")
            if triplet:
                modified = _add(note, "time-modification")
                _text(modified, "actual-notes", 3)
                _text(modified, "normal-notes", 2)
            if pitch is not None and sharps is None and drum(pitch).cross:
                _text(note, "notehead", "x")
            marks = [("tied", "stop")] * tied + [("tied", "start")] * ties
            marks += [("tuplet", "start")] * (begins and not k) + [("tuplet", "stop")] * (stops and not k)
            notations = _add(note, "notations") if marks else note
            for mark, word in marks:
                _add(notations, mark, type=word)


def _spell(pitch: _Element, number: int, sharps: int) -> None:
    """Step, alteration and octave: the name nearest to the key on the line of fifths, with its raised seventh."""
    fifths = sharps - 3 + (number * 7 - (sharps - 3)) % 12
    alter = (fifths + 1) // 7
    _text(pitch, "step", "FCGDAEB"[(fifths + 1) % 7])
    if alter:
        _text(pitch, "alter", alter)
    _text(pitch, "octave", (number - alter) // 12 - 1)


def _above(measure: _Element, score: Any, start: int, length: int) -> None:
    """Tempos and chords of a bar."""
    for tempo in score.tempos:
        if start <= (at := _divisions(tempo.time, score.tpq, "a tempo")) < start + length:
            direction = _add(measure, "direction", placement="above")
            metronome = _add(_add(direction, "direction-type"), "metronome")
            _text(metronome, "beat-unit", "quarter")
            _text(metronome, "per-minute", f"{tempo.qpm:.6g}")
            _text(direction, "offset", at - start, sound="yes")  # the tempo is played from there, not from the bar line
            _add(direction, "sound", tempo=f"{tempo.qpm:.6g}")
    for marker in score.markers:
        match = _CHORD.fullmatch(marker.text)
        if not match or match[3] not in _KINDS:
            continue  # no chord: "Verse 1", "end", "N"
        if not start <= (at := _divisions(marker.time, score.tpq, f"chord {marker.text}")) < start + length:
            continue
        harmony = _add(measure, "harmony")
        for tag, letter, accidental in (("root", match[1], match[2]), ("bass", match[4], match[5])):
            if letter:
                group = _add(harmony, tag)
                _text(group, f"{tag}-step", letter)
                if accidental:
                    _text(group, f"{tag}-alter", 1 if accidental == "#" else -1)
            if tag == "root":
                _add(harmony, "kind", text=match[3]).text = _KINDS[match[3]]
        _text(harmony, "offset", at - start)


def _text(parent: _Element, tag: str, value: object, **attributes: str) -> None:
    _add(parent, tag, attributes).text = str(value)
