"""Many actors for one learner: processes on this machine, or Ray's on many. Any preset plays so.

Each actor holds its share of the copies and a net of its own; a round gives every actor the newest weights and joins
what they played. Asynchronously, the next round is under way while the learner learns: the policy that played is then
older than the one that learns, and by how many rounds is logged. It knows actors; it knows nothing about losses.
"""

from __future__ import annotations

import abc
import itertools
import traceback
from collections import deque
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, multiprocessing

from daybreak.errors import UserError
from daybreak.lab.system import resolve
from daybreak.systems.rl.actor import Actor, ReturnScale, told
from daybreak.systems.rl.envs import make
from daybreak.systems.rl.store import Block


class Worker:
    """One actor, wherever it runs."""

    def __init__(self, family: str, settings: dict[str, Any], index: int, count: int) -> None:
        torch.set_num_threads(1)
        cls = resolve(family)
        config = cls.Config(**settings)
        copies = config.envs // count
        seed = config.seed + 7919 * (index + 1)
        torch.manual_seed(seed)
        env = make(config.env, config.seeds * copies, training=True)
        net = cls.net_of(config, env.spec, config.seeds)
        net.share = index, count
        scale = ReturnScale(config.seeds, copies, config.gamma) if getattr(config, "normalise_rewards", False) else None
        self.actor = Actor(env, net, config.seeds, seed, config.clip_rewards, scale)

    def collect(self, weights: Mapping[str, Tensor], steps: int, through: float) -> tuple[Any, ...]:
        """Play with these weights: columns, finals, what follows, the recent episodes of each seed, their number, and
        the returns of those that ended in this round."""
        self.actor.net.load_state_dict(weights)
        block = self.actor.collect(steps, through)
        recent = [list(episodes) for episodes in self.actor.recent]
        known = recent, self.actor.episodes, self.actor.ended
        return _tensors(block.columns), dict(block.finals), _tensors(block.after), *known

    def state(self) -> dict[str, Any]:
        """Where the playing stands, chance too."""
        return {"actor": self.actor.state_dict(), "torch": torch.get_rng_state()}

    def restore(self, state: dict[str, Any]) -> bool:
        """Go on from a state. False where the environment begins anew."""
        torch.set_rng_state(state["torch"])
        return self.actor.load_state_dict(state["actor"])


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Arrays as tensors: between processes these go through shared memory."""
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}


class Remote(abc.ABC):
    """A worker elsewhere: requests are answered in their order."""

    @abc.abstractmethod
    def ask(self, method: str, *args: Any) -> None:
        """Have it do something; does not wait."""

    @abc.abstractmethod
    def answer(self) -> Any:
        """The answer to the oldest request. Raises `UserError` with the worker's reason."""

    @abc.abstractmethod
    def close(self) -> None:
        """End it."""


class Process(Remote):
    """A worker in a process of its own."""

    def __init__(self, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, arguments), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, method: str, *args: Any) -> None:
        self.pipe.send((method, args))

    def answer(self) -> Any:
        try:
            fine, value = self.pipe.recv()
        except EOFError:
            raise UserError(f"an actor's process ended (exit code {self.process.exitcode})") from None
        if not fine:
            raise UserError(value)
        return value

    def close(self) -> None:
        self.pipe.close()
        self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()


def _serve(pipe: Any, arguments: tuple[Any, ...]) -> None:
    """A worker's process: answers until the learner is gone."""
    worker: Worker | None = None
    while True:
        try:
            method, args = pipe.recv()
        except EOFError:
            return
        try:
            worker = worker or Worker(*arguments)
            pipe.send((True, getattr(worker, method)(*args)))
        except UserError as error:
            pipe.send((False, str(error)))
        except Exception as error:  # an environment may raise anything
            last = traceback.extract_tb(error.__traceback__)[-1]
            reason = " ".join(str(error).split())[:300]
            pipe.send((False, f"an actor failed at {last.name}: {type(error).__name__}: {reason}"))


