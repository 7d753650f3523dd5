"""`daybreak standing`: orders that queue retrainings by themselves. Thin: `lab.ship.standing` does the work."""

from __future__ import annotations

import getpass
from typing import Literal

from daybreak.cli.show import say, table


def add(
    recipe: str, /, *, when: str, promote: Literal["rule", "ask"] = "rule", model: str = "", owner: str = ""
) -> None:
    """Give an order: retrain what is in production when something is due.

    Args:
        recipe: the recipe whose model is in production: music, or music:compose.
        when: 'new-items>=500' (quote it), drift, or weekly.
        promote: rule: a challenger takes production where its interval says that it is better; ask: a person decides.
        model: the registered model, where several of this recipe are in production.
        owner: who looks after it; else the account's name.
    """
    from daybreak.lab.home import Lab
    from daybreak.lab.ship.standing.check import give

    order = give(Lab.open(), recipe, when, promote, model, owner or _me())
    say(f"{order.title} stands for {order.model}@production; the night looks at it, or daybreak standing check")


def ls(*, json: bool = False) -> None:
    """List the orders, what the last look said, and what came of their retrainings.

    Args:
        json: print JSON.
    """
    from daybreak.lab.home import Lab
    from daybreak.lab.ship.standing.told import listed

    empty = "no order stands; daybreak standing add RECIPE --when weekly gives one"
    columns = ("order", "recipe", "model", "when", "promote", "looked", "said", "retraining", "state", "verdict")
    table(listed(Lab.open()), columns, json=json, empty=empty)


def rm(order: int, /) -> None:
    """Take an order away; what it queued stays in the queue.

    Args:
        order: its number.
    """
    from daybreak.lab.home import Lab
    from daybreak.lab.ship.standing.orders import Standing

    with Standing(Lab.open()) as standing:
        say(f"{standing.remove(order).title} stands no more")


def check(*, json: bool = False) -> None:
    """Look at every order now, as the night does: judge what ended, queue what is due, say why or why not.

    Args:
        json: print JSON.
    """
    from daybreak.lab.home import Lab
    from daybreak.lab.ship.standing.check import check as look

    table(look(Lab.open()), ("order", "recipe", "when", "due", "said", "job"), json=json, empty="no order stands")


def promote(retraining: int, /) -> None:
    """Let an undecided challenger take production, if it passes its gates.

    Args:
        retraining: its number, as standing list and the morning page tell it.
    """
    from daybreak.lab.home import Lab
    from daybreak.lab.ship.standing.check import promote as take_over

    say(take_over(Lab.open(), retraining, _me()))


def keep(retraining: int, /) -> None:
    """Let the champion stay, and close the matter of a challenger.

    Args:
        retraining: its number, as standing list and the morning page tell it.
    """
    from daybreak.lab.home import Lab
    from daybreak.lab.ship.standing.check import keep as stay

    say(stay(Lab.open(), retraining, _me()))


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        return ""


COMMANDS = {"add": add, "list": ls, "rm": rm, "check": check, "promote": promote, "keep": keep}
