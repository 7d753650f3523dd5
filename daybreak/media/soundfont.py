"""MIDI -> sound with the instruments of a SoundFont 2 file, through midirenderer. No soundfont comes with daybreak."""

from __future__ import annotations

from pathlib import Path

from daybreak.errors import UserError
from daybreak.media.audio import Audio
from daybreak.media.midi import Midi

LARGEST = 2 * 2**30
"""Bytes of a soundfont above which it is not read."""


def render(midi: Midi, soundfont: Path) -> Audio:
    """The sound, stereo at 44,100 Hz. Raises `UserError` where the extra or the soundfont is missing or wrong."""
    try:
        import midirenderer
    except ImportError:
        raise UserError("a soundfont needs midirenderer: pip install 'daybreak[soundfont]'") from None
    try:
        if (size := soundfont.stat().st_size) > LARGEST:
            raise UserError(f"soundfont {soundfont} has {size / 2**30:.1f} GiB; at most {LARGEST // 2**30} can be read")
        data = soundfont.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the soundfont {soundfont}: {error.strerror or error}") from error
    if data[:4] != b"RIFF" or data[8:12] != b"sfbk":
        raise UserError(f"{soundfont} is no SoundFont 2 file (.sf2)")
    try:
        return Audio.from_bytes(bytes(midirenderer.render_wave_from(data, midi.to_bytes())))
    except UserError:
        raise
    except BaseException as error:  # the library panics by a BaseException of its own
        if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError)):
            raise
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"cannot render with the soundfont {soundfont}: {reason}") from error
