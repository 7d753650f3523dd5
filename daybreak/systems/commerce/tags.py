"""Tags: groups of values, how people write them in English and Korean, and what a searched text means in them.

It knows words; it knows nothing about pictures, nets or catalogues.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from daybreak.errors import UserError, nearest

FILLERS = frozenset({
    "a", "an", "the", "in", "of", "for", "with", "and", "or", "to", "me", "my", "show",
    "find", "some", "any", "please", "coloured", "colored", "color", "colour", "price",
    "cheap", "색", "색상", "옷", "좀", "의", "을", "를", "이", "가", "은", "는", "용", "에", "찾아줘", "보여줘",
    "추천", "그리고"
})  # fmt: skip
"""Words that say nothing about an item."""
ENDINGS = ("으로", "에서", "의", "을", "를", "이", "가", "은", "는", "용", "색", "로")
"""Korean particles that stand behind a word without a space."""
PRICE = re.compile(
    r"(?P<word>under|below|less than|at most|up to|over|above|more than|at least|from)"
    r"\s*[$€₩£]?\s*(?P<number>\d[\d,.]*)(?P<unit>k\b)?"
    r"|[$€₩£]?\s*(?P<korean>\d[\d,.]*)\s*(?P<scale>만|천)?\s*(?:원)?\s*(?P<bound>이하|미만|이상|초과)",
    re.IGNORECASE,
)
UPPER = {"under", "below", "less than", "at most", "up to", "이하", "미만"}


class Group(BaseModel):
    """One group of tags."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    exclusive: bool = False
    """An item has at most one of its values."""
    line: str = ""
    """What the group says of an item."""
    values: dict[str, tuple[str, ...]] = Field(min_length=1)
    """Value -> the words for it, beside its own name."""


class Wanted(BaseModel):
    """What a text asks for."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    tags: dict[str, tuple[str, ...]]
    """Group -> values, any of which will do."""
    lowest: float | None = None
    highest: float | None = None
    """Bounds of the price, in the catalogue's own unit."""
    read_as: dict[str, str] = {}
    """Words that were taken for another that is spelled nearly so."""
    unknown: dict[str, str] = {}
    """Words that no tag has, with the nearest ones."""


