"""A request cut into words: what is a word, what parts two words, and what is left of a Korean one without its endings.

Columns are kept: signs of full width are read as their plain ones, one for one. It knows signs; no keywords but those
that are glued to a number ("BPM80", "네마디").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from daybreak.systems.music import vocabulary as V

_HANGUL = "가-힣ㄱ-ㆎᄀ-ᇿ"
_SEPARATORS = "\\s\u200b\u2060\ufeff,;.!?…·•、。()\\[\\]{}<>\"“”「」'|/\\-\u2013—\u2212~\u223c〜_=:+&"
_TOKEN = re.compile(
    rf"""(?P<number>[0-9]+(?:\.[0-9]+)?)
    |(?P<hangul>[{_HANGUL}]+)
    |(?P<latin>[A-Ga-g][\#b]?\+(?![^\W_])                            # an augmented chord
      |(?:(?![{_HANGUL}])[^\W_])(?:(?![{_HANGUL}])[^\W_]|\#|'(?=[^\W\d_]))*)
    |(?P<other>[^\w{_SEPARATORS}]+)""",
    re.VERBOSE,
)
_PLAIN = str.maketrans(
    {chr(c): chr(c - 0xFEE0) for c in range(0xFF01, 0xFF5F)}
    | {"\u3000": " ", "♯": "#", "♭": "b", "\u2019": "'", "\u2212": "-"}
)
_DASHES = frozenset("-\u2013—")
_TILDES = frozenset("~\u223c〜")
QUOTES = frozenset("\"“”「」'()[]{}")


@dataclass(frozen=True, slots=True)
class Word:
    """A word, a number, or a run of other signs."""

    raw: str
    folded: str
    kind: str
    """number, hangul, latin or other."""
    start: int
    end: int
    before: str
    """What parts it from the word before: glued, space, dash, underscore, tilde, slash, bar, is, equals or break."""
    quoted: bool
    """A quote or bracket stands right before it."""


def plain(text: str) -> str:
    """The text with signs of full width, musical accidentals and curly apostrophes as plain ones; as long as before."""
    return text.translate(_PLAIN)


def cut(text: str) -> list[Word]:
    """The words of a `plain` text, with what parts them."""
    words: list[Word] = []
    end = 0
    for match in _TOKEN.finditer(text):
        kind, raw, start = str(match.lastgroup), match[0], match.start()
        gap, end = text[end:start], match.end()
        before = _gap(gap) if words else "break"
        quoted = gap[-1:] in QUOTES
        if kind == "number" and gap[-1:] in _DASHES and before != "dash":  # a sign, no hyphen
            raw, start = f"-{raw}", start - 1
        if before == "minus":
            before = "space" if raw[0] == "-" else "dash"
        head = _split_at(raw, kind)
        if head:
            words.append(Word(raw[:head], V.folded(raw[:head]), kind, start, start + head, before, quoted))
            raw, start, before, quoted = raw[head:], start + head, "glued", False
            kind = "number" if raw.isdecimal() else kind
        words.append(Word(raw, V.folded(raw) if kind != "number" else raw, kind, start, end, before, quoted))
    return words


def _split_at(raw: str, kind: str) -> int:
    """Where "BPM80" and "네마디" are two words; 0 where a word is one."""
    if kind == "latin" and (match := re.fullmatch(r"([^\W\d_]{2,})[0-9]+", raw)):
        return len(match[1]) if V.folded(match[1]) in V.NAME_OF else 0
    if kind == "hangul":
        for head in range(min(3, len(raw) - 1), 0, -1):
            if raw[:head] in V.NUMBERS and not {"마디", "소절", "박자"}.isdisjoint(stems(V.folded(raw[head:]))):
                return head
    return 0


def _gap(gap: str) -> str:
    """What a run of separators means."""
    signs = "".join(c for c in gap if not c.isspace() and c not in "\u200b\u2060\ufeff")
    if not gap:
        return "glued"
    if signs[:1] == "=":
        return "equals"
    if signs[:1] == ":":
        return "is"
    if signs and not signs.strip("|"):
        return "bar"
    if "\n" in gap or "\r" in gap:
        return "break"
    if not signs:
        return "space"
    if signs == "/":
        return "slash"
    if signs == "_" == gap:
        return "underscore"
    if len(signs) == 1 and signs in _TILDES:
        return "tilde"
    if len(signs) == 1 and signs in _DASHES:
        return "minus" if gap[0].isspace() and not gap[-1].isspace() else "dash"
    return "break"


@lru_cache(4096)
def stems(word: str) -> tuple[str, ...]:
    """A Korean word, and what is left of it without one to three of its endings."""
    found = [word]
    layer = [word]
    for _ in range(3):
        layer = [stem[: -len(end)] for stem in layer for end in V.SUFFIXES if stem.endswith(end)]
        found += layer
    return tuple(found)
