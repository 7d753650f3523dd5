"""Keys and progressions as people write them in words: "C sharp minor", "올림바장조", "C 마이너", "Am | G".

It knows how one key and one list of chords is written; it knows no sentences.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from daybreak.errors import UserError
from daybreak.systems.music import harmony
from daybreak.systems.music import tokens as T

MOST_CHORDS = T.MOST_BARS * max(metre.beats for metre in T.METRES.values())
"""Chords of a progression: one a beat of the longest clip."""
_KEY = re.compile(
    r"(?P<letter>[A-Ga-g])(?P<accidental>#|b|(?i:sharp|flat)|샵|샤프|플랫)?(?P<mode>[A-Za-z]*|장조|단조|메이저|마이너)"
)
_KOREAN_KEY = re.compile("(?P<accidental>올림|내림)?(?P<letter>[가나다라마바사])(?P<mode>장조|단조)")
_MODES = {"major": "major", "minor": "minor", "장조": "major", "단조": "minor", "메이저": "major", "마이너": "minor"}
_SHORT_MODES = {"": "major", "M": "major", "maj": "major", "m": "minor", "min": "minor"}
_ACCIDENTALS = {
    "": "", "#": "#", "b": "b", "sharp": "#", "flat": "b",
    "샵": "#", "샤프": "#", "플랫": "b", "올림": "#", "내림": "b",
}  # fmt: skip
_LETTERS = dict(zip("가나다라마바사", "ABCDEFG", strict=True))


def progression(names: Sequence[str]) -> str:
    """Chords in their standard names. Raises `UserError` with a caret under the first that is none."""
    if not names:
        raise UserError("there is no chord in the progression; write it like 'Am G F E'")
    if len(names) > MOST_CHORDS:
        raise UserError(f"a progression has at most {MOST_CHORDS} chords, one a beat, not {len(names)}")
    found = []
    for n, name in enumerate(names):
        try:
            found.append(harmony.chord_name(*harmony.parse_chord(name)))
        except UserError as error:
            first, last = max(0, n - 8), n + 9
            shown = [_printable(chord) for chord in names[first:last]]
            lead = "... " if first else ""
            offset = _width(lead + "".join(f"{chord} " for chord in shown[: n - first]))
            line = lead + " ".join(shown) + (" ..." if last < len(names) else "")
            caret = " " * offset + "^" * max(1, _width(shown[n - first]))
            raise UserError(f"chord {n + 1} of {len(names)}: {short(str(error), 160)}\n  {line}\n  {caret}") from error
    return " ".join(found)


@lru_cache(4096)
def key_of(joined: str) -> tuple[str, bool]:
    """A key's standard name, and whether its mode is said in a word; an empty name where it is none."""
    if match := _KOREAN_KEY.fullmatch(joined):
        letter = _LETTERS[match["letter"]]
    elif match := _KEY.fullmatch(joined):
        letter = match["letter"].upper()
    else:
        return "", False
    mode = _MODES.get(match["mode"].lower())
    brief = _SHORT_MODES.get(match["mode"])
    if not mode and not brief:
        return "", False
    return harmony.parse_key(f"{letter}{_ACCIDENTALS[(match['accidental'] or '').lower()]} {mode or brief}"), bool(mode)


@lru_cache(4096)
def is_chord(name: str) -> bool:
    """Whether a text is a chord's name."""
    try:
        harmony.parse_chord(name)
    except UserError:
        return False
    return True


def short(text: str, most: int = 40) -> str:
    """A text for a message, cut at `most` characters with three dots."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in short(text))


def _width(text: str) -> int:
    """Columns of a terminal that a text takes."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text)
