"""The listening page: one HTML file that fetches nothing and says nothing about what stands on which side.

Its look is the morning page's; its own styles come after those. Sounds are MP3 and piano rolls SVG, as data URIs.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from daybreak.lab.morning.page import HERE as MORNING
from daybreak.media import Media
from daybreak.media.audio import Mp3
from daybreak.media.midi import Midi
from daybreak.media.synth import render as sound_of
from daybreak.systems.music.data.votes import SIDES, Pair, keywords

HERE = Path(__file__).parent
RATE = 24000
"""Sampling rate of the sounds in Hz."""


def render(key: str, pairs: Sequence[Pair], rolls: bool) -> str:
    """The page's HTML."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = (MORNING / "page.css").read_text() + (HERE / "page.css").read_text()
    js = (HERE / "page.js").read_text()
    return environment.get_template("page.html.j2").render(
        key=key,
        css=css,
        js=js,
        css_hash=_hash(css),
        js_hash=_hash(js),
        pairs=[_shown(pair, rolls) for pair in pairs],
    )


def title(pair: Pair) -> str:
    """What both clips were to be: "main melody, C minor, 8 bars, 4/4, 80 bpm"."""
    said = keywords(pair.row)
    words = [str(said[name]) for name in ("role", "genre", "key") if name in said]
    words += [f"{said['bars']} bars"] if "bars" in said else []
    words += [str(said["metre"])] if "metre" in said else []
    words += [f"{said['bpm']} bpm"] if "bpm" in said else []
    return ", ".join(words).replace("_", " ") or "any music"


def _shown(pair: Pair, rolls: bool) -> dict[str, object]:
    sides = []
    for side in SIDES:
        midi = Midi.from_bytes(pair.clips[side].midi)
        sound = sound_of(midi, RATE)
        sides.append(
            {
                "side": side,
                "sound": _uri(Mp3(sound.samples, sound.rate)),
                "roll": _uri(midi.roll()) if rolls else "",
            }
        )
    return {"id": pair.id, "title": title(pair), "sides": sides}


def _uri(media: Media) -> str:
    return f"data:{media.mime};base64,{base64.b64encode(media.to_bytes()).decode()}"


def _hash(text: str) -> str:
    """What a Content-Security-Policy calls an inline style or script that it allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
