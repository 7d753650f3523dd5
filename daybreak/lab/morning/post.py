"""Sending a morning where the team reads: the page itself where a service takes a file, else its words and a link.

Names stand for addresses (apprise's URLs, which hold secrets), so that no command line, page or log has one. They come
from the environment, DAYBREAK_POST_<NAME>, or from ~/.config/daybreak/post.toml, which only its owner may read.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daybreak.errors import UserError, nearest

PREFIX = "DAYBREAK_POST_"
LINK = "DAYBREAK_LINK"
"""Where colleagues reach the folder of pages, "https://lab.example/daily"; `link` in post.toml says the same."""


def post(page: Path, data: Mapping[str, Any], name: str) -> list[str]:
    """Send a morning to the addresses behind a name.

    Args:
        page: the page's file.
        data: what it was made from.
        name: a name from the environment or post.toml.

    Returns:
        A line for each address: its service and what was sent.

    Raises:
        UserError: an unknown name, a file that others can read, an address that is none, or a service that did not
            take it. No message has an address in it.
    """
    found, link = addresses(name)
    try:
        import apprise
    except ImportError:
        raise UserError("posting needs apprise: pip install 'daybreak[notify]'") from None
    where = f"{link.rstrip('/')}/{data['date']}/index.html" if link else f"{socket.gethostname()}:{page}"
    told = []
    for address in found:
        service = apprise.Apprise.instantiate(address)
        kind = re.match(r"[a-z0-9+.-]+", address.lower())
        if service is None:
            raise UserError(f"an address of {name!r} is none that apprise knows ({kind[0] if kind else 'no'}://...)")
        takes = bool(service.attachment_support)
        capture: Any = apprise.LogCapture
        with capture(level=logging.WARNING, fmt="%(message)s") as log:
            sent = service.notify(
                body=body(data, where, int(service.body_maxlen)),
                title=f"daybreak, {data['day']}",
                body_format=apprise.NotifyFormat.TEXT,
                attach=apprise.AppriseAttachment(str(page)) if takes else None,
            )
            said = [line for line in log.getvalue().splitlines() if line and "://" not in line]
        if not sent:
            reason = f": {said[-1]}" if said else ""
            raise UserError(f"{name}: {service.service_name} did not take it{reason}; the page is {page}")
        told.append(f"{name}: {service.service_name} took {'the page' if takes else 'the words and a link'}")
    return told


def body(data: Mapping[str, Any], where: str, most: int) -> str:
    """The words of a message: headline, verdict, what to decide, where the page is. Cut to `most` characters."""
    parts = [data["headline"], *(sentence["text"] for sentence in data["verdict"])]
    opened = [p for p in data["proposals"] if p["state"] == "open"]
    if opened:
        parts.append("\n".join(f"{p['command']}: {p['text']}" for p in opened))
    text = "\n\n".join(parts)
    room = max(0, most - len(where) - 2)
    return f"{text if len(text) <= room else text[: max(0, room - 3)] + '...'}\n\n{where}"


def addresses(name: str) -> tuple[list[str], str]:
    """The addresses behind a name, and the link's beginning. Raises `UserError` with the nearest names."""
    variable = PREFIX + re.sub(r"[^A-Z0-9]", "_", name.upper())
    held = _file()
    link = os.environ.get(LINK) or str(held.pop("link", ""))
    found = os.environ.get(variable) or held.get(name)
    if not found:
        known = [key.removeprefix(PREFIX).lower() for key in os.environ if key.startswith(PREFIX)]
        raise UserError(
            f"nobody is known as {name!r}; {nearest(name, [*known, *held])}; set {variable} or add it to {_path()}"
        )
    return found.split() if isinstance(found, str) else [str(one) for one in found], link


def _path() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "daybreak" / "post.toml"


def _file() -> dict[str, Any]:
    """What post.toml says; nothing where there is none. It holds secrets: a file that others can read is refused."""
    path = _path()
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise UserError(f"{path} holds secrets and others can read it (mode {mode:04o}); chmod 600 {path}")
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error
