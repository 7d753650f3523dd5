"""Unity ML-Agents players: "unity:PATH", or "unity:editor" for the editor (press Play).

A client of our own for the protocol of ML-Agents (1.x): no `mlagents` package, any current protobuf and grpcio. Every
agent of a behaviour is one copy, teams included, over as many players as it takes; a copy keeps its row when its agent
begins a new episode under a new number. Unity asks each agent for decisions in its own rhythm: a step here lasts until
every copy is asked again, and a copy that is asked sooner repeats its action. A player's state cannot be taken out.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from daybreak.errors import UserError, nearest
from daybreak.systems.rl.envs.base import Observations, Step, VectorEnv
from daybreak.systems.rl.envs.unity.agents import Behaviour, behaviour, write
from daybreak.systems.rl.envs.unity.messages import RESET, STEP
from daybreak.systems.rl.envs.unity.player import EDITOR_PORT, Player, executable, free_port, settings
from daybreak.systems.rl.spec import Spec

PATIENCE = 10_000
"""Exchanges without a decision of some agent after which it counts as gone."""
DEFAULTS = {
    "width": 84,
    "height": 84,
    "quality": 1,
    "time_scale": 20.0,
    "target_frame_rate": -1,
    "capture_frame_rate": 60,
}
"""The engine's settings while learning: small, plain, fast, the same time for each frame."""

Key = tuple[str, int]
"""An agent in a player: behaviour with its team, and its number in this episode."""


class Side:
    """One player's agents: which copy each is, and what came of it since its last action."""

    def __init__(self, player: Player, rows: range) -> None:
        self.player, self.rows = player, rows
        self.agents: dict[Key, int] = {}
        """Agents at an episode's middle -> copy."""
        self.free: list[int] = []
        """Copies between two episodes."""
        self.asked: list[Key] = []
        """Agents that wait for an action, in the order of the last message: that of the answer."""


class Turn:
    """What one step gathers."""

    def __init__(self, count: int, seen: Mapping[str, np.ndarray], reward: np.ndarray) -> None:
        self.reached, self.seen = ({name: array.copy() for name, array in seen.items()} for _ in range(2))
        self.reward = reward
        self.terminated, self.truncated = np.zeros(count, bool), np.zeros(count, bool)
        self.acted, self.ready = np.zeros(count, bool), np.zeros(count, bool)
        """Whether a copy's action was given to its agent, and whether that was asked again after it."""

    def ended(self, row: int) -> bool:
        """Whether the copy's episode ended in this step."""
        return bool(self.terminated[row] or self.truncated[row])


