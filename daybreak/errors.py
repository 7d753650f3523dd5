"""The one way to tell a person what went wrong.

Everything that a person can get wrong raises `UserError` with one line: what was wrong, where, what would work.
The command line prints it and exits with 2. Every room may import this file; it imports nothing of daybreak.
"""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that its user can mend. The message is one line, without a trailing full stop."""


def nearest(name: str, known: Iterable[str]) -> str:
    """What would work instead of `name`: the closest of `known`, else all of them (at most twelve).

    >>> nearest("musik", ["music", "speech"])
    'did you mean music?'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    if not names:
        return "there is none yet"
    return f"there is: {', '.join(names[:12])}{' ...' if len(names) > 12 else ''}"
