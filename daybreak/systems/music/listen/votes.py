"""Bringing votes home: the page's file -> items of the lake, and how often the model won.

A votes file comes from a browser, perhaps by mail: everything in it is checked before anything is added.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from daybreak.errors import UserError, nearest
from daybreak.lab.home import Lab
from daybreak.lab.lake import Draft, Lake
from daybreak.systems.music.data.votes import REAL, Choice, draft
from daybreak.systems.music.listen import account
from daybreak.systems.music.listen.keys import ID, Key, folder
from daybreak.systems.music.shares import wilson

LARGEST = 2**20
"""Bytes of a votes file above which it is not read."""


def _moment(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError(f"{text!r} names no time zone")
    return text


def _shown(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it has control characters")
    return text


class Vote(BaseModel):
    """One decision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    choice: Choice
    at: Annotated[str, Field(max_length=40), AfterValidator(_moment)]
    """When, in ISO 8601 with time zone."""


class VotesFile(BaseModel):
    """What the page gives."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    key: Annotated[str, Field(pattern=f"^{ID.pattern}$")]
    by: Annotated[str, Field(max_length=100), AfterValidator(_shown)] = ""
    votes: dict[str, Vote]


def read(path: Path) -> VotesFile:
    """Read a votes file. Raises `UserError` naming the place of the mistake."""
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path} has more than {LARGEST // 2**20} MiB: it is no votes file")
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    try:
        return VotesFile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path} is not a votes file: {where + ': ' if where else ''}{first['msg']}") from error


def bring_home(lab: Lab, path: Path, key_path: Path | None, by: str, licence: str) -> list[str]:
    """Add the votes of a file to the lake, each once, and say how often the model won."""
    given = read(path)
    key = _key(lab, given, path, key_path)
    for id in given.votes:
        if id not in key.pairs:
            raise UserError(f"{path}: page {key.key} has no pair {id!r}; {nearest(id, key.pairs)}")
    if not given.votes:
        raise UserError(f"{path} holds no vote")
    who = by or given.by.strip() or account()
    drafts: dict[str, list[Draft]] = defaultdict(list)
    for id, vote in given.votes.items():
        pair = key.pairs[id]
        drafts[pair.licence or licence].append(draft(pair, key.key, vote.choice, who, vote.at))
    lake, counts = Lake.open(lab), Counter[str]()
    for name, some in drafts.items():
        added = lake.add("music", some, licence=name, source=f"listening page {key.key}")
        if added.broken:
            raise UserError(f"{path}: {added.broken[0].name}: {added.broken[0].reason}")
        counts += Counter(new=added.added, changed=added.changed, known=added.duplicates)
    told = ", ".join(f"{counts[word]} {word}" for word in ("new", "changed", "known") if counts[word])
    return [f"{len(given.votes)} votes by {who} on page {key.key}: {told}", *outcome(key, given.votes)]


def outcome(key: Key, votes: Mapping[str, Vote]) -> list[str]:
    """How often the page's first model was preferred, with a 95 % interval over the pairs; pairs are independent, since
    no song or request comes twice before all others came once."""
    model, *others = key.models
    against = key.models[others[0]] if others else "real clips"
    won = lost = undecided = 0
    for id, vote in votes.items():
        clips = key.pairs[id].clips
        if all(made.maker == model for made in clips.values()):
            continue
        if vote.choice == "none":
            undecided += 1
        elif clips[vote.choice].maker == model:
            won += 1
        else:
            lost += 1
    if not others and all(made.maker != REAL for id in votes for made in key.pairs[id].clips.values()):
        decided = sum(vote.choice != "none" for vote in votes.values())
        return [f"{decided} of {len(votes)} pairs decided; both clips of each are {key.models[model]}'s own"]
    if not won + lost:
        return [f"{key.models[model]} against {against}: no pair decided, {undecided} without a preference"]
    low, high = wilson(won, won + lost)
    share = won / (won + lost)
    rest = f"; {undecided} without a preference" if undecided else ""
    return [
        f"{key.models[model]} was preferred to {against} in {won} of {won + lost} decided pairs: "
        f"{share:.0%} ({low:.0%} to {high:.0%} at 95 %){rest}"
    ]


def _key(lab: Lab, given: VotesFile, path: Path, key_path: Path | None) -> Key:
    """The key of the page that the votes are about."""
    own, beside = folder(lab, given.key) / "key.json", path.with_name("key.json")
    found = key_path or next((place for place in (own, beside) if place.is_file()), None)
    if found is None:
        raise UserError(f"{path} is about page {given.key}, whose key is neither {own} nor {beside}; name it by --key")
    key = Key.open(found)
    if key.key != given.key:
        raise UserError(f"{path} is about page {given.key}, and {found} is the key of page {key.key}")
    return key
