"""Environments that exist one at a time, stepped together: a plain loop, or a process for each.

The loop resets a copy in the step that ended its episode and keeps the last observation exact. It knows no library:
a `Single` is what Gymnasium's, MinAtar's and the NES adapters each bring. With processes, one that hangs or dies is
told apart from the others; without, an exception still names the environment, the copy and the last action.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8

from daybreak.errors import UserError
from daybreak.systems.rl.envs.base import Observations, Step, VectorEnv
from daybreak.systems.rl.spec import Spec

Seen = Any
"""One observation as the library gives it, with what else `write` needs."""
Moved = tuple[Seen, float, bool, bool]
"""Observation, reward, terminated, truncated."""


class Single(Protocol):
    """One copy of an environment."""

    def reset(self, seed: int | None) -> Seen:
        """Start an episode; a seed starts the copy's random numbers anew."""

    def step(self, action: Any) -> Moved:
        """Act once."""

    def state(self) -> dict[str, Any] | None:
        """A tree for `lab.codec`; None where it cannot be had."""

    def restore(self, state: dict[str, Any]) -> Seen:
        """Go on from a state."""

    def frame(self) -> np.ndarray:
        """A picture, uint8 [height, width, 3]."""

    def close(self) -> None:
        """Free what it holds."""


Write = Callable[[Seen, dict[str, np.ndarray], int], None]
"""Write an observation into a row of the arrays."""


class Singles(VectorEnv):
    """`singles` as one vector environment."""

    def __init__(self, spec: Spec, singles: list[Single], write: Write) -> None:
        self.spec, self.count = spec, len(singles)
        self.singles, self.write = singles, write
        self.steps = 0
        self._rows: list[Any] = [None] * self.count
        self._remote = all(isinstance(single, Remote) for single in singles)

    def reset(self, seed: int) -> Observations:
        self.steps = 0
        # A copy's seed is a hash: neighbouring runs share no copy.
        seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(self.count) >> 1]
        return self._gather([self._reset(n, seeds[n]) for n in range(self.count)])

    def step(self, actions: np.ndarray) -> Step:
        self.steps += 1
        reached = self._empty()
        reward = np.empty(self.count, np.float32)
        terminated, truncated = np.empty(self.count, bool), np.empty(self.count, bool)
        moved = self._moves(actions)
        write = self.write
        for n, (seen, gain, over, cut) in enumerate(moved):
            write(seen, reached, n)
            reward[n], terminated[n], truncated[n] = gain, over, cut and not over
            self._rows[n] = seen
        ended = terminated | truncated
        if not ended.any():
            return Step(reached, reached, reward, terminated, truncated)
        observation = {name: array.copy() for name, array in reached.items()}
        for n in np.flatnonzero(ended).tolist():
            write(self._reset(n, None), observation, n)
        return Step(reached, observation, reward, terminated, truncated)

    def state(self) -> dict[str, Any] | None:
        states = [single.state() for single in self.singles]
        return None if any(state is None for state in states) else {"copies": states, "steps": self.steps}

    def restore(self, state: dict[str, Any]) -> Observations:
        if len(state["copies"]) != self.count:
            raise UserError(f"{self.spec.name}: a state of {len(state['copies'])} copies does not fit {self.count}")
        self.steps = int(state["steps"])
        self._rows = [single.restore(one) for single, one in zip(self.singles, state["copies"], strict=True)]
        return self._gather(self._rows)

    def frame(self) -> UInt8[np.ndarray, "height width 3"]:
        try:
            return np.asarray(self.singles[0].frame(), np.uint8)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{self.spec.name} cannot be drawn: {line(error)}") from error

    def close(self) -> None:
        for single in self.singles:
            single.close()

    def _empty(self) -> dict[str, np.ndarray]:
        return {name: np.empty((self.count, *shape), dtype) for name, (shape, dtype) in self.spec.observations.items()}

    def _gather(self, rows: list[Seen]) -> Observations:
        arrays = self._empty()
        for n, seen in enumerate(rows):
            self.write(seen, arrays, n)
        self._rows = rows
        return arrays

    def _reset(self, n: int, seed: int | None) -> Seen:
        try:
            self._rows[n] = self.singles[n].reset(seed)
        except Exception as error:
            raise UserError(f"{self.spec.name}, copy {n}: could not start an episode: {line(error)}") from error
        return self._rows[n]

    def _moves(self, actions: np.ndarray) -> list[Moved]:
        n = 0
        try:
            if not self._remote:
                moved = []
                for n, single in enumerate(self.singles):
                    moved.append(single.step(actions[n]))
                return moved
            remotes: list[Any] = self.singles
            for n, remote in enumerate(remotes):
                remote.ask("step", actions[n])
            moved = []
            for n, remote in enumerate(remotes):  # noqa: B007
                moved.append(remote.answer())
            return moved
        except Exception as error:
            at = f"at step {self.steps}, after action {actions[n]}"
            raise UserError(f"{self.spec.name}, copy {n}: {line(error)}, {at}") from error


