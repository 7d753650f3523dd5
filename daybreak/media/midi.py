"""MIDI files as values. It reads, checks and shows them; it knows nothing about tokens or models."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

from daybreak.errors import UserError
from daybreak.media.base import Media

if TYPE_CHECKING:
    from daybreak.media.audio import Audio
    from daybreak.media.svg import Svg


class Midi(Media):
    """A standard MIDI file."""

    mime: ClassVar[str] = "audio/midi"
    suffix: ClassVar[str] = ".mid"
    largest: ClassVar[int] = 16 * 2**20

    def __init__(self, data: bytes) -> None:
        self._data = data

    def to_bytes(self) -> bytes:
        return self._data

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Check a file's bytes. Raises `UserError` with the reason."""
        if not data:
            raise UserError("the MIDI file is empty")
        if data[:4] != b"MThd":
            raise UserError(f"not a MIDI file: it begins with {data[:4]!r} instead of b'MThd'")
        midi = cls(data)
        midi._check()
        midi.score()
        return midi

    @classmethod
    def of(cls, score: Any, text: str = "") -> Self:
        """Write a symusic score in ticks; `text` becomes a text event at its start."""
        data = bytes(score.dumps_midi())
        return cls(_with_text(data, text) if text else data)

    def score(self) -> Any:
        """The file as a new `symusic.Score` in ticks."""
        import symusic

        try:
            return symusic.Score.from_midi(self._data)
        except Exception as error:  # symusic raises RuntimeError, ValueError and its own by the file's fault
            reason = str(error).removeprefix("MiniMidi: ").removesuffix(": iostream error").replace("\n", " ")
            raise UserError(f"the MIDI file is damaged: {reason}") from error

    @cached_property
    def text(self) -> str:
        """The text event at the start of the first track, or ''."""
        at = 22  # after the header (14 bytes) and the first track's (8)
        while self._data[at : at + 1] == b"\0" and self._data[at + 1 : at + 2] == b"\xff":
            kind = self._data[at + 2]
            length, body = _number(self._data, at + 3)
            if kind == 1:
                return self._data[body : body + length].decode("utf-8", "replace")
            at = body + length
        return ""

    def traits(self) -> dict[str, float]:
        """Tracks, notes, quarter notes of length; beats a minute at the start, mean pitch (MIDI number), mean length of
        a note in quarter notes, mean velocity."""
        score = self.score()
        notes = [track.notes.numpy() for track in score.tracks if len(track.notes)]
        quarters = score.end() / score.ticks_per_quarter
        tempo = float(score.tempos[0].qpm) if len(score.tempos) else 120.0
        found = {
            "tracks": float(len(notes)), "notes": float(sum(len(one["pitch"]) for one in notes)),
            "quarters": float(quarters), "tempo": tempo,
        }  # fmt: skip
        if not notes:
            return found

        def mean(field: str) -> float:
            return float(sum(one[field].sum(dtype=float) for one in notes)) / found["notes"]

        length = mean("duration") / score.ticks_per_quarter
        return found | {"pitch": mean("pitch"), "length": length, "velocity": mean("velocity")}

    def sound(self, rate: int = 32000) -> Audio:
        """A preview by the built-in synthesiser."""
        from daybreak.media.synth import render

        return render(self, rate)

    def roll(self) -> Svg:
        """The piano roll."""
        from daybreak.media.roll import piano_roll

        return piano_roll(self)

    def html(self) -> str:
        return f'<figure class="midi">{self.roll().html()}{self.sound().html()}</figure>'

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Midi) and other._data == self._data

    def __hash__(self) -> int:
        return hash(self._data)

    def _check(self) -> None:
        """Walk over the chunks, so that a truncated file is named as such."""
        if len(self._data) < 14:
            raise UserError(f"the MIDI file is truncated: {len(self._data)} bytes, its header alone has 14")
        tracks, at, found = int.from_bytes(self._data[10:12], "big"), 14, 0
        if int.from_bytes(self._data[12:14], "big") & 0x8000:
            raise UserError("the MIDI file counts time in film frames (SMPTE); only ticks a quarter note can be read")
        if int.from_bytes(self._data[12:14], "big") == 0:
            raise UserError("the MIDI file says 0 ticks a quarter note")
        while at + 8 <= len(self._data) and found < tracks:
            size = int.from_bytes(self._data[at + 4 : at + 8], "big")
            if at + 8 + size > len(self._data):
                missing = at + 8 + size - len(self._data)
                raise UserError(f"the MIDI file is truncated: {missing} bytes of its chunk {found + 1} are missing")
            found += self._data[at : at + 4] == b"MTrk"
            at += 8 + size
        if found < tracks:
            raise UserError(f"the MIDI file is truncated: {found} of its {tracks} tracks are there")


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length number and the place behind it."""
    value = 0
    while True:
        value = value << 7 | data[at] & 0x7F
        at += 1
        if data[at - 1] < 0x80:
            return value, at


def _variable(value: int) -> bytes:
    made = [value & 0x7F]
    while value := value >> 7:
        made.append(value & 0x7F | 0x80)
    return bytes(reversed(made))


def _with_text(data: bytes, text: str) -> bytes:
    """The file with a text event before everything else in its first track."""
    body = text.encode()
    event = b"\0\xff\x01" + _variable(len(body)) + body
    size = int.from_bytes(data[18:22], "big") + len(event)
    return data[:18] + size.to_bytes(4, "big") + event + data[22:]
