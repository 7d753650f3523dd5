"""Standing orders and the retrainings that they caused, in one SQLite file; each change is on the disk when it returns.

A retraining is written before it is queued, and is queued under its own key, so that a process that dies in between
leaves one to be finished and never two. It knows orders; it knows nothing about what makes one due.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from daybreak.errors import UserError, nearest
from daybreak.lab.database import change, connect
from daybreak.lab.home import Lab

VERSION = 1
KINDS = ("new-items>=N", "drift", "weekly")
SCHEMA = """
CREATE TABLE orders (
  id INTEGER PRIMARY KEY AUTOINCREMENT, recipe TEXT NOT NULL, model TEXT NOT NULL, kind TEXT NOT NULL,
  least INTEGER NOT NULL, promote TEXT NOT NULL, owner TEXT NOT NULL, created REAL NOT NULL, removed REAL,
  looked REAL, due INTEGER NOT NULL, said TEXT NOT NULL, found TEXT NOT NULL);
CREATE TABLE retrainings (
  id INTEGER PRIMARY KEY AUTOINCREMENT, "order" INTEGER NOT NULL REFERENCES orders(id), cause TEXT NOT NULL,
  why TEXT NOT NULL, champion TEXT NOT NULL, snapshot TEXT NOT NULL, argv TEXT NOT NULL, created REAL NOT NULL,
  job INTEGER, run TEXT NOT NULL, state TEXT NOT NULL, said TEXT NOT NULL, p REAL, against TEXT NOT NULL, ended REAL,
  UNIQUE ("order", cause));
