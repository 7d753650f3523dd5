"""What may stand at a place of a cut text: a name, a form of a value, a number, a key, a metre, a chord.

It looks; it decides nothing and keeps nothing of what it saw.
"""

from __future__ import annotations

from collections.abc import Iterator

from daybreak.errors import UserError, nearest
from daybreak.systems.music import tokens as T
from daybreak.systems.music import vocabulary as V
from daybreak.systems.music.notation import key_of, short
from daybreak.systems.music.sentence import cut, stems

LINKS = frozenset(("glued", "space", "dash", "underscore"))
"""What may stand between the words of one name."""


class Phrases:
    """A text that is looked at. Places are indices of its words."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = cut(text)

    def _inside(self, at: int) -> bool:
        """Whether there is a word that still belongs to the phrase of the one before."""
        return at < len(self.words) and self.words[at].before != "break"

    def _is(self, at: int) -> bool:
        return at < len(self.words) and self.words[at].before in ("is", "equals")

    def _joined(self, at: int, last: int) -> Iterator[tuple[str, str, int]]:
        """Up to four words as one name, the longest first: without and with its last word's endings, and the end."""
        end = at + 1
        while end < min(last, at + 4) and self.words[end].before in LINKS:
            end += 1
        while end > at:
            head = "".join(word.folded for word in self.words[at : end - 1])
            tail = self.words[end - 1]
            for stem in stems(tail.folded) if tail.kind == "hangul" else (tail.folded,):
                yield head + stem, tail.folded, end
            end -= 1

    def _name(self, at: int) -> tuple[str | None, int]:
        if at < len(self.words) and (at == 0 or self.words[at].before != "break"):
            return self._name_here(at)
        return None, at

    def _name_here(self, at: int) -> tuple[str | None, int]:
        for joined, _, end in self._joined(at, len(self.words)):
            if joined in V.NAME_OF:
                return V.NAME_OF[joined], end
        return None, at

    def _form(self, at: int, keyword: str = "", last: int = 0) -> tuple[str, int]:
        """The longest form of a value (of that keyword) that starts here, and its end."""
        for joined, _, end in self._joined(at, last or len(self.words)):
            if keyword in V.READINGS.get(joined, ()) or (not keyword and (joined in V.READINGS or joined in V.REASONS)):
                return joined, end
        return "", at

    def _count(self, at: int) -> tuple[float | None, int]:
        """A number, in figures or in words."""
        if at >= len(self.words):
            return None, at
        word = self.words[at]
        if word.kind == "number":
            return float(word.raw), at + 1
        for joined, _, end in self._joined(at, min(at + 2, len(self.words))):
            if joined in V.NUMBERS:
                return V.NUMBERS[joined], end
        return None, at

    def _range(self, at: int) -> tuple[float | None, int]:
        """The upper end of a range whose lower end stands before `at`."""
        if not self._inside(at):
            return None, 0
        word = self.words[at]
        if word.before in ("dash", "tilde") and word.kind == "number":
            return float(word.raw), at + 1
        if word.folded in ("to", "and", "에서", "부터"):
            high, end = self._count(at + 1) if self._inside(at + 1) else (None, 0)
            if high is not None and self._name(end)[0] in (None, "velocity"):
                trailing = end < len(self.words) and self.words[end].folded in ("까지", "사이")
                return high, end + trailing
        return None, 0

    def _metre(self, at: int) -> tuple[str, int]:
        """`3/4`, "4분의 3박자", "3박자"."""
        words, count = self.words, len(self.words)
        top, end = self._count(at)
        if top is None:
            return "", 0
        if end < count and words[end].before == "slash" and words[end].kind == "number" == words[at].kind:
            return self._known_metre(f"{words[at].raw}/{words[end].raw}", at, end + 1), end + 1
        if end < count and words[end].folded == "분의" and words[end].before in LINKS:
            over, stop = self._count(end + 1) if self._inside(end + 1) else (None, 0)
            if over is not None:
                stop = self._beats(stop) or stop
                return self._known_metre(f"{over:g}/{top:g}", at, stop), stop
        stop = self._beats(end)
        return (self._known_metre(f"{top:g}/4", at, stop), stop) if stop else ("", 0)

    def _beats(self, at: int) -> int:
        """The end of "박자" with its endings, or 0."""
        if at < len(self.words) and self.words[at].before in LINKS:
            return at + 1 if "박자" in stems(self.words[at].folded) else 0
        return 0

    def _known_metre(self, metre: str, at: int, end: int) -> str:
        if metre not in T.METRES:
            raise UserError(f"unknown metre {self._at(at, end)}; {nearest(metre, T.METRES)}")
        return metre

    def _key(self, at: int, named: bool = False) -> tuple[str, int, bool]:
        """A key, its end, and whether its mode was said in a word."""
        end = at + 1
        while end < min(len(self.words), at + 4) and self.words[end].before in LINKS:
            end += 1
        while end > at:
            tail = self.words[end - 1]
            head = "".join(word.raw for word in self.words[at : end - 1])
            for stem in stems(tail.folded) if tail.kind == "hangul" else (tail.raw,):
                key, explicit = key_of(head + stem)
                one = end == at + 1
                if key and (explicit or (one and (named or tail.raw[0].isupper()))):
                    return key, end, explicit
                if key and named and head:
                    return key, end, explicit
            end -= 1
        return "", 0, False

    def _unit(self, at: int) -> tuple[str, int]:
        """A chord's name as it is written, over its bass, and its end."""
        end = at + 1
        while end < len(self.words) and self.words[end].before in ("glued", "slash"):
            if self.words[end].kind == "hangul":  # a particle
                break
            end += 1
        return self.text[self.words[at].start : self.words[end - 1].end], end

    def _particle(self, at: int) -> bool:
        word = self.words[at]
        return word.kind == "hangul" and word.before == "glued" and "" in stems(word.folded)

    def _filler(self, at: int) -> bool:
        word = self.words[at]
        if word.kind == "hangul":
            left = stems(word.folded)
            return not V.FILLERS.isdisjoint(left) or (word.before == "glued" and "" in left)
        return word.folded in V.FILLERS

    def _known_phrase(self, at: int) -> bool:
        """Whether a word stands here that a phrase of its own may start with."""
        if at >= len(self.words):
            return False
        if self.words[at].kind == "number" or self._name_here(at)[0] or self._form(at)[0] or self._key(at)[2]:
            return True
        return self.words[at].folded != "a" and self._filler(at)

    def _at(self, at: int, end: int) -> str:
        return f"{self._slice(at, end)!r} at column {self.words[at].start + 1}"

    def _slice(self, at: int, end: int) -> str:
        return short(" ".join(self.text[self.words[at].start : self.words[end - 1].end].split()), 60)
