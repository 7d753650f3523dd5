"""Sending a morning where the team reads: the page itself where a service takes a file, else its words and a link.

Names stand for addresses, which hold secrets, so that no command line, page or log has one. They come from the
environment, DAYBREAK_POST_<NAME>, or from ~/.config/daybreak/post.toml, which only its owner may read. Teams and
OneNote are spoken to here (`teams`, `onenote`), every other service through apprise (`others`).
"""

from __future__ import annotations

import os
import re
import socket
import stat
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from daybreak.errors import UserError, nearest

PREFIX = "DAYBREAK_POST_"
LINK = "DAYBREAK_LINK"
"""Where colleagues reach the folder of pages, "https://lab.example/daily"; `link` in post.toml says the same."""
FORMS = {
    "teams": "the address of a Workflow's webhook, https://...",
    "onenote": "onenote://TENANT/CLIENT/SECTION",
    "slack": "slack://xoxb-.../CHANNEL, or a webhook's address",
    "discord": "a webhook's address",
    "mail": "mailtos://USER:PASSWORD@HOST?to=TEAM@HOST",
    "matrix": "matrixs://TOKEN@HOST/ROOM",
}
"""What the address of a well-known service looks like, for whoever has none yet."""


def post(page: Path, data: Mapping[str, Any], name: str, say: Callable[[str], None] | None = None) -> list[str]:
    """Send a morning to the addresses behind a name. One that fails keeps none of the others from being sent.

    Args:
        page: the page's file.
        data: what it was made from.
        name: a name from the environment or post.toml.
        say: shows a person at a terminal what to do for a sign-in; None where nobody looks.

    Returns:
        A line for each address: its service and what was sent.

    Raises:
        UserError: an unknown name, a file that others can read, an address that is none, or a service that did not
            take it: one line that says what was sent and what was not. No message has an address in it.
    """
    found, link = addresses(name)
    try:
        from daybreak.lab.morning.post import others
    except ImportError:
        raise UserError("posting needs apprise: pip install 'daybreak[notify]'") from None
    from daybreak.lab.morning.post.wire import Partly, Refused, clean
    from daybreak.lab.morning.post.words import message

    told = message(data, f"{link.rstrip('/')}/{data['date']}/index.html" if link else f"{socket.gethostname()}:{page}")
    ready = [(address, others.known(address, name)) for address in found]  # a wrong one is told before any is sent
    sent, refused = [], []
    for address, service in ready:
        try:
            sent.append(f"{service.name} took {service.send(page, data, told, folder(), say)}")
        except Refused as error:
            said = "" if isinstance(error, Partly) else "did not take it: "
            refused.append(f"{service.name} {said}{clean(str(error), address)}")
        except UserError as error:
            refused.append(str(error))
    if refused:
        raise UserError(f"{name}: {'; '.join([*refused, *sent])}; the page is {page}")
    return [f"{name}: {line}" for line in sent]


def addresses(name: str) -> tuple[list[str], str]:
    """The addresses behind a name, and the link's beginning. Raises `UserError` with the nearest names."""
    variable = PREFIX + re.sub(r"[^A-Z0-9]", "_", name.upper())
    held = _file()
    link = os.environ.get(LINK) or str(held.pop("link", ""))
    found = os.environ.get(variable) or held.get(name)
    if not found:
        known = [key.removeprefix(PREFIX).lower() for key in os.environ if key.startswith(PREFIX)]
        form = f" to {FORMS[name]}" if name in FORMS else ""
        raise UserError(
            f"nobody is known as {name!r}; {nearest(name, [*known, *held])}; set {variable}{form}, "
            f"or add it to {folder() / 'post.toml'}"
        )
    return found.split() if isinstance(found, str) else [str(one) for one in found], link


def folder() -> Path:
    """Where daybreak keeps what belongs to this user alone."""
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "daybreak"


def _file() -> dict[str, Any]:
    """What post.toml says; nothing where there is none. It holds secrets: a file that others can read is refused."""
    path = folder() / "post.toml"
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
