"""A Unity player that is none: the gRPC client of the ML-Agents protocol, with small scenes of known outcome.

Run as a player is: `FILE --mlagents-port N --scene NAME --report FILE`. It keeps Unity's manners: an agent gets a new
number with each episode, asks for decisions in its own rhythm, and expects answers in the order of its questions.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import time
from pathlib import Path

import grpc

# The file alone: a player that starts fast makes fast tests.
where = Path(__file__).parents[2] / "daybreak" / "systems" / "rl" / "envs" / "unity" / "messages.py"
spec = importlib.util.spec_from_file_location("messages", where)
messages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(messages)
METHOD, OK, PNG, RESET, SERVICE = messages.METHOD, messages.OK, messages.PNG, messages.RESET, messages.SERVICE
message = messages.message

LENGTHS = {"walk": (3, 4, 5), "late": (3, 4), "rhythm": (6, 6), "teams": (4, 4)}
"""Decisions of an episode, for each agent."""


class Agent:
    numbers = 0

    def __init__(self, scene: str, index: int) -> None:
        self.scene, self.index = scene, index
        self.length = LENGTHS.get(scene, (5,) * 9)[index]
        self.pause = 0
        self.begin()

    def begin(self) -> None:
        Agent.numbers += 1
        self.number, self.time, self.last, self.reward = Agent.numbers, 0, 0.0, 0.0

    def info(self, done: bool = False, cut: bool = False):
        made = message("AgentInfoProto")(id=self.number, reward=self.reward, done=done, max_step_reached=cut)
        first = made.observations.add(shape=[2])
        first.float_data.data.extend([self.index, self.time])
        second = made.observations.add(shape=[1])
        second.float_data.data.append(self.last)
        if self.scene in ("eyes", "eyes-first"):
            look(made.observations.add(), self.time, self.scene == "eyes-first")
        if self.scene == "mask":
            made.action_mask.extend([False, self.time % 2 == 1, False])
        if self.scene == "group":
            made.group_reward = 0.5
        if self.scene == "two-eyes":
            look(made.observations.add(), 0, False)
            look(made.observations.add(), 0, False)
        if self.scene == "nan":
            first.float_data.data[1] = float("nan") if self.time == 2 else 0.0
        self.reward = 0.0
        return made


def look(part, at: int, first: bool) -> None:
    """A picture of 6 x 8 whose red grows with time: as PNG with channels last, or as numbers with channels first."""
    import numpy as np
    from PIL import Image

    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[..., 0], pixels[2, 5] = 10 * at, (1, 2, 3)
    if first:
        part.shape.extend([3, 6, 8])
        part.float_data.data.extend((pixels.transpose(2, 0, 1) / 255).ravel().tolist())
        return
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    part.shape.extend([6, 8, 3])
    part.compression_type, part.compressed_data = PNG, file.getvalue()


class Scene:
    def __init__(self, name: str) -> None:
        self.name = name
        count = {"walk": 3, "late": 2, "rhythm": 2, "teams": 2}.get(name, 1)
        self.agents = [Agent(name, n) for n in range(count)]
        self.waiting: dict[str, list[Agent]] = {}
        self.clock, self.told = 0, set()

    def behaviour(self, agent: Agent) -> str:
        return f"Player?team={agent.index}" if self.name == "teams" else "Walker"

    def reset(self):
        self.clock = 0
        for agent in self.agents:
            agent.begin()
            agent.pause = 0
        return self.output([(agent, agent.info()) for agent in self.agents])

    def step(self, actions):
        for behaviour, agents in self.waiting.items():
            given = actions[behaviour].value if behaviour in actions else []
            assert len(given) == len(agents), f"{len(given)} actions for {len(agents)} agents"
            for agent, action in zip(agents, given, strict=True):
                values = action.vector_actions_deprecated if self.name == "old" else action.discrete_actions
                values = action.continuous_actions if self.name.startswith("eyes") else values
                agent.last = float(values[0])
        while True:
            # As the academy does: time goes on until somebody asks or ends.
            self.clock += 1
            said = [pair for agent in self.agents for pair in self.tick(agent)]
            if said:
                return self.output(said)

    def tick(self, agent: Agent):
        if agent.pause:
            agent.pause -= 1
            return [] if agent.pause else [(agent, agent.info())]
        agent.reward += agent.last
        if self.name == "rhythm" and self.clock % (agent.index + 1):
            return []
        agent.time += 1
        if agent.time < agent.length:
            return [(agent, agent.info())]
        ended = (None, (self.behaviour(agent), agent.info(True, cut=agent.index == 1)))
        agent.begin()
        if self.name == "late":
            agent.pause = 3
            return [ended]
        return [ended, (agent, agent.info())]

    def output(self, said):
        made = message("UnityOutputProto")()
        self.waiting = {}
        for agent, info in said:
            behaviour, info = (self.behaviour(agent), info) if agent else info
            made.rl_output.agentInfos[behaviour].value.append(info)
            if agent:
                self.waiting.setdefault(behaviour, []).append(agent)
            if behaviour not in self.told:
                self.told.add(behaviour)
                self.describe(made.rl_initialization_output.brain_parameters.add(), behaviour)
        if self.name == "two" and len(self.told) == 1:
            self.told.add("Other")
            self.describe(made.rl_initialization_output.brain_parameters.add(), "Other")
        return made

    def describe(self, parameters, behaviour: str) -> None:
        parameters.brain_name = behaviour
        if self.name == "old":
            parameters.vector_action_size_deprecated.append(3)
            return
        actions = parameters.action_spec
        if self.name.startswith("eyes") or self.name == "hybrid":
            actions.num_continuous_actions = 2
        if not self.name.startswith("eyes"):
            actions.discrete_branch_sizes.extend([3, 2] if self.name == "branches" else [3])
            actions.num_discrete_actions = len(actions.discrete_branch_sizes)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mlagents-port", type=int)
    parser.add_argument("--scene", default="walk")
    parser.add_argument("--report")
    options, others = parser.parse_known_args()
    kind = message("UnityMessageProto")
    channel = grpc.insecure_channel(f"localhost:{options.mlagents_port}")
    exchange = channel.unary_unary(
        f"/{SERVICE}/{METHOD}", request_serializer=kind.SerializeToString, response_deserializer=kind.FromString
    )

    def call(output=None):
        asked = kind()
        asked.header.status = OK
        if output is not None:
            asked.unity_output.CopyFrom(output)
        return exchange(asked, wait_for_ready=True, timeout=30)

    hello = message("UnityOutputProto")()
    hello.rl_initialization_output.communication_version = {"future": "2.0.0", "old": "1.0.0"}.get(
        options.scene, "1.5.0"
    )
    hello.rl_initialization_output.capabilities.baseRLCapabilities = True
    hello.rl_initialization_output.capabilities.hybridActions = options.scene != "old"
    if options.scene == "silent":
        time.sleep(60)
    wanted = call(hello).unity_input.rl_initialization_input
    report = {"seed": wanted.seed, "version": wanted.communication_version, "others": others, "steps": 0, "resets": 0}
    scene, answer = Scene(options.scene), call()
    report["side"] = answer.unity_input.rl_input.side_channel.hex()
    while answer.header.status == OK:
        order = answer.unity_input.rl_input
        report["resets" if order.command == RESET else "steps"] += 1
        if report["steps"] == 3 and options.scene == "die":
            os._exit(9)
        if report["steps"] == 3 and options.scene == "hang":
            time.sleep(60)
        answer = call(scene.reset() if order.command == RESET else scene.step(order.agent_actions))
    report["farewell"] = answer.header.status
    if options.report:
        with open(options.report, "w") as file:
            json.dump(report, file)


if __name__ == "__main__":
    main()