class Unity(VectorEnv):
    """All agents of one behaviour in the players."""

    def __init__(self, name: str, player: Player, chosen: str | None, masks: bool) -> None:
        self.name, self.players = name, [player]
        # A player describes a behaviour once, with its first agents.
        first = player.reset()
        self.parameters: dict[str, Any] = {}
        self._learn(first)
        self.base = self._choose(chosen)
        found = self._asked(first)
        if not found:
            raise UserError(f"{name}: {self.base} asked for no decision after its reset")
        self.count = len(found)
        of, agent = found[0]
        self.behaviour: Behaviour = behaviour(self.base, self.parameters[of], agent, player.hello.capabilities)
        choices = self.behaviour.action.kind != "box"
        self.spec = Spec(
            name=name,
            action=self.behaviour.action,
            vector=self.behaviour.vector,
            image=self.behaviour.image,
            masked=choices and (masks or any(any(a.action_mask) for _, a in found)),
        )
        self.sides = [Side(player, range(self.count))]
        self.seen: dict[str, np.ndarray] = {}
        self._late = np.zeros(self.count, np.float32)
        """Rewards of an episode that began while others of the step were waited for."""

    def join(self, player: Player) -> None:
        """One more player of the same build; its agents are the next copies. Comes before `reset`."""
        each = len(self.sides[0].rows)
        self.players.append(player)
        self.sides.append(Side(player, range(self.count, self.count + each)))
        self.count += each
        self._late = np.zeros(self.count, np.float32)

    def reset(self, seed: int) -> Observations:
        """Start anew. A player takes its seed when it starts (option seed): this one cannot change what it draws."""
        seen = self._empty()
        for side in self.sides:
            side.player.send(RESET, {})
        for side in self.sides:
            found = self._asked(self._learn(side.player.receive()))
            if len(found) != len(side.rows):
                raise UserError(f"{self.name}: {len(found)} agents after a reset, {len(side.rows)} at first")
            side.agents, side.free, side.asked = {}, [], [(of, agent.id) for of, agent in found]
            for row, (of, agent) in zip(side.rows, sorted(found, key=lambda one: (one[0], one[1].id)), strict=True):
                side.agents[of, agent.id] = row
                self._write(agent, seen, row)
        self._late[:] = 0
        self.seen = seen
        return {name: array.copy() for name, array in seen.items()}

    def step(self, actions: np.ndarray) -> Step:
        turn = Turn(self.count, self.seen, self._late)
        self._late = np.zeros(self.count, np.float32)
        waiting = self.sides
        for _ in range(PATIENCE):
            for side in waiting:
                side.player.send(STEP, self._orders(side, actions, turn))
            for side in waiting:
                self._take(side, turn)
            waiting = [side for side in waiting if not turn.ready[side.rows.start : side.rows.stop].all()]
            if not waiting:
                break
        else:
            gone = np.flatnonzero(~turn.ready).tolist()
            raise UserError(f"{self.name}: copies {gone} asked for no decision within {PATIENCE} exchanges")
        self.seen = turn.seen
        observation = {name: array.copy() for name, array in turn.seen.items()}
        return Step(turn.reached, observation, turn.reward, turn.terminated, turn.truncated)

    def frame(self) -> UInt8[np.ndarray, "height width 3"]:
        image = self.seen.get("image")
        if image is None:
            return super().frame()
        first = image[0] if len(image[0]) == 3 else np.repeat(image[0][:1], 3, axis=0)
        return np.asarray(first.transpose(1, 2, 0))

    def close(self) -> None:
        for player in self.players:
            player.close()

    def _orders(self, side: Side, actions: np.ndarray, turn: Turn) -> dict[str, list[Any]]:
        """Actions of the agents that wait for one."""
        orders: dict[str, list[Any]] = {}
        for of, number in side.asked:
            row = side.agents[of, number]
            turn.acted[row] = True
            orders.setdefault(of, []).append(self.behaviour.action_message(actions[row]))
        return orders

    def _take(self, side: Side, turn: Turn) -> None:
        """Read one answer: ends first, then decisions."""
        output = self._learn(side.player.receive())
        infos = [(of, a) for of, many in output.rl_output.agentInfos.items() if self._mine(of) for a in many.value]
        for of, agent in infos:
            row = side.agents.get((of, agent.id))
            if not agent.done or row is None:
                continue
            del side.agents[of, agent.id]
            side.free.append(row)
            turn.ready[row] = False
            if turn.ended(row):  # A second episode within this step: the learner never acted in it.
                self._late[row] = 0
                continue
            turn.reward[row] += agent.reward + agent.group_reward
            self._write(agent, turn.reached, row)
            turn.truncated[row], turn.terminated[row] = agent.max_step_reached, not agent.max_step_reached
        side.asked = []
        for of, agent in infos:
            if agent.done:
                continue
            earned = agent.reward + agent.group_reward
            if (of, agent.id) not in side.agents:
                if not side.free:
                    raise UserError(f"{self.name}: a new agent of {of} appeared; there were {len(side.rows)} at first")
                side.agents[of, agent.id], earned = side.free.pop(0), 0.0
            row = side.agents[of, agent.id]
            if turn.ended(row):
                self._late[row] += earned
            else:
                turn.reward[row] += earned
                self._write(agent, turn.reached, row)
            self._write(agent, turn.seen, row)
            turn.ready[row] = turn.acted[row] or turn.ended(row)
            side.asked.append((of, agent.id))

    def _learn(self, output: Any) -> Any:
        for parameters in output.rl_initialization_output.brain_parameters:
            self.parameters[parameters.brain_name] = parameters
        return output

    def _mine(self, of: str) -> bool:
        return of.partition("?")[0] == self.base

    def _asked(self, output: Any) -> list[tuple[str, Any]]:
        return [
            (of, agent)
            for of, many in output.rl_output.agentInfos.items()
            if self._mine(of)
            for agent in many.value
            if not agent.done
        ]

    def _choose(self, chosen: str | None) -> str:
        known = sorted({name.partition("?")[0] for name in self.parameters})
        if not known:
            raise UserError(f"{self.name} has no behaviour: is there an agent with Behavior Type Default in the scene?")
        if chosen is None and len(known) > 1:
            raise UserError(f"{self.name} has {len(known)} behaviours ({', '.join(known)}): name one, option behaviour")
        if chosen is not None and chosen not in known:
            raise UserError(f"{self.name} has no behaviour {chosen!r}; {nearest(chosen, known)}")
        return chosen or known[0]

    def _write(self, agent: Any, arrays: dict[str, np.ndarray], row: int) -> None:
        if not self.spec.masked and any(agent.action_mask):
            raise UserError(f"{self.name} forbids some actions: ask for masks=True")
        write(self.behaviour, agent, arrays, row)

    def _empty(self) -> dict[str, np.ndarray]:
        return {name: np.zeros((self.count, *shape), kind) for name, (shape, kind) in self.spec.observations.items()}


