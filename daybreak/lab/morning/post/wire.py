"""Asking a service over HTTP: how long to wait for it, when to ask again, and what its refusal means in words.

A service that says "later" (429, or 503 with a time) is asked again when it says, a bounded number of times and a
bounded time in all. Nothing is sent again that may have arrived. No word that comes from here has an address or a
secret in it.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from requests.adapters import HTTPAdapter

LIMIT = (10.0, 60.0)
"""Seconds to connect, and between two bytes of an answer."""
TIMES = 4
LONGEST = 60.0
"""Seconds that are waited in all for a service that says "later"."""
REASONS = {
    400: "it does not take this message",
    401: "it does not know the token",
    403: "it does not allow this",
    404: "there is nothing at this address any more",
    410: "there is nothing at this address any more",
    413: "the message is too large for it",
    429: "it is asked too often",
}


class Refused(Exception):
    """A service did not take something. Its text is the reason."""


class Partly(Refused):
    """A service took a part. Its text says which, and why not the rest."""


class Patient(HTTPAdapter):
    """A connection that waits when it is told to, and remembers what was refused."""

    def __init__(self, heard: list[str]) -> None:
        super().__init__()
        self.heard = heard

    def send(self, request: requests.PreparedRequest, *values: Any, **more: Any) -> requests.Response:
        waited = 0.0
        for attempt in range(TIMES):
            try:
                answer = super().send(request, *values, **more)
            except requests.RequestException as error:
                self.heard.append(broken(error))
                raise
            wait = later(answer, 2.0**attempt)
            if wait is None or attempt == TIMES - 1:
                break
            if waited + wait > LONGEST:
                self.heard.append(f"{reason(answer)}; it asks to come back in {wait:.0f} s")
                # Whoever asked would wait as long as it says: it is told that there is no answer.
                raise requests.exceptions.RetryError("asked to come back too late", request=request)
            _ = answer.content  # the connection is free again
            time.sleep(wait)
            waited += wait
            if getattr(request, "_body_position", None) is not None:
                requests.utils.rewind_body(request)
        if (said := reason(answer)) is not None:
            self.heard.append(said)
        if answer.status_code == 429:
            raise requests.exceptions.RetryError("still asked too often", request=request)
        return answer


@contextlib.contextmanager
def patience() -> Iterator[list[str]]:
    """While it lasts, every request that apprise makes is patient; what was refused is in the list.

    apprise gives no way to hand it a connection: it makes its own through `requests`, with the class named here.
    """
    heard: list[str] = []
    room: Any = requests.sessions
    held = room.HTTPAdapter
    room.HTTPAdapter = lambda *_, **__: Patient(heard)
    try:
        yield heard
    finally:
        room.HTTPAdapter = held


def ask(method: str, address: str, **more: Any) -> requests.Response:
    """One request. Redirects are not followed: they would carry a token elsewhere. Raises `Refused`."""
    heard: list[str] = []
    with requests.Session() as session:
        session.trust_env = False  # no password of a .netrc goes along
        session.proxies = requests.utils.get_environ_proxies(address)
        for scheme in ("https://", "http://"):
            session.mount(scheme, Patient(heard))
        try:
            answer = session.request(method, address, timeout=LIMIT, allow_redirects=False, **more)
        except requests.RequestException as error:
            raise Refused(heard[-1] if heard else broken(error)) from None
    if not 200 <= answer.status_code < 300:
        raise Refused(heard[-1] if heard else f"HTTP {answer.status_code}")
    return answer


def later(answer: requests.Response, otherwise: float) -> float | None:
    """Seconds after which to ask again; None where asking again would be wrong.

    Args:
        answer: what the service said.
        otherwise: the wait where a 429 names none.
    """
    if answer.status_code not in (429, 503):
        return None
    named = answer.headers.get("Retry-After", "")
    if answer.status_code == 503 and not named:
        return None
    try:
        return max(0.0, float(named))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(named).timestamp() - time.time())
    except (TypeError, ValueError):
        pass
    told = _object(answer)
    with contextlib.suppress(KeyError, TypeError, ValueError):
        return max(0.0, float(told["retry_after_ms"]) / 1000)  # Matrix
    with contextlib.suppress(KeyError, TypeError, ValueError):
        return max(0.0, float(told["retry_after"]))  # Discord
    return otherwise


def reason(answer: requests.Response) -> str | None:
    """Why a service did not take it; None where it did. Slack refuses with 200 and `"ok": false`."""
    told = _object(answer)
    fine = 200 <= answer.status_code < 300
    if fine and told.get("ok") is not False:
        return None
    words = "" if fine else f"HTTP {answer.status_code}"
    known = REASONS.get(answer.status_code) or ("it is out of order" if answer.status_code >= 500 else "")
    held = told.get("error")
    parts = held if isinstance(held, dict) else told
    own = [str(parts[key]) for key in ("code", "errcode", "message", "error_description") if parts.get(key)]
    if isinstance(held, str):
        own.insert(0, held)
    said = clean(" ".join(dict.fromkeys(own)))
    return ": ".join(filter(None, [", ".join(filter(None, [words, known])), said]))


def broken(error: BaseException) -> str:
    """A failed connection, in words."""
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not one that this machine trusts"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return f"it cannot be reached within {LIMIT[0]:g} s"
    if isinstance(error, requests.exceptions.Timeout):
        return f"it did not answer within {LIMIT[1]:g} s; whether it has arrived is not known"
    text = str(error)
    if "NewConnectionError" in text or "NameResolution" in text or "refused" in text.lower():
        return "it cannot be reached"
    return "the connection broke off; whether it has arrived is not known"


def clean(text: str, *secrets: str) -> str:
    """Words from outside on one short line, without addresses, and without what looks like a secret or is one."""
    line = " ".join(text.split())
    for secret in sorted({part for one in secrets for part in re.split(r"[/:@?&=#]+", one)}, key=len, reverse=True):
        if len(secret) >= 4:
            line = line.replace(secret, "…")
    line = re.sub(r"\S*://\S*", "…", line)
    line = re.sub(r"[A-Za-z0-9_\-.~+/]{28,}", "…", line)
    line = line.rstrip(". ")
    return line if len(line) <= 200 else line[:199] + "…"


def _object(answer: requests.Response) -> dict[str, Any]:
    """The answer's JSON object; empty where it is none."""
    try:
        told = json.loads(answer.content)
    except (ValueError, requests.RequestException):
        return {}
    return told if isinstance(told, dict) else {}
