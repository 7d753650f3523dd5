"""The command line: thin. It finds the one room that a command calls; listing the commands imports nothing.

`daybreak GROUP COMMAND`, and `daybreak SYSTEM ACTION` for what a system's models do.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from daybreak.errors import UserError, nearest

COMMANDS: dict[str, tuple[str, str]] = {
    "systems": ("daybreak.cli.systems:systems", "what is installed"),
    "lake": ("daybreak.cli.lake:COMMANDS", "items: add, ls, show, rm, snapshot, diff, verify, derive"),
    "train": ("daybreak.cli.train:train", "train one run now"),
    "runs": ("daybreak.cli.runs:COMMANDS", "runs: ls, show, compare, note, copy, rm, follow"),
    "tonight": ("daybreak.cli.tonight:COMMANDS", "tonight's queue: add, ls, rm, edit, up"),
    "night": ("daybreak.cli.tonight:night", "run the queue until the morning"),
    "morning": ("daybreak.cli.morning:morning", "write the daily log"),
    "decide": ("daybreak.cli.morning:decide", "carry out what the morning proposed"),
    "registry": ("daybreak.cli.registry:COMMANDS", "models that passed: add, ls, show, promote, rollback"),
    "serve": ("daybreak.cli.serve:serve", "models over HTTP, from their types"),
    "standing": ("daybreak.cli.standing:COMMANDS", "orders that retrain what is in production: add, list, rm, check"),
    "kiosk": ("daybreak.cli.serve:kiosk", "every model on one screen, for demo day"),
    "export": ("daybreak.cli.export:export", "convert a model for other platforms, or into one page"),
}
"""Command -> ("module:function", or "module:COMMANDS" for a group, and its line)."""


def main(argv: Sequence[str] | None = None) -> None:
    """The entry point. Exit code 2 for a user's mistake, 1 for ours."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        run(words)
    except UserError as error:
        print(f"daybreak: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("daybreak: stopped", file=sys.stderr)
        raise SystemExit(130) from None


def run(words: Sequence[str]) -> None:
    """Find the command and call it."""
    if not words or words[0] in ("--help", "-h", "help"):
        print(usage())
        return
    if words[0] in ("--version", "version"):
        from daybreak import __version__

        print(__version__)
        return
    name, *rest = words
    if name not in COMMANDS:
        return _system(name, rest)
    from daybreak.cli.front import call, choose
    from daybreak.lab.system import resolve

    target, line = COMMANDS[name]
    found = resolve(target)
    if not isinstance(found, dict):
        call(found, rest, name)
        return
    if not rest or rest[0] in ("--help", "-h"):
        print(f"daybreak {name}: {line}\n\n  " + "\n  ".join(_lines(found)))
        return
    function, rest = choose(found, rest, name)
    call(function, rest, f"{name} {words[1]}")


def usage() -> str:
    """The page of `daybreak --help`."""
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {line}" for name, (_, line) in COMMANDS.items()]
    return "\n".join(
        [
            "daybreak: train at night, know in the morning",
            "",
            "usage: daybreak COMMAND ...            daybreak COMMAND --help tells more",
            "       daybreak SYSTEM ACTION ...      what a system's models do; daybreak systems lists them",
            "",
            *rows,
            "",
            "The lab is the folder ./lab, or the one that DAYBREAK_LAB names.",
        ]
    )


def _system(name: str, rest: Sequence[str]) -> None:
    from daybreak.lab.system import broken, systems

    if name not in systems():
        reason = broken().get(name)
        raise UserError(reason or f"unknown command or system {name!r}; {nearest(name, [*COMMANDS, *systems()])}")
    from daybreak.cli.actions import run_action

    run_action(name, list(rest))


def _lines(commands: dict[str, object]) -> list[str]:
    width = max(map(len, commands))
    return [f"{name:<{width}}  {(f.__doc__ or '').strip().splitlines()[0]}" for name, f in commands.items()]
