"""What standing orders have to say: rows for a list, and a morning's part of them. It reads what was written down."""

from __future__ import annotations

import time
from typing import Any

from daybreak.lab.home import Lab
from daybreak.lab.ship.standing.orders import Order, Retraining, Standing, path_of

TONES = {"promoted": "better", "failed": "worse", "refused": "worse"}


def listed(lab: Lab) -> list[dict[str, Any]]:
    """Every order as a row, with its last retraining."""
    if not path_of(lab).exists():
        return []
    with Standing(lab) as standing:
        return [_row(order, standing.retrainings(order.id)) for order in standing.orders()]


def morning(lab: Lab, start: float, stop: float) -> dict[str, Any]:
    """The orders, and what was queued or judged between two moments (epoch seconds), as plain values.

    `decide` are the challengers that wait for a person, the last one of each order, whenever they were judged.
    """
    if not path_of(lab).exists():
        return {"orders": [], "retrainings": [], "decide": []}
    with Standing(lab) as standing:
        orders = standing.orders()
        every = standing.retrainings()
        titles = {r.order: standing.order(r.order) for r in every}
    news = [r for r in every if start < r.created <= stop or (r.ended and start < r.ended <= stop)]
    last = {r.order: r for r in every if r.run}
    return {
        "orders": [_row(order, [r for r in every if r.order == order.id]) for order in orders],
        "retrainings": [_told(r, titles[r.order]) for r in news],
        "decide": [_told(r, titles[r.order]) for r in last.values() if r.state == "undecided"],
    }


def _row(order: Order, made: list[Retraining]) -> dict[str, Any]:
    last = made[-1] if made else None
    return {
        "order": order.id, "recipe": order.recipe, "model": order.model, "when": str(order.when),
        "promote": order.promote, "owner": order.owner,
        "looked": time.strftime("%Y-%m-%d %H:%M", time.localtime(order.looked)) if order.looked else "",
        "due": order.due, "said": order.said or "not looked at yet", "found": list(order.found),
        "retraining": last.id if last else None, "state": last.state if last else "", "job": last.job if last else None,
        "run": last.run if last else "", "verdict": last.said if last else "", "retrainings": len(made),
    }  # fmt: skip


def _told(retraining: Retraining, order: Order) -> dict[str, Any]:
    return {
        "id": retraining.id, "order": order.id, "title": order.title, "model": order.model, "why": retraining.why,
        "job": retraining.job, "run": retraining.run, "state": retraining.state, "said": retraining.said,
        "tone": TONES.get(retraining.state, "undecided"),
    }  # fmt: skip