class Vocabulary(BaseModel):
    """The groups of tags, in their order: what `tags.toml` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    groups: dict[str, Group] = Field(min_length=1)
    """By name."""

    @classmethod
    def read(cls, text: str, where: str = "tags.toml") -> Vocabulary:
        """From TOML: a table per group. Raises `UserError` naming what does not fit, or a word of two values."""
        try:
            found = cls(groups=tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"{where}: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"][1:])
            raise UserError(f"{where}: {place}: {first['msg']}") from error
        seen: dict[str, str] = {}
        for group, value, word in found.spellings():
            if seen.setdefault(word, f"{group}.{value}") != f"{group}.{value}":
                raise UserError(f"{where}: {word!r} stands for both {seen[word]} and {group}.{value}; keep one")
        return found

    @classmethod
    def open(cls, path: Path) -> Vocabulary:
        """From a file."""
        try:
            return cls.read(path.read_text(), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {path}: {error}") from error

    @classmethod
    def usual(cls) -> Vocabulary:
        """The one that comes with daybreak: kinds, colours and wearers of clothing."""
        return cls.read((files("daybreak.systems.commerce") / "tags.toml").read_text())

    @cached_property
    def flat(self) -> tuple[tuple[str, str], ...]:
        """All (group, value) in order: the columns of a tag matrix."""
        return tuple((group, value) for group, found in self.groups.items() for value in found.values)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The same as "group.value"."""
        return tuple(f"{group}.{value}" for group, value in self.flat)

    @cached_property
    def columns(self) -> dict[tuple[str, str], int]:
        """Where each (group, value) stands."""
        return {pair: n for n, pair in enumerate(self.flat)}

    def span(self, group: str) -> slice:
        """The columns of a group."""
        places = [n for n, (name, _) in enumerate(self.flat) if name == group]
        return slice(places[0], places[-1] + 1)

    @property
    def colours(self) -> slice:
        """The columns of the group `colour`; none without one."""
        return self.span("colour") if "colour" in self.groups else slice(0, 0)

    def spellings(self) -> Iterator[tuple[str, str, str]]:
        """(group, value, word), lower case, the value's own name among them."""
        for group, found in self.groups.items():
            for value, words in found.values.items():
                for word in {value, value.replace("_", " "), *words}:
                    yield group, value, _plain(word)

    def check(self, tags: Mapping[str, Sequence[str]], where: str = "") -> dict[str, tuple[str, ...]]:
        """Tags as group -> values. Raises `UserError` for an unknown group or value, or two of an exclusive one."""
        before = f"{where}: " if where else ""
        out = {}
        for group, values in tags.items():
            if group not in self.groups:
                raise UserError(f"{before}unknown group of tags {group!r}; {nearest(group, self.groups)}")
            known = self.groups[group]
            for value in values:
                if value not in known.values:
                    raise UserError(f"{before}unknown {group} {value!r}; {nearest(value, known.values)}")
            if known.exclusive and len(set(values)) > 1:
                raise UserError(f"{before}an item has one {group}, not {' and '.join(values)}")
            if values:
                out[group] = tuple(dict.fromkeys(values))
        return out

    @cached_property
    def _words(self) -> dict[str, tuple[str, str]]:
        return {word: (group, value) for group, value, word in self.spellings()}

    def parse(self, text: str) -> Wanted:
        """What a text asks for: tags, bounds of the price, and the words that it could not read.

        The longest known phrase is taken first, so that "dark blue" is navy and "long sleeve shirt" not a shirt alone.
        Korean needs no spaces: "빨간원피스" is "빨간 원피스".
        """
        text = _plain(text)
        lowest: float | None = None
        highest: float | None = None

        def price(match: re.Match[str]) -> str:
            nonlocal lowest, highest
            number = float((match["number"] or match["korean"]).rstrip(".,").replace(",", ""))
            number *= 1000 if match["unit"] else {"만": 10_000, "천": 1000}.get(match["scale"] or "", 1)
            if (match["word"] or match["bound"]).lower() in UPPER:
                highest = number
            else:
                lowest = number
            return " "

        text = PRICE.sub(price, text)
        tags: dict[str, list[str]] = {}
        read_as: dict[str, str] = {}
        unknown: dict[str, str] = {}
        words = re.findall(r"[^\s,;/.!?]+", text)
        place = 0
        while place < len(words):
            for length in range(min(3, len(words) - place), 0, -1):
                phrase = " ".join(words[place : place + length])
                if found := self._read(phrase):
                    for group, value in found:
                        tags.setdefault(group, []).append(value)
                    break
            else:
                length, word = 1, words[place]
                if word not in FILLERS:
                    near = difflib.get_close_matches(word, self._words, 1, 0.8) if len(word) > 3 else []
                    if near:
                        group, value = self._words[near[0]]
                        tags.setdefault(group, []).append(value)
                        read_as[word] = near[0]
                    else:
                        unknown[word] = nearest(word, self._words)
            place += length
        return Wanted(
            tags={group: tuple(dict.fromkeys(values)) for group, values in tags.items()},
            lowest=lowest, highest=highest, read_as=read_as, unknown=unknown,
        )  # fmt: skip

    def _read(self, phrase: str) -> list[tuple[str, str]]:
        """The values that a phrase stands for: itself, its singular, its stem, or two written as one."""
        if phrase in self._words:
            return [self._words[phrase]]
        if phrase.isascii():
            for end, put in (("es", ""), ("s", ""), ("ies", "y"), ("ish", "")):
                if phrase.endswith(end) and phrase.removesuffix(end) + put in self._words:
                    return [self._words[phrase.removesuffix(end) + put]]
            return []
        for end in ENDINGS:
            if phrase.endswith(end) and phrase.removesuffix(end) in self._words:
                return [self._words[phrase.removesuffix(end)]]
        for cut in range(len(phrase) - 1, 0, -1):
            if phrase[:cut].strip() in self._words and (rest := self._read(phrase[cut:].strip())):
                return [self._words[phrase[:cut].strip()], *rest]
        return []


def words_of(tags: Mapping[str, Sequence[str]]) -> str:
    """Tags as a reader sees them: "label t_shirt, colour red and white"."""
    return ", ".join(f"{group} {' and '.join(values)}" for group, values in tags.items())


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("_", " ").casefold()).strip()


def usual_tags(labels: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The tags among an item's labels."""
    return {str(group): tuple(values) for group, values in dict(labels.get("tags", {})).items()}
