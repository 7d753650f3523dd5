"""Names of chords and keys <-> their numbers, and the scales. It knows what `tokens` numbers; nothing about files."""

from __future__ import annotations

import re

from daybreak.errors import UserError, nearest
from daybreak.systems.music.tokens import INTERVALS, KEYS, NO_CHORD, QUALITIES, ROOTS

_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_DEGREES = {"1": 0, "2": 2, "3": 4, "4": 5, "5": 7, "6": 9, "7": 11, "9": 2}
_SUFFIXES = {
    "": "maj", "maj": "maj", "M": "maj", "m": "min", "min": "min", "-": "min",
    "dim": "dim", "o": "dim", "aug": "aug", "+": "aug", "sus2": "sus2", "sus4": "sus4", "sus": "sus4",
    "maj7": "maj7", "M7": "maj7", "m7": "min7", "min7": "min7", "-7": "min7", "7": "7",
    "6": "6", "maj6": "6", "m6": "min6", "min6": "min6", "m7b5": "hdim7", "min7b5": "hdim7", "hdim7": "hdim7",
}  # fmt: skip
"""Ways to write a quality."""
_NEAR = {"sus4(b7)": "sus4", "dim7": "dim", "minmaj7": "min", "maj9": "maj7", "min9": "min7", "9": "7", "5": "maj"}
"""Qualities of annotations that the vocabulary lacks, by the nearest one that it has."""
_SHOWN = dict(
    zip(QUALITIES, ("", "m", "dim", "aug", "sus2", "sus4", "maj7", "m7", "7", "6", "m6", "m7b5"), strict=True)
)
_CHORD = re.compile(r"([A-Ga-g])(#|b)?([^/]*)(?:/([A-Ga-g])(#|b)?)?")
_SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10, 11)}


def _root(letter: str, accidental: str | None) -> int:
    return (_LETTERS[letter.upper()] + {"#": 1, "b": -1}.get(accidental or "", 0)) % 12


def parse_chord(text: str) -> tuple[int, int]:
    """Chord number and pitch class of its bass. Raises `UserError`.

    >>> parse_chord("Am7/G")
    (115, 7)
    """
    if text in ("N", "NC", "N.C."):
        return NO_CHORD, 0
    match = _CHORD.fullmatch(text.strip())
    if match is None:
        raise UserError(f"{text!r} is not a chord; write one like Am7/G, or N for none")
    letter, accidental, suffix, bass, bass_accidental = match.groups()
    quality = _SUFFIXES.get(suffix)
    if quality is None:
        raise UserError(f"{text!r}: unknown kind of chord {suffix!r}; {nearest(suffix, filter(None, _SUFFIXES))}")
    root = _root(letter, accidental)
    return root * len(QUALITIES) + QUALITIES.index(quality), _root(bass, bass_accidental) if bass else root


def chord_name(chord: int, bass: int | None = None) -> str:
    """A chord's name as musicians write it.

    >>> chord_name(115, 7)
    'Am7/G'
    """
    if chord == NO_CHORD:
        return "N"
    root, quality = divmod(chord, len(QUALITIES))
    over = "" if bass is None or bass == root else f"/{ROOTS[bass]}"
    return f"{ROOTS[root]}{_SHOWN[QUALITIES[quality]]}{over}"


def chord_of_label(label: str) -> tuple[int, int]:
    """Chord and bass of an annotation in Harte's syntax (`A:min7/b7`, `N`); an unknown quality becomes the nearest.

    Raises ValueError where it is none.
    """
    if label == "N" or label == "X":
        return NO_CHORD, 0
    name, _, over = label.partition("/")
    note, _, quality = name.partition(":")
    root = _root(note[0], note[1:2])
    quality = _NEAR.get(quality, quality)
    known = _SUFFIXES.get(quality)
    if known is None:
        raise ValueError(f"unknown chord {label!r}")
    bass = root
    if over:
        bass = (root + _DEGREES[over.lstrip("b#")] - over.count("b") + over.count("#")) % 12
    return root * len(QUALITIES) + QUALITIES.index(known), bass


def pitch_classes(chord: int) -> frozenset[int]:
    """The pitch classes of a chord; of no chord, none."""
    if chord == NO_CHORD:
        return frozenset()
    root, quality = divmod(chord, len(QUALITIES))
    return frozenset((root + step) % 12 for step in INTERVALS[quality])


def scale(key: str) -> frozenset[int]:
    """The pitch classes of a key; the minor scale has both sevenths."""
    root, mode = key.split()
    return frozenset((ROOTS.index(root) + step) % 12 for step in _SCALES[mode])


def parse_key(text: str) -> str:
    """A key's standard name. Raises `UserError` with the nearest ones.

    >>> parse_key("c# minor"), parse_key("Am"), parse_key("F")
    ('Db minor', 'A minor', 'F major')
    """
    match = re.fullmatch(r"([A-Ga-g])(#|b|♯|♭)?\s*[: -]?\s*([A-Za-z]*)", text.strip())
    modes = {"": "major", "M": "major", "m": "minor"}
    if match:
        letter, accidental, said = match.groups()
        mode = modes.get(said) or {"maj": "major", "min": "minor", "major": "major", "minor": "minor"}.get(said.lower())
        if mode:
            return f"{ROOTS[_root(letter, {'♯': '#', '♭': 'b'}.get(accidental, accidental))]} {mode}"
    raise UserError(f"unknown key {text!r}; {nearest(text.strip(), KEYS)}")


def key_of_signature(sharps: int, minor: bool) -> str:
    """The key of a MIDI key signature: sharps (negative: flats) and mode."""
    root = (sharps * 7 + (9 if minor else 0)) % 12
    return f"{ROOTS[root]} {'minor' if minor else 'major'}"


def signature_of_key(key: str) -> tuple[int, bool]:
    """Sharps (negative: flats) and whether minor: a MIDI key signature, -5 to 6.

    >>> signature_of_key("C minor")
    (-3, True)
    """
    root, mode = key.split()
    minor = mode == "minor"
    sharps = (ROOTS.index(root) + (3 if minor else 0)) * 7 % 12
    return (sharps - 12 if sharps > 6 else sharps), minor