def make(
    id: str,
    count: int,
    behaviour: str | None = None,
    seed: int = 0,
    timeout: float = 60.0,
    port: int | None = None,
    graphics: bool = False,
    masks: bool = False,
    engine: Mapping[str, float] | None = None,
    parameters: Mapping[str, float] | None = None,
    arguments: tuple[str, ...] = (),
) -> VectorEnv:
    """`count` agents in as many players as that takes.

    `graphics`: draw, which cameras need; `engine`: settings beside `DEFAULTS`; `parameters`: what the scene reads as
    environment parameters; `timeout`: seconds of one answer; `arguments`: more for the player's command line. Raises
    `UserError` for a missing player, a count that does not fit its agents, and a player that does not answer.
    """
    importlib.import_module("grpc")
    importlib.import_module("google.protobuf")
    wanted = {**DEFAULTS, **(engine or {})}
    if unknown := [name for name in wanted if name not in DEFAULTS]:
        raise UserError(f"the Unity engine has no setting {unknown[0]!r}; {nearest(unknown[0], DEFAULTS)}")
    name, editor = f"unity:{id}", id == "editor"
    path = None if editor else executable(id)
    line = [*([] if graphics else ["-nographics", "-batchmode"]), *arguments]
    channel = settings(wanted, parameters or {})
    start = port if port is not None else EDITOR_PORT if editor else free_port()
    player = Player(path, start, seed, timeout, line, channel)
    env: Unity | None = None
    try:
        env = Unity(name, player, behaviour, masks)
        if count % env.count or (editor and count != env.count):
            fits = str(env.count) if editor else f"{env.count} or a multiple of it"
            raise UserError(f"{name} has {env.count} agents of {env.base}: ask for {fits}, not {count} copies")
        if env.spec.image and not graphics and path is not None:
            raise UserError(f"{name} shows pictures, which a player without graphics cannot draw: graphics=True")
        for n in range(1, count // env.count):
            start = port + n if port is not None else free_port()
            env.join(Player(path, start, seed + n, timeout, line, channel))
        return env
    except BaseException:
        for one in env.players if env else [player]:
            one.close()
        raise
