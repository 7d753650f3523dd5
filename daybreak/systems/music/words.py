"""A request in words, in English, Korean or both, to keywords, and back to one canonical text.

A text is read from left to right, the longest known name first; there is no guess. The rules:

- Phrases stand in any order. Commas, full stops, line ends, brackets and quotes part them; words may follow each other
  without any. A phrase is `NAME VALUE` ("bpm 80", "bpm=80", "템포는 80"), `VALUE NAME` ("80 bpm", "재즈 장르", "low
  density") or a value alone ("jazz", "다단조", "3/4").
- Words that carry nothing are a short list (`vocabulary.FILLERS`), Korean particles another (`SUFFIXES`). Any other
  word is an error: its column, and the nearest words.
- One word of two keywords has one meaning alone (`DECIDED`: "bass" and "pad" are roles, "low" is a pitch range, "waltz"
  a genre; "instrument bass", "low density" and "waltz time" say the others), or is refused with both readings
  ("medium", "swing", "lead"). So is a name whose words apart say two keywords ("jazz guitar": write "jazz-guitar" or
  "jazz, guitar"); "bass guitar" alone is one instrument.
- One chord's name is a key ("Am"), two or more are a progression ("Am G F E", "Am-G-F-E", "Am | G | F | E"), which ends
  at a comma unless it is quoted. Beside a progression a key needs its mode or its name ("C major", "key C"). "A" alone
  is the English article.

This file knows words; it knows nothing about what is done with the keywords.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from daybreak.errors import UserError
from daybreak.systems.music import instruments
from daybreak.systems.music import tokens as T
from daybreak.systems.music import vocabulary as V
from daybreak.systems.music.notation import is_chord, progression, short
from daybreak.systems.music.phrases import Phrases
from daybreak.systems.music.sentence import QUOTES, plain

KEYWORDS = V.KEYWORDS
"""The keywords, in the order of a canonical text."""
LONGEST_TEXT = 10_000
"""Characters of a request in words."""
RANGES = {"bpm": (20, 300), "bars": (1, T.MOST_BARS), "min_velocity": (1, 127), "max_velocity": (1, 127)}
"""Least and most of the keywords that are numbers."""

_NOUNS = frozenset(V.words_of("key mode scale style mood feel vibe piece song music tune track clip part sound"))


class Said(NamedTuple):
    """A keyword as it was said."""

    value: Any
    quote: str
    """The words of the text."""
    column: int
    """Where they start, in characters from 1."""

    @property
    def shown(self) -> str:
        """The words and their column, for a message."""
        return f"{self.quote!r} at column {self.column}"


def parse(text: str) -> dict[str, Any]:
    """The keywords of a request in words, in their canonical order. Raises `UserError`.

    >>> parse("재즈, 80 bpm, C minor")
    {'bpm': 80, 'key': 'C minor', 'genre': 'jazz'}
    """
    return {keyword: said.value for keyword, said in read(text).items()}


def read(text: str) -> dict[str, Said]:
    """`parse`, with the words and the column of each keyword. Raises `UserError`."""
    if len(text) > LONGEST_TEXT:
        raise UserError(f"the text has {len(text):,} characters; at most {LONGEST_TEXT:,} are read")
    found = _Reader(plain(text)).read()
    return {keyword: found[keyword] for keyword in KEYWORDS if keyword in found}


def canonical(said: Mapping[str, Any]) -> str:
    """The one text of a request: `parse` gives the same keywords again.

    >>> canonical({"chords": "Am G", "bpm": 80})
    'bpm=80, chords="Am G"'
    """
    shown = {keyword: said[keyword] for keyword in KEYWORDS if keyword in said}
    if "chords" in shown:
        shown["chords"] = f'"{shown["chords"]}"'
    return ", ".join(f"{keyword}={value}" for keyword, value in shown.items())


class _Reader(Phrases):
    """One text being read: where it is, and what was said so far."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.found: dict[str, Said] = {}
        self.symbol: Said | None = None
        """A key that was said by a chord's name alone."""

    def read(self) -> dict[str, Said]:
        at = 0
        while at < len(self.words):
            at = self._phrase(at)
        chords = self.found.get("chords")
        if self.symbol and chords:
            raise UserError(
                f"{self.symbol.shown} may be the key, or a chord of {chords.shown}; write "
                f"'key {self.symbol.quote}', or part chords by spaces alone"
            )
        low, high = self.found.get("min_velocity"), self.found.get("max_velocity")
        if low and high and low.value > high.value:
            both = low.shown if low == high._replace(value=low.value) else f"{low.shown}, {high.shown}"
            raise UserError(f"min_velocity {low.value} is above max_velocity {high.value}: {both}")
        return self.found

    # Phrases. Each method takes the place of its first word and returns the place after its last.

    def _phrase(self, at: int) -> int:
        word = self.words[at]
        if word.before == "equals":
            # A name takes its own "=": what stands before this one is none.
            left = f"{short(self.words[at - 1].raw)!r}" if at else "nothing"
            raise UserError(
                f"{left} before the '=' at column {word.start} is no keyword; they are {', '.join(KEYWORDS)}"
            )
        if word.kind == "number":
            return self._number(at)
        count, after = self._count(at)
        if count is not None and self._name(after)[0] in ("bars", "metre"):
            return self._number(at)
        name, name_end = self._name_here(at)
        form, form_end = self._form(at)
        if name and name_end >= form_end:
            return self._named(name, at, name_end)
        if form:
            return self._value(form, at, form_end)
        if word.folded != "a" and self._filler(at) and not self._key(at)[2]:
            return at + 1
        return self._letters(at) or self._unknown(at)

    def _named(self, name: str, at: int, after: int) -> int:
        """NAME VALUE, perhaps with the name again or a unit after it ("tempo 80 bpm")."""
        start = self._skip(after)
        if name == "chords":
            return self._chords(at, start)
        end = self._take(name, at, start)
        if not end:
            self._no_value(name, at, after, start)
        return self._label((name,), end)

    def _take(self, name: str, at: int, start: int) -> int:
        """Set a keyword from the value at `start`; 0 where none stands there."""
        if not self._inside(start):
            return 0
        if name == "velocity":
            return self._velocities(at, start)
        if name in RANGES:
            number, end = self._count(start)
            if number is None:
                return 0
            self._check_single(name, start, end)
            self._set(name, self._whole(name, number, start, end), at, end)
            return end
        value, end = self._value_of(name, start)
        if end:
            self._set(name, value, at, end)
        return end

    def _value_of(self, name: str, at: int) -> tuple[Any, int]:
        """The value of a keyword that is said by words, and where it ends; an end of 0 where none stands there."""
        if not self._inside(at):
            return None, 0
        if name == "metre" and (read := self._metre(at))[1]:
            return read
        if name == "key" and (key := self._key(at, named=True))[1]:
            return key[:2]
        word = self.words[at]
        if name == "instrument" and word.kind == "number":
            return instruments.PROGRAMS[self._whole("instrument", float(word.raw), at, at + 1)], at + 1
        form, end = self._form(at, name)
        return (V.READINGS[form][name], end) if form else (None, 0)

    def _no_value(self, name: str, at: int, after: int, start: int) -> NoReturn:
        """A name without its value: say which there are."""
        form, end = self._form(start) if self._inside(start) else ("", start)
        if form in V.REASONS:
            self._reason(form, start, end)
        said = self._at(at, after)
        examples = {"key": "as 'C minor'", "velocity": "as 'velocity 60-90'", "chords": "as 'chords Am G F E'"}
        if name in RANGES:
            wanted = f"wants a whole number, {RANGES[name][0]} to {RANGES[name][1]}"
        elif name in examples:
            wanted = f"wants a value, {examples[name]}"
        elif name == "instrument":
            wanted = "wants a value, as 'piano' or a program from 0 to 127"
        else:
            wanted = f"wants a value: {', '.join(map(str, T.FIELDS[name]))}"
        if self._inside(start) and not self._known(start):
            word = self.words[start]
            known = [form for forms in V.VALUES.get(name, {}).values() for form in forms]
            close = _near(word.folded, known)
            wanted += f", not {short(word.raw)!r} (column {word.start + 1})" + (f"; {close}" if close else "")
        raise UserError(f"{said} {wanted}")

    def _value(self, form: str, at: int, end: int) -> int:
        """A value alone, or VALUE NAME."""
        if form in V.REASONS:
            self._reason(form, at, end)
        readings = V.READINGS[form]
        after = self._label(tuple(readings), end)
        name, name_end = self._name(end)
        if name and after > end:
            self._set(name, readings[name], at, end)
            return after
        if len(readings) > 1 and name in readings and not self._is(name_end):
            self._between(end, name_end)
        self._check_together(form, at, end)
        if len(readings) > 1 and form not in V.DECIDED:
            both = " or ".join(f"{name}={value}" for name, value in readings.items())
            raise UserError(f"{self._at(at, end)} may be {both}; say which")
        keyword = V.DECIDED.get(form) or next(iter(readings))
        self._set(keyword, readings[keyword], at, end)
        return end

    def _reason(self, form: str, at: int, end: int) -> NoReturn:
        raise UserError(f"{self._at(at, end)} is no keyword: {V.REASONS[form]}")

    def _check_together(self, form: str, at: int, end: int) -> None:
        """Refuse a name of several words that apart say two keywords ("jazz guitar")."""
        if form in V.TOGETHER or any(word.before != "space" for word in self.words[at + 1 : end]):
            return
        for middle in range(at + 1, end):
            left, left_end = self._form(at, last=middle)
            right, right_end = self._form(middle, last=end)
            if left_end != middle or right_end != end or {left, right} & V.REASONS.keys():
                continue
            one, two = V.READINGS[left], V.READINGS[right]
            if len({*one, *two}) > 1:
                apart = [self._slice(at, middle), self._slice(middle, end)]
                name, value = next(iter(V.READINGS[form].items()))
                raise UserError(
                    f"{self._at(at, end)} may be {name}={value}, or "
                    f"{apart[0]!r} and {apart[1]!r}; write {'-'.join(apart)!r} or {', '.join(apart)!r}"
                )

    def _number(self, at: int) -> int:
        """A number and its unit, a range of velocities, a metre."""
        metre, end = self._metre(at)
        if end:
            self._set("metre", metre, at, end)
            return self._label(("metre",), end)
        number, end = self._count(at)
        _, high_end = self._range(end)
        name, after = self._name(high_end or end)
        if name is None or self._is(after):
            name = None
        if name == "velocity":
            self._velocities(at, at)
            return after
        if name in RANGES and number is not None:
            self._check_single(name, at, end)
            self._set(name, self._whole(name, number, at, end), at, after)
            return after
        raise UserError(
            f"{self._at(at, high_end or end)} belongs to no keyword; write it with one, as '80 bpm', '8 bars', '3/4' "
            "or 'velocity 60-90'"
        )

    def _velocities(self, at: int, start: int) -> int:
        """A range that sets both velocities."""
        if self._inside(start) and self.words[start].folded in ("from", "between"):
            start += 1
        low, end = self._count(start)
        if low is None:
            return 0
        high, high_end = self._range(end)
        if high is None:
            raise UserError(
                f"{self._at(at, end)} may be the softest note or the loudest; write a range, as 'velocity 60-90', or "
                "'min velocity 60', 'max velocity 90'"
            )
        for name, number, first, last in (("min_velocity", low, start, end), ("max_velocity", high, end, high_end)):
            self._set(name, self._whole(name, number, first, last), at, high_end)
        return high_end

    def _chords(self, at: int, start: int) -> int:
        """A progression after its name."""
        quoted = start < len(self.words) and self.words[start].quoted
        if not quoted and (self._known_phrase(start) or not self._inside(start)):
            self._no_value("chords", at, start, len(self.words))
        names, end = self._names(start)
        self._set("chords", progression(names), at, end)
        return end

    def _letters(self, at: int) -> int:
        """A key or chords that stand alone; 0 where none does."""
        word = self.words[at]
        key, end, explicit = self._key(at)
        if end and explicit:
            self._check_article_key(at, end)
            return self._key_said(key, at, end)
        after = self.words[at + 1].before if at + 1 < len(self.words) else ""
        if "bar" in (word.before, after):
            names, stop = self._names(at)
            if len(names) > 1:
                self._set("chords", progression(names), at, stop)
                return self._label(("chords",), stop)
        if word.folded == "a" and after not in ("space", "dash"):
            raise UserError(f"{word.raw!r} at column {word.start + 1} may be the article or the key; write 'A major'")
        if word.raw == "a":
            return at + 1
        if word.kind != "latin" or not word.raw[0].isupper() or not is_chord(self._unit(at)[0]):
            return 0
        names, stop = self._names(at, alone=True)
        if len(names) > 1:
            if names[0] == "A" and len(names) == 2 and after == "space":
                raise UserError(
                    f"{self._at(at, stop)} may be two chords, or an article and one; write "
                    f"'chords {' '.join(names)}' or leave the article out"
                )
        elif word.raw == "A":
            before = self.words[at - 1].folded if at else ""
            if before in ("in", "of", "for") or self.words[at + 1].kind == "number":
                raise UserError(f"'A' at column {word.start + 1} may be the article or the key; write 'A major'")
            return at + 1
        elif end:
            stop = self._key_said(key, at, end)
            if stop == end:
                self.symbol = self.symbol or Said(key, word.raw, word.start + 1)
            return stop
        self._set("chords", progression(names), at, stop)
        return self._label(("chords",), stop)

    def _key_said(self, key: str, at: int, end: int) -> int:
        after = self._label(("key",), end)
        self._set("key", key, at, after)
        return after

    def _check_article_key(self, at: int, end: int) -> None:
        """Refuse "a minor piece": an article and a mode, or the key of A."""
        word = self.words[at]
        if word.folded != "a" or not self._inside(end) or self.words[end].folded not in _NOUNS:
            return
        before = self.words[at - 1].folded if at and word.before == "space" else ""
        if before not in ("a", "an", "the"):
            said = self._at(at, end + 1)
            raise UserError(f"{said} may be in the key of A or in any other; write 'key {self._slice(at, end)}'")

    # Pieces of phrases: what stands at a place, and where it ends.

    def _names(self, at: int, alone: bool = False) -> tuple[list[str], int]:
        """The names of a progression. `alone`: it has no name before it, and must be written in capitals."""
        names: list[str] = []
        first = at
        quoted = self.words[at].quoted
        while at < len(self.words):
            word = self.words[at]
            if at > first and (
                (word.before == "break" and (not quoted or _closes(self.text, self.words[at - 1].end, word.start)))
                or word.before in ("is", "equals", "tilde")
            ):
                break
            unit, end = self._unit(at)
            following = self.words[end].before if end < len(self.words) else ""
            strong = quoted or "bar" in (word.before, following) or (at > first and word.before == "dash")
            if not alone and self._key(at)[2]:
                self._mode_in_chords(at)
            if self._key(at)[2]:
                break
            if not alone and unit == "a" and names and not strong:
                if following in ("space", "dash") and not is_chord(self._unit(end)[0]):
                    raise UserError(f"{self._at(at, at + 1)} may be the article or a chord; write 'A' or a comma")
            elif not is_chord(unit):
                if (alone and not strong) or (names and not quoted and self._known_phrase(at)):
                    break
            elif alone and not unit[0].isupper():
                break
            names.append(unit)
            at = end
            if at < len(self.words) and self.words[at].before == "glued" and self._filler(at):
                at += 1
                break
        return names, at

    def _mode_in_chords(self, at: int) -> NoReturn:
        key, end, _ = self._key(at)
        root, mode = key.split()
        chord = root + ("m" if mode == "minor" else "")
        said = self._at(at, end)
        raise UserError(f"{said} may be the key or the chord {chord}; write '{chord}', or a comma before the key")

    def _label(self, keywords: tuple[str, ...], at: int) -> int:
        """The end of a name (or unit) that stands after its value; `at` where none does."""
        name, end = self._name(at)
        if name not in keywords or self._is(end) or end == at:
            return at
        start = self._skip(end)
        if name == "chords":
            follows = self._inside(start) and is_chord(self._unit(start)[0])
        elif name in RANGES or name == "velocity":
            follows = self._inside(start) and self._number_of(name, start)
        else:
            follows = bool(self._value_of(name, start)[1])
            if follows and len(V.READINGS.get(self._form(start, name)[0], ())) > 1:
                self._between(at, end)
        return at if follows else end

    def _between(self, at: int, end: int) -> NoReturn:
        """Refuse a name between two values that would mean something else without it ("low density high")."""
        raise UserError(
            f"{self._at(at, end)} may belong to {self._slice(at - 1, at)!r} before it or to what follows; write a "
            "comma before or after it"
        )

    def _number_of(self, keyword: str, at: int) -> bool:
        """Whether a number stands here that is no other keyword's."""
        number, end = self._count(at)
        if number is None or self._metre(at)[1]:
            return False
        name, after = self._name(self._range(end)[1] or end)
        return name in (None, keyword) or self._is(after)

    def _skip(self, at: int) -> int:
        """Past what may stand between a name and its value."""
        while self._inside(at) and (self.words[at].folded in V.CONNECTIVES or self._particle(at)):
            at += 1
        return at

    def _known(self, at: int) -> bool:
        return self._known_phrase(at) or self._filler(at)

    # Values, and what is wrong with them.

    def _whole(self, name: str, number: float, at: int, end: int) -> int:
        least, most = RANGES.get(name, (0, 127))
        if not least <= number <= most:
            raise UserError(f"{name} is {least} to {most}, not {self._at(at, end)}")
        if number % 1:
            raise UserError(f"{name} is a whole number, not {self._at(at, end)}")
        return int(number)

    def _check_single(self, name: str, at: int, end: int) -> None:
        """Refuse a range or a fraction where one number is wanted."""
        more = end < len(self.words) and self.words[end].kind == "number"
        if more and self.words[end].before in ("dash", "tilde", "slash", "glued"):
            raise UserError(f"{name} is one whole number, not {self._at(at, end + 1)}")

    def _set(self, keyword: str, value: Any, at: int, end: int) -> None:
        said = Said(value, self._slice(at, end), self.words[at].start + 1)
        there = self.found.setdefault(keyword, said)
        if there.value != value:
            hint = "; write a progression as 'chords Am G F E'" if keyword == "key" and self.symbol else ""
            raise UserError(f"two values of {keyword}: {there.shown} and {said.shown}; say one{hint}")

    def _unknown(self, at: int) -> NoReturn:
        word = self.words[at]
        close = ""
        if self._inside(at + 1):
            pairs = [form for form in _ALL if " " in form]
            close = _near(word.folded + self.words[at + 1].folded, pairs, 0.85)
        close = close or _near(word.folded, _ALL)
        close = close or "no known word is near it; a request reads like 'jazz, 80 bpm, C minor, 8 bars, piano'"
        raise UserError(f"unknown word {short(word.raw)!r} at column {word.start + 1}; {close}")


_ALL = tuple(
    dict.fromkeys(
        [form for forms in V.NAMES.values() for form in forms]
        + [form for values in V.VALUES.values() for forms in values.values() for form in forms]
        + list(T.KEYS)
    )
)


def _closes(text: str, start: int, end: int) -> bool:
    return not QUOTES.isdisjoint(text[start:end])


def _near(word: str, known: Sequence[str], cutoff: float = 0.6) -> str:
    """ "did you mean A or B?", comparing letters (of Korean, jamo); empty where none is near."""
    if len(word) > 60:
        return ""
    by_letters = {unicodedata.normalize("NFD", V.folded(form)): form for form in reversed(known)}
    close = difflib.get_close_matches(unicodedata.normalize("NFD", word), by_letters, n=2, cutoff=cutoff)
    return f"did you mean {' or '.join(by_letters[letters] for letters in close)}?" if close else ""
