"""`daybreak serve`: registered models over HTTP, and `daybreak kiosk`: on one screen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from daybreak.cli.show import say
from daybreak.errors import UserError, nearest
from daybreak.lab.home import Lab

if TYPE_CHECKING:
    from daybreak.lab.ship.named import Named


def serve(
    *models: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: Path | None = None,
    resource: tuple[str, ...] = (),
    most_seconds: float = 60.0,
    most_mb: int = 64,
    waiting: int = 64,
    count: bool = True,
) -> None:
    """Serve models over HTTP: a route an action, from their types; a name's new version takes over by itself.

    Args:
        models: a registered model (music, music@3, music@production), a run or a folder; WORD=MODEL gives it another
            word in addresses.
        host: where to listen; anything but loopback needs a token.
        port: where to listen; 0 takes a free one.
        token_file: a file with the token, which its owner alone may read; else DAYBREAK_TOKEN.
        resource: what a model needs beside its weights, as MODEL.NAME=PATH; may be given again.
        most_seconds: that an action may take, or an event of a stream.
        most_mb: megabytes of one request.
        waiting: requests inside, a model; more are told to try again.
        count: keep numbers of what registered versions are asked, never its contents, for standing orders.
    """
    began = time.monotonic()
    if "--help" in models or "-h" in models:
        from daybreak.cli.front import show_help

        return show_help(serve, "serve")
    if not models:
        raise UserError("serve: name what to serve, as in: daybreak serve music; daybreak registry ls lists models")
    if unknown := [word for word in models if word.startswith("-")]:
        flags = ["--host", "--port", "--token-file", "--resource", "--most-seconds", "--most-mb", "--waiting"]
        raise UserError(f"serve: unknown flag {unknown[0]}; {nearest(unknown[0], [*flags, '--no-count'])}")
    for name, value in {"--most-seconds": most_seconds, "--most-mb": most_mb, "--waiting": waiting}.items():
        if not 0 < value < 1e6:
            raise UserError(f"serve: {name} is more than 0 and less than a million, not {value}")
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"serve needs {error.name}, which is not installed: pip install 'daybreak[serve]'") from error
    from daybreak.lab.ship.serve import Limits, Service
    from daybreak.lab.ship.serve.guard import token
    from daybreak.lab.ship.serve.run import bound, run
    from daybreak.lab.ship.standing.served import Recorder

    limits = Limits(seconds=most_seconds, places=waiting, megabytes=most_mb)
    secret = token(token_file, host)
    at = bound(host, port, limits.patience)
    lab = Lab.existing() if count else None
    service = Service(named(models, resource), limits, secret, recorder=Recorder(lab) if lab else None)
    where = f"http://{f'[{host}]' if ':' in host else host}:{at.getsockname()[1]}"

    def ready() -> None:
        for worker in service.workers:
            actions = ", ".join(route.action.name for route in service.routes if route.worker is worker)
            say(f"{where}/v1/{worker.named.slug}: {worker.named.current.title}: {actions}")
        say(f"{where}/docs tells more; ready in {time.monotonic() - began:.1f} s")

    run(service, at, ready)


def named(models: Sequence[str], resource: Sequence[str]) -> list[Named]:
    """The models that the words name, loaded, with their resources open."""
    from daybreak.lab.ship.named import Named

    paths: dict[str, dict[str, str]] = {}
    for text in resource:
        way, equals, path = text.partition("=")
        model, dot, name = way.rpartition(".")
        if not (equals and dot and path):
            raise UserError(f"--resource is MODEL.NAME=PATH, not {text!r}")
        paths.setdefault(model, {})[name] = path
    lab = Lab.existing()
    found: list[Named] = []
    for text in models:
        word = text.partition("=")[0]
        one = Named(lab, text, paths.get(word) or paths.get(word.partition("@")[0]))
        if one.slug in [other.slug for other in found]:
            raise UserError(f"{one.slug!r} is served already; give one another word: word={one.text}")
        found.append(one)
    words = {w for text in models for w in (text.partition("=")[0], text.partition("=")[0].partition("@")[0])}
    if unknown := [model for model in paths if model not in words]:
        raise UserError(f"--resource {unknown[0]}: no such model is served; {nearest(unknown[0], words)}")
    return found


def kiosk(
    *models: str,
    host: str = "127.0.0.1",
    port: int = 7860,
    token_file: Path | None = None,
    resource: tuple[str, ...] = (),
    open: bool = False,
) -> None:
    """Show models on one screen: forms from their types, their stories, and what visitors give back.

    Args:
        models: as for serve; without any, every registered model and those that come with a system.
        host: where to listen; anything but loopback needs a token, with which visitors log in as "kiosk".
        port: where to listen; 0 takes a free one.
        token_file: a file with the token, which its owner alone may read; else DAYBREAK_TOKEN.
        resource: what a model needs beside its weights, as MODEL.NAME=PATH; may be given again.
        open: show it in a browser.
    """
    if "--help" in models or "-h" in models:
        from daybreak.cli.front import show_help

        return show_help(kiosk, "kiosk")
    if unknown := [word for word in models if word.startswith("-")]:
        flags = ("--host", "--port", "--token-file", "--resource", "--open")
        raise UserError(f"kiosk: unknown flag {unknown[0]}; {nearest(unknown[0], flags)}")
    from importlib.util import find_spec

    for package in ("gradio", "uvicorn", "prometheus_client"):
        if find_spec(package) is None:
            raise UserError(f"the kiosk needs {package}, which is not installed: pip install 'daybreak[kiosk]'")
    from daybreak.lab.ship.serve.guard import token
    from daybreak.lab.ship.serve.run import bound

    secret = token(token_file, host)
    at = bound(host, port)
    lab = Lab.existing()
    found = named(models, resource) if models else everything(lab, resource)
    from daybreak.lab.ship.kiosk.run import run, settings
    from daybreak.lab.ship.kiosk.screen import Kiosk

    screen = Kiosk(lab, found, settings(lab))
    screen.say = say
    where = f"http://{f'[{host}]' if ':' in host else host}:{at.getsockname()[1]}"

    def ready() -> None:
        say(f"{where}: {', '.join(one.current.title for one in found)}")
        if open:
            import webbrowser

            webbrowser.open(where)

    run(screen, at, ready, secret)


def everything(lab: Lab | None, resource: Sequence[str]) -> list[Named]:
    """Every registered model, and those that come with an installed system; one that cannot be loaded is told."""
    from daybreak.lab.registry import models as registered
    from daybreak.lab.registry import shipped, usual_name
    from daybreak.lab.system import systems

    words = dict.fromkeys(registered(lab) if lab is not None else [])
    for name, system in systems().items():
        for model in system.models:
            try:
                if shipped(name, model) is not None:
                    words[usual_name(name, model)] = None
            except ModuleNotFoundError:
                continue
    found = []
    for text in words:
        try:
            found += named([text], [one for one in resource if one.partition(".")[0] == text])
        except (UserError, ModuleNotFoundError) as error:
            say(f"{text} is left out: {error}")
    if not found:
        raise UserError("there is no model to show; daybreak registry add registers one")
    return found