class RayRemote(Remote):
    """A worker that Ray places on one of its machines."""

    def __init__(self, *arguments: Any) -> None:
        try:
            ray: Any = import_module("ray")
        except ModuleNotFoundError as error:
            raise UserError("--engine ray needs Ray, which is not installed: pip install 'daybreak[ray]'") from error
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False)
        self.ray = ray
        self.worker = ray.remote(num_cpus=1)(Worker).remote(*arguments)
        self.asked: deque[Any] = deque()

    def ask(self, method: str, *args: Any) -> None:
        self.asked.append(getattr(self.worker, method).remote(*args))

    def answer(self) -> Any:
        try:
            return self.ray.get(self.asked.popleft())
        except self.ray.exceptions.RayTaskError as error:
            raise UserError(f"an actor failed: {error.cause}") from None

    def close(self) -> None:
        self.ray.kill(self.worker)


class Fleet:
    """All actors of a learner. Plays as one `Actor` would, on all copies together."""

    def __init__(self, family: str, config: Any, net: Any) -> None:
        if config.envs % config.actors:
            whole = config.envs - config.envs % config.actors
            raise UserError(
                f"--envs {config.envs} over --actors {config.actors} leaves {config.envs % config.actors} over; "
                f"use {whole} or {whole + config.actors}"
            )
        made = RayRemote if config.engine == "ray" else Process
        settings = config.model_dump(mode="json")
        self.workers = [made(family, settings, index, config.actors) for index in range(config.actors)]
        self.net, self.ahead = net, config.ahead
        self.version = 0
        self.asked: deque[int] = deque()
        self.lag = 0
        self.recent: list[list[tuple[float, int]]] = []
        self.ended: list[float] = []
        self.episodes = 0

    def collect(self, steps: int, through: float = 0.0) -> Block:
        """A round of all actors, joined on the copies' axis. With `ahead`, what was asked for rounds ago."""
        self._ask(steps, through)
        while len(self.asked) <= self.ahead:
            self._ask(steps, through)
        self.lag = self.version - self.asked.popleft()
        answers = [worker.answer() for worker in self.workers]
        self.version += 1
        columns, finals, after, recent, episodes, ended = zip(*answers, strict=True)
        copies = next(iter(after[0].values())).shape[1]
        self.recent = [list(itertools.chain(*seed)) for seed in zip(*recent, strict=True)]
        self.episodes, self.ended = sum(episodes), list(itertools.chain(*ended))
        return Block(
            {name: np.concatenate([c[name].numpy() for c in columns], axis=2) for name in columns[0]},
            {
                (t, seed, copy + index * copies): final
                for index, found in enumerate(finals)
                for (t, seed, copy), final in found.items()
            },
            {name: np.concatenate([a[name].numpy() for a in after], axis=1) for name in after[0]},
        )

    def _ask(self, steps: int, through: float) -> None:
        weights = {name: value.detach().cpu().clone() for name, value in self.net.state_dict().items()}
        for worker in self.workers:
            worker.ask("collect", weights, steps, through)
        self.asked.append(self.version)

    def summary(self) -> dict[str, float]:
        """As the actor's own, and how many rounds old the policy was that played."""
        return {**told(self.recent, self.ended, self.episodes), "lag": float(self.lag)}

    def state_dict(self) -> dict[str, Any]:
        """Where all actors stand. What is under way is waited for, and is played anew by a resumed run."""
        while self.asked:
            self.asked.popleft()
            for worker in self.workers:
                worker.answer()
        for worker in self.workers:
            worker.ask("state")
        return {"workers": [worker.answer() for worker in self.workers], "version": self.version}

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Go on from a state. False where environments begin anew."""
        for worker, one in zip(self.workers, state["workers"], strict=True):
            worker.ask("restore", one)
        self.version = state["version"]
        restored = [worker.answer() for worker in self.workers]
        return all(restored)

    def close(self) -> None:
        """End the actors."""
        for worker in self.workers:
            worker.close()
