"""An agent's programs: one observation in, the action in the environment's units out, the normaliser inside.

A family whose greedy choice is a graph gives `decide`. One that searches gives what it searches with: `see` and
`imagine`. They know nets and the step contract, no algorithm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from daybreak.lab.lake import Snapshot, Split
from daybreak.lab.program import Axis, Inputs, Program, Run
from daybreak.systems.rl.actor import Acted, ActingNet, Stacker
from daybreak.systems.rl.recipe import STARTS
from daybreak.systems.rl.search import SearchNet
from daybreak.systems.rl.spec import Spec

COPIES, STEPS = 16, 200
"""Copies of the environment that play for real inputs, and their steps. Batches take the first 1, 2, 4, 8 or 16."""
BATCH = Axis("batch", 1, 256)
DTYPES = {"float32": torch.float32, "uint8": torch.uint8, "bool": torch.bool}


class Decide(nn.Module):
    """Observations [batch, ...] (and the carry) -> action, what the agent expects (and the next carry)."""

    def __init__(self, net: ActingNet, parts: tuple[str, ...]) -> None:
        super().__init__()
        self.net, self.parts = net, parts

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        observation = {name: x[None] for name, x in zip(self.parts, inputs, strict=False)}
        carry = inputs[len(self.parts)][None] if len(inputs) > len(self.parts) else None
        acted = self.net.greedy(observation, carry)
        out = [acted.action[0], *(x[0] for x in acted.extras.values())]
        if carry is not None and acted.carry is not None:
            out.append(acted.carry[0])
        return tuple(out)


class See(nn.Module):
    """Observations -> the hidden state, its moves' logits and its value."""

    def __init__(self, net: SearchNet, parts: tuple[str, ...]) -> None:
        super().__init__()
        self.world, self.parts = net.world, parts

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = self.world.represent({name: x[None] for name, x in zip(self.parts, inputs, strict=True)})
        logits, value = self.world.predict(hidden)
        return hidden[0], logits[0], self.world.support.mean(value)[0]


class Imagine(nn.Module):
    """Hidden states and a move of each -> the next ones, the reward, the moves' logits and the value."""

    def __init__(self, net: SearchNet) -> None:
        super().__init__()
        self.world = net.world

    def forward(self, hidden: Tensor, move: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        after, reward = self.world.dynamics(hidden[None], move[None])
        logits, value = self.world.predict(after)
        mean = self.world.support.mean
        return after[0], mean(reward)[0], logits[0], mean(value)[0]


def programs(net: ActingNet, spec: Spec) -> dict[str, Program]:
    """The programs of an agent of one seed."""
    parts = tuple(name for name in spec.observations if name != "mask" or not isinstance(net, SearchNet))
    example: dict[str, Tensor] = {}
    for name in parts:
        shape, kind = spec.observations[name]
        if name == "image":
            shape = (spec.stack * shape[0], *shape[1:])
        example[name] = torch.ones(2, *shape, dtype=DTYPES[kind])
    batched = {name: {0: BATCH} for name in example}

    def real(data: Snapshot, split: Split) -> Iterator[Inputs]:
        for seen, carry in played(net, spec, split):
            yield {**{name: seen[name] for name in parts}, **({} if carry is None else {"carry": carry})}

    if isinstance(net, SearchNet):
        see, imagine = See(net, parts), Imagine(net)
        with torch.no_grad():
            hidden = see(*example.values())[0]

        def imagined(data: Snapshot, split: Split) -> Iterator[Inputs]:
            for n, inputs in enumerate(real(data, split)):
                with torch.no_grad():
                    hidden, logits, _ = see(*inputs.values())
                yield {"hidden": hidden, "move": (logits.argmax(-1) + n) % logits.shape[-1]}

        move = torch.zeros(2, dtype=torch.int64)
        return {
            "see": Program(
                see, example, ("hidden", "logits", "value"), real, batched,
                about="Where the search begins: an observation's hidden state.",
            ),
            "imagine": Program(
                imagine, {"hidden": hidden, "move": move}, ("hidden_next", "reward", "logits", "value"), imagined,
                {"hidden": {0: BATCH}, "move": {0: BATCH}},
                about="A step of the search: what a move leads to.",
            ),
        }  # fmt: skip
    carry = net.start(1, 2)
    carried: dict[str, str] = {}
    with torch.no_grad():
        extras = net.greedy({name: x[None] for name, x in example.items()}, carry).extras
    outputs = ["action", *extras]
    if carry is not None:
        example["carry"], batched["carry"], carried = carry[0], {0: BATCH}, {"carry": "carry_next"}
        outputs.append("carry_next")
    module = Decide(net, parts)
    about = "Observations as the environment shows them -> the best action, in its units."
    return {"decide": Program(module, example, tuple(outputs), real, batched, carried, about)}


@torch.no_grad()
def played(net: ActingNet, spec: Spec, split: Split) -> Iterator[tuple[dict[str, Tensor], Tensor | None]]:
    """Observations and carries of greedy episodes, which begin where the split's do; in batches of several sizes."""
    from daybreak.systems.rl.envs import make

    game = make(spec.name, COPIES)
    try:
        stacker = Stacker(game.spec)
        seen, carry = stacker.first(game.reset(STARTS[split])), net.start(1, COPIES)
        for t in range(STEPS):
            tensors = {name: torch.from_numpy(value)[None] for name, value in seen.items()}
            count = 2 ** (t % 5)
            if t % 4 == 0 or t < 8:
                told = {name: x[0, :count].clone() for name, x in tensors.items()}
                yield told, None if carry is None else carry[0, :count].clone()
            acted = net.greedy(tensors, carry)
            carry = acted.carry
            step = game.step(acted.action[0].numpy())
            seen = stacker.next(step.observation, step.terminated | step.truncated)
    finally:
        game.close()


def through(net: ActingNet, run: Mapping[str, Run]) -> None:
    """Let a net choose by `run`."""
    if isinstance(net, SearchNet):
        _search_through(net, run)
        return

    def greedy(observation: Mapping[str, Tensor], carry: Tensor | None) -> Acted:
        inputs = [x[0] for x in observation.values()]
        out = run["decide"](*inputs, *([] if carry is None else [carry[0]]))
        return Acted(out[0][None], carry if carry is None else out[-1][None])

    net.greedy = greedy  # type: ignore[method-assign]


def _search_through(net: SearchNet, run: Mapping[str, Run]) -> None:
    world: Any = net.world
    held: dict[str, Tensor] = {}

    def told(hidden: Tensor, reward: Tensor, logits: Tensor, value: Tensor) -> Tensor:
        held.update(reward=reward[None], logits=logits[None], value=value[None])
        return hidden[None]

    def represent(observation: Mapping[str, Tensor]) -> Tensor:
        hidden, logits, value = run["see"](*(x[0] for name, x in observation.items() if name != "mask"))
        return told(hidden, value, logits, value)

    def dynamics(hidden: Tensor, move: Tensor) -> tuple[Tensor, Tensor]:
        after, reward, logits, value = run["imagine"](hidden[0], move[0])
        return told(after, reward, logits, value), held["reward"]

    world.represent, world.dynamics = represent, dynamics
    world.predict = lambda hidden: (held["logits"], held["value"])
    # The programs' values are numbers already.
    world.support = _Told()


class _Told:
    """Stands for the support where values come as numbers."""

    def mean(self, x: Tensor) -> Tensor:
        return x