def line(error: Exception) -> str:
    """What an error says, as one line without a full stop at its end."""
    text = next((part.strip() for part in str(error).splitlines() if part.strip()), "").rstrip(". ")
    if isinstance(error, UserError | Lost):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class Lost(Exception):
    """A process that hung, died, or met an exception; the message says which."""


STARTUP = 60.0
"""Seconds that a process may take to import and build what it holds, at least."""


class Remote:
    """A `Single` in a process of its own. An answer that does not come within `timeout` seconds ends the process.

    `factory` and its arguments must pickle. The process starts fresh, so a script that uses this needs the usual
    `if __name__ == "__main__":`.
    """

    def __init__(self, factory: Callable[..., Single], args: tuple[Any, ...], timeout: float) -> None:
        context = multiprocessing.get_context("spawn")
        self.timeout, self._patience = timeout, max(timeout, STARTUP)
        self.pipe, far = context.Pipe()
        self.process = context.Process(target=serve, args=(far, factory, args), daemon=True)
        self.process.start()
        far.close()

    def ask(self, method: str, *args: Any) -> None:
        """Send a request. Each must be answered before the next."""
        try:
            self.pipe.send((method, args))
        except OSError as error:
            raise Lost(self._death()) from error

    def answer(self) -> Any:
        """What the request led to. Raises `Lost`."""
        try:
            if not self.pipe.poll(self._patience):
                self.process.kill()
                raise Lost(f"gave no answer within {self._patience:g} s and was ended")
            failed, value = self.pipe.recv()
            self._patience = self.timeout
        except (EOFError, OSError) as error:
            raise Lost(self._death()) from error
        if failed:
            raise Lost(value)
        return value

    def reset(self, seed: int | None) -> Seen:
        self.ask("reset", seed)
        return self.answer()

    def step(self, action: Any) -> Moved:
        self.ask("step", action)
        moved: Moved = self.answer()
        return moved

    def state(self) -> dict[str, Any] | None:
        self.ask("state")
        state: dict[str, Any] | None = self.answer()
        return state

    def restore(self, state: dict[str, Any]) -> Seen:
        self.ask("restore", state)
        return self.answer()

    def frame(self) -> np.ndarray:
        self.ask("frame")
        return np.asarray(self.answer())

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.pipe.send(("close", ()))
        self.process.join(2)
        if self.process.is_alive():
            self.process.kill()
            self.process.join(2)
        self.pipe.close()

    def _death(self) -> str:
        self.process.join(2)
        return f"its process ended with code {self.process.exitcode}"


def serve(pipe: Connection, factory: Callable[..., Single], args: tuple[Any, ...]) -> None:
    """The loop of a process that holds one environment."""
    single: Single | None = None
    while True:
        try:
            method, arguments = pipe.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            method, arguments = "close", ()
        if method == "close":
            if single is not None:
                with contextlib.suppress(Exception):
                    single.close()
            return
        try:
            # Built on the first request, so that what fails in building is an answer.
            single = single or factory(*args)
            reply = (False, getattr(single, method)(*arguments))
        except Exception as error:
            reply = (True, line(error))
        try:
            pipe.send(reply)
        except OSError:
            return
        except Exception as error:  # An observation that does not pickle.
            pipe.send((True, line(error)))
