"""`daybreak music listen`: a blind page of pairs to vote on, and the votes brought home to the lake.

The page is one offline file. What stands on which side is in a key file beside it, and nowhere in the page.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from daybreak.errors import UserError

if TYPE_CHECKING:
    from daybreak.lab.home import Lab
    from daybreak.systems.music.data.votes import Pair
    from daybreak.systems.music.model import Music


def listen(
    *,
    pairs: Literal["real", "generated"] = "real",
    count: int = 12,
    model: str = "music",
    against: str = "",
    split: Literal["train", "validation", "test"] = "validation",
    rolls: bool = True,
    seed: int = 0,
    out: Path | None = None,
    votes: Path | None = None,
    key: Path | None = None,
    by: str = "",
    licence: str = "Private",
) -> None:
    """Make a blind A/B page of real and composed clips, or bring its votes home.

    Args:
        pairs: real: a song's clip beside one composed for its keywords and chords; generated: two composed clips, what
            music:tune learns from.
        count: pairs on the page, 1 to 100.
        model: which weights compose: a registered model, a run, or a folder.
        against: with --pairs generated: a second model; without it both clips are the model's own.
        split: with --pairs real: the split whose songs are heard.
        rolls: show the piano rolls of a pair once it has been voted on.
        seed: draws songs or requests, their clips, and the sides.
        out: folder for the page and its key; by default listening/ID in the lab's folder.
        votes: bring these votes home instead: the file that the page gave.
        key: with --votes: the page's key file; by default the lab's own, else key.json beside the votes.
        by: with --votes: who voted; by default the name that stands in the votes, else the account's.
        licence: with --votes: the licence of items that hold composed clips alone.
    """
    from daybreak.lab.home import Lab

    lab = Lab.open()
    if votes is not None:
        from daybreak.systems.music.listen.votes import bring_home

        for line in bring_home(lab, votes, key, by, licence):
            print(line)
        return
    if not 1 <= count <= 100:
        raise UserError(f"--count is 1 to 100, not {count}")
    if against and pairs == "real":
        raise UserError("--against needs --pairs generated")
    for line in make(lab, pairs, count, model, against, split, rolls, seed, out):
        print(line)


def make(
    lab: Lab,
    kind: Literal["real", "generated"],
    count: int,
    model: str,
    against: str,
    split: Literal["train", "validation", "test"],
    rolls: bool,
    seed: int,
    out: Path | None,
) -> list[str]:
    """Compose the pairs and write index.html and key.json. Returns what to tell the user."""
    from daybreak.lab.home import write_whole
    from daybreak.lab.lake import Lake
    from daybreak.systems.music import pairs as drawn
    from daybreak.systems.music.listen import keys, page

    models = [_open(lab, text) for text in (model, against) if text]
    found: list[Pair]
    if kind == "generated":
        if len(models) == 2 and models[0][0].name == models[1][0].name:
            raise UserError(f"--model {model} and --against {against} are the same weights; leave --against out")
        found = list(drawn.generated(models, count, seed))
    else:
        data = Lake.open(lab).snapshot("music")
        found = list(drawn.real(*models[0], data, split, count, seed))
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    held = keys.Key.of(found, {music.name: title for music, title in models}, seed, now)
    folder = out or keys.folder(lab, held.key)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "key.json", held.to_bytes())
        write_whole(folder / "index.html", page.render(held.key, found, rolls).encode())
    except OSError as error:
        raise UserError(f"cannot write the page to {folder}: {error.strerror or error}") from error
    where = "" if out is None else f" --key {folder / 'key.json'}"
    return [
        str(folder / "index.html"),
        f"{count} pairs; the page says nothing about what stands where: {folder / 'key.json'} does",
        f"bring the votes home with: daybreak music listen --votes FILE{where}",
    ]


def _open(lab: Lab, text: str) -> tuple[Music, str]:
    from daybreak.lab.registry import locate
    from daybreak.systems.music.model import Music

    place = locate(lab, text)
    return Music.load(place.path), place.title


def account() -> str:
    """The name of the account that runs this process."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