"""
State = Literal["queued", "compared", "promoted", "undecided", "refused", "kept", "failed"]
OPEN = ("queued", "compared")
"""States in which the lab has something to do; "undecided" and "refused" wait for a person."""


@dataclass(frozen=True)
class When:
    """What makes an order due."""

    kind: Literal["new-items", "drift", "weekly"]
    least: int = 0
    """New items."""

    @classmethod
    def parse(cls, text: str) -> When:
        """From "new-items>=500", "drift" or "weekly". Raises `UserError` with the nearest."""
        word = text.strip()
        if word in ("drift", "weekly"):
            return cls(word)  # type: ignore[arg-type]
        if match := re.fullmatch(r"new-items\s*>=\s*(\d{1,9})", word):
            if int(match[1]) < 1:
                raise UserError("--when new-items>=N: N is a whole number of at least 1")
            return cls("new-items", int(match[1]))
        if word.startswith("new-items"):
            raise UserError(f"--when {word!r} does not say how many; quote it: --when 'new-items>=500'")
        raise UserError(f"--when {word!r} is nothing that can be waited for; {nearest(word, KINDS)}")

    def __str__(self) -> str:
        return f"new-items>={self.least}" if self.kind == "new-items" else self.kind


@dataclass(frozen=True)
class Order:
    """One standing order."""

    id: int
    recipe: str
    """ "SYSTEM:RECIPE"."""
    model: str
    """The registered model whose production is retrained."""
    when: When
    promote: Literal["rule", "ask"]
    owner: str
    created: float
    looked: float | None = None
    """When it was looked at last; epoch seconds."""
    due: bool = False
    """What the last look found."""
    said: str = ""
    """Why, in one line."""
    found: Sequence[Mapping[str, Any]] = ()
    """The drifts that the last look found."""

    @property
    def title(self) -> str:
        """For a person: "order 3 (music:compose when drift)"."""
        return f"order {self.id} ({self.recipe} when {self.when})"


@dataclass(frozen=True)
class Retraining:
    """One run that an order caused."""

    id: int
    order: int
    cause: str
    """What it was made for: one order makes one retraining of a cause."""
    why: str
    """The cause in words."""
    champion: str
    """The run that was in production, from which it derives."""
    snapshot: str
    argv: Sequence[str]
    """What `tonight add` takes."""
    created: float
    job: int | None = None
    run: str = ""
    state: State = "queued"
    said: str = ""
    """The verdict in words."""
    p: float | None = None
    against: str = ""
    """The run it was compared with, the champion of then."""
    ended: float | None = None

    @property
    def key(self) -> str:
        """Under which it is queued, once."""
        return f"standing {self.id}"


_RETRAINING = ", ".join(f'"{f.name}"' for f in fields(Retraining))


class Standing:
    """A lab's standing orders. Any number of processes may have them open."""

    def __init__(self, lab: Lab) -> None:
        self.path = path_of(lab)
        self._connection = connect(self.path, SCHEMA, VERSION)

    def __enter__(self) -> Standing:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    # Orders.

    def orders(self) -> list[Order]:
        """The orders that stand, oldest first."""
        return [_order(row) for row in self._connection.execute(f"{_ORDERS} WHERE removed IS NULL ORDER BY id")]

    def order(self, number: int) -> Order:
        """An order by its number, also one that was removed. Raises `UserError`."""
        row = self._connection.execute(f"{_ORDERS} WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise UserError(f"there is no standing order {number}; {nearest(str(number), self._numbers())}")
        return _order(row)

    def add(self, recipe: str, model: str, when: When, promote: str, owner: str) -> Order:
        """Give an order. Raises `UserError` where the same one stands already."""
        with self._change():
            for other in self.orders():
                if (other.model, other.when) == (model, when):
                    raise UserError(f"{other.title} stands already; daybreak standing rm {other.id} takes it away")
            ask = """INSERT INTO orders (recipe, model, kind, least, promote, owner, created, due, said, found)
                VALUES (?, ?, ?, ?, ?, ?, ?, 0, '', '[]')"""
            values = (recipe, model, when.kind, when.least, promote, owner, time.time())
            number = self._connection.execute(ask, values).lastrowid or 0
        return self.order(number)

    def remove(self, number: int) -> Order:
        """Take an order away. What it queued stays in the queue."""
        with self._change():
            held = self.order(number)
            if str(number) not in self._numbers():
                raise UserError(f"standing order {number} was removed before; {nearest(str(number), self._numbers())}")
            self._connection.execute("UPDATE orders SET removed = ? WHERE id = ?", (time.time(), number))
        return held

    def looked(self, order: Order, now: float, due: bool, said: str, found: Sequence[Mapping[str, Any]]) -> None:
        """Record what a look came to."""
        with self._change():
            ask = "UPDATE orders SET looked = ?, due = ?, said = ?, found = ? WHERE id = ?"
            self._connection.execute(ask, (now, due, said, json.dumps(list(found)), order.id))

    # Retrainings.

    def retrainings(self, order: int | None = None) -> list[Retraining]:
        """Every retraining, or those of one order, oldest first."""
        where, values = ("", ()) if order is None else ('WHERE "order" = ?', (order,))
        rows = self._connection.execute(f"SELECT {_RETRAINING} FROM retrainings {where} ORDER BY id", values)
        return [_retraining(row) for row in rows]

    def retraining(self, number: int) -> Retraining:
        """One by its number. Raises `UserError`."""
        found = [one for one in self.retrainings() if one.id == number]
        if not found:
            known = [str(one.id) for one in self.retrainings()]
            raise UserError(f"there is no retraining {number}; {nearest(str(number), known)}")
        return found[0]

    def cause(
        self, order: Order, cause: str, why: str, champion: str, snapshot: str, argv: Sequence[str], now: float
    ) -> Retraining | None:
        """Write a retraining that is to be queued. None where this cause had its own."""
        with self._change():
            ask = """INSERT OR IGNORE INTO retrainings
                ("order", cause, why, champion, snapshot, argv, created, run, state, said, against)
                VALUES (?, ?, ?, ?, ?, ?, ?, '', 'queued', '', '')"""
            values = (order.id, cause, why, champion, snapshot, json.dumps(list(argv)), now)
            made = self._connection.execute(ask, values)
            if made.rowcount != 1:
                return None
            number = made.lastrowid or 0
        return self.retraining(number)

    def set(self, retraining: Retraining, **values: Any) -> Retraining:
        """Change some of its fields."""
        with self._change():
            ask = f"UPDATE retrainings SET {', '.join(f'{name} = ?' for name in values)} WHERE id = ?"
            self._connection.execute(ask, (*values.values(), retraining.id))
        return self.retraining(retraining.id)

    def _numbers(self) -> list[str]:
        return [str(order.id) for order in self.orders()]

    def _change(self) -> AbstractContextManager[None]:
        return change(self._connection, self.path)


def path_of(lab: Lab) -> Path:
    """Where the orders are; no file, no order."""
    return lab.root / "standing.sqlite"


_ORDERS = "SELECT id, recipe, model, kind, least, promote, owner, created, looked, due, said, found FROM orders"


def _order(row: Sequence[Any]) -> Order:
    id, recipe, model, kind, least, promote, owner, created, looked, due, said, found = row
    return Order(
        id, recipe, model, When(kind, least), promote, owner, created, looked, bool(due), said, json.loads(found)
    )


def _retraining(row: Sequence[Any]) -> Retraining:
    values = dict(zip((f.name for f in fields(Retraining)), row, strict=True))
    return Retraining(**{**values, "argv": json.loads(values["argv"])})
