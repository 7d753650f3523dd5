"""`daybreak music notate`: a MIDI file as MusicXML, as an engraved sheet, and played with a soundfont."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from daybreak.errors import UserError
from daybreak.media.base import Media
from daybreak.media.midi import Midi
from daybreak.media.notation import musicxml
from daybreak.media.notation import sheet as engraved


def notate(
    file: Path,
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path(),
    sheet: bool = False,
    soundfont: Path | None = None,
) -> None:
    """Write a MIDI file as MusicXML, as a sheet (SVG) and as sound.

    Args:
        file: the MIDI file.
        out: folder for what is written, under the file's name; by default here.
        sheet: engrave the sheet too; needs daybreak[score].
        soundfont: a SoundFont 2 file whose instruments play it too (WAV); needs daybreak[soundfont].
    """
    from daybreak.media.soundfont import render

    midi = Midi.open(file)
    made: list[Media] = [musicxml(midi)]
    if sheet:
        made.append(engraved(midi))
    if soundfont is not None:
        made.append(render(midi, soundfont))
    try:
        out.mkdir(parents=True, exist_ok=True)
        for media in made:
            print(media.save(out / f"{file.stem}{media.suffix}"))
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror or error}") from error
