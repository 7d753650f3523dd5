"""Signing in to Microsoft once, with a code on another screen; afterwards a refresh token in a 0600 file is enough.

The OAuth 2.0 device authorization grant (RFC 8628), as the Microsoft identity platform has it. No password passes
through here. Each use gives a new refresh token, which takes the place of the old one.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests

from daybreak.errors import UserError
from daybreak.lab.home import write_whole
from daybreak.lab.morning.post.wire import LIMIT, Refused, ask, clean

SLOWER = 5.0
"""Seconds that "slow_down" adds to the interval (RFC 8628, 3.5)."""


def access(place: Path, login: str, tenant: str, client: str, scope: str, say: Callable[[str], None] | None) -> str:
    """An access token for an application.

    Args:
        place: the folder of the 0600 file.
        login: where to sign in, "https://login.microsoftonline.com".
        tenant: the directory, or "organizations", "consumers", "common".
        client: the application's id. It is a public client: it has no secret.
        scope: what is asked for.
        say: shows a person where to sign in; None where nobody looks.

    Raises:
        UserError: nobody has signed in yet and nobody looks, or a file that others can read.
        Refused: what Microsoft says.
    """
    base = f"{login.rstrip('/')}/{tenant}/oauth2/v2.0"
    about = hashlib.sha256(f"{base} {client} {scope}".encode()).hexdigest()[:12]
    path = place / f"onenote-{about}.json"
    held = _held(path)
    if held:
        told = _token(base, {"grant_type": "refresh_token", "client_id": client, "scope": scope, "refresh_token": held})
        if "access_token" in told:
            return _keep(path, told, held)
        if told.get("error") not in ("invalid_grant", "interaction_required"):
            raise Refused(_why(told))
    if say is None:
        raise UserError(
            "onenote: nobody has signed in on this machine, or it is over; run the same command once at a terminal"
        )
    return _keep(path, _by_code(base, client, scope, say), "")


def _by_code(base: str, client: str, scope: str, say: Callable[[str], None]) -> Mapping[str, Any]:
    """Ask for a code, show it, and wait until somebody has entered it."""
    told: dict[str, Any] = ask("POST", f"{base}/devicecode", data={"client_id": client, "scope": scope}).json()
    say(str(told.get("message") or f"To sign in, open {told['verification_uri']} and enter {told['user_code']}"))
    wait, end = float(told.get("interval", 5)), time.monotonic() + float(told["expires_in"])
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code", "client_id": client,
        "device_code": told["device_code"],
    }  # fmt: skip
    while time.monotonic() < end:
        time.sleep(wait)
        answer = _token(base, form)
        if "access_token" in answer:
            return answer
        if answer.get("error") == "slow_down":
            wait += SLOWER
        elif answer.get("error") != "authorization_pending":
            raise Refused(_why(answer))
    raise Refused("nobody entered the code in time")


def _token(base: str, form: Mapping[str, str]) -> dict[str, Any]:
    """Ask for tokens. A refusal is an answer here: it may say "not yet"."""
    try:
        answer = requests.post(f"{base}/token", data=form, timeout=LIMIT, allow_redirects=False)
        told = answer.json()
    except (requests.RequestException, ValueError):
        raise Refused("the sign-in cannot be reached, or does not answer as one does") from None
    if not isinstance(told, dict) or not ("access_token" in told or "error" in told):
        raise Refused("the sign-in does not answer as one does")
    return told


def _why(told: Mapping[str, Any]) -> str:
    return f"the sign-in was refused: {clean(str(told.get('error_description') or told.get('error')))}"


def _held(path: Path) -> str:
    """The refresh token of the last time; empty where there is none."""
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise UserError(f"{path} holds a secret and others can read it (mode {mode:04o}); chmod 600 {path}")
            return str(json.load(file)["refresh_token"])
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {path}: {error}; remove it to sign in anew") from error


def _keep(path: Path, told: Mapping[str, Any], before: str) -> str:
    """Keep the refresh token where only its owner reads it. The access token."""
    token = str(told.get("refresh_token") or before)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"refresh_token": token}).encode(), mode=0o600)
    return str(told["access_token"])
