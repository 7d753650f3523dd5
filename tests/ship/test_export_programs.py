"""The systems' programs answer as the systems do: caches, carries, normalisers and what a search asks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from daybreak.lab.home import Lab
from daybreak.lab.lake import Snapshot
from daybreak.systems.music import tokens as T
from daybreak.systems.music.decode import Rules, decoder, sample
from daybreak.systems.music.net import NetConfig
from daybreak.systems.music.programs import programs as music_programs
from daybreak.systems.music.programs import through as music_through
from daybreak.systems.rl.envs import make
from daybreak.systems.rl.model import RECIPES
from daybreak.systems.rl.programs import programs, through

AGENTS = [
    ("policy", {}, "CartPole-v1"), ("policy", {"normalise": True}, "Pendulum-v1"), ("value", {}, "Acrobot-v1"),
    ("value", {"memory": "lstm"}, "CartPole-v1"), ("value", {"head": "iqn"}, "CartPole-v1"),
    ("control", {}, "Pendulum-v1"), ("search", {"simulations": 4}, "CartPole-v1"),
]  # fmt: skip


def composer(keywords="set"):
    torch.manual_seed(3)
    config = NetConfig(
        layers=2, width=32, heads=2, inner=64, context=128, numbered=keywords == "set", keywords=keywords
    )
    net = decoder(config).eval().requires_grad_(False)
    for weight in net.parameters():
        weight.mul_(4)  # far from uniform
    return net


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_prefill_and_steps_are_the_network(cut):
    net = composer()
    found = music_programs(net)
    keywords = torch.from_numpy(T.OFFSETS[None].astype(np.int64))
    tokens = torch.randint(0, T.STREAM, (1, 12))
    marks = torch.stack([torch.arange(12)[None] // 4, torch.zeros(1, 12, dtype=torch.int64)], -1)
    want = net(keywords, tokens, marks)
    logits, keys, values = found["prefill"].module(keywords, tokens[:, :cut], marks[:, :cut])
    rest, keys, values = found["step"].module(tokens[:, cut:], marks[:, cut:], keys, values)
    torch.testing.assert_close(torch.cat([logits, rest], 1), want, atol=1e-4, rtol=1e-4)
    assert keys.shape == values.shape == (2, 1, 2, net.keywords + 12, 16)


@pytest.mark.parametrize("keywords", ["set", "sequence"])
def test_where_no_length_may_vary_a_cache_of_fixed_room_says_the_same(keywords):
    net = composer(keywords)
    found = {name: program.static for name, program in music_programs(net).items()}
    assert not any(program.dynamic for program in found.values())
    said = torch.from_numpy(T.OFFSETS[None].astype(np.int64))
    tokens, marks = torch.randint(0, T.STREAM, (1, 6)), torch.zeros(1, 6, 2, dtype=torch.int64)
    want = net(said, tokens, marks)
    logits, keys, values = found["prefill"].module(said, tokens[:, :1], marks[:, :1])
    told = [logits]
    for n in range(1, 6):
        past = torch.tensor([net.keywords + n])
        logits, keys, values = found["step"].module(tokens[:, n : n + 1], marks[:, n : n + 1], past, keys, values)
        told.append(logits)
    torch.testing.assert_close(torch.cat(told, 1), want, atol=1e-4, rtol=1e-4)
    assert keys.shape == found["step"].example["keys"].shape


def test_a_composer_through_its_programs_composes_the_same():
    net, row = composer(), T.row(role="main_melody", key="C major", metre="4/4", bars=2)
    rules = Rules(2, 4)
    want = sample(net, [row, row], rules, 5)
    found = music_programs(net)
    calls = []

    def run(name):
        def called(*inputs):
            calls.append(name)
            return found[name].module(*inputs)

        return called

    music_through(net, {name: run(name) for name in found})
    got = sample(net, [row, row], rules, 5)
    assert [stream.tolist() for stream in got] == [stream.tolist() for stream in want]
    assert set(calls) == {"prefill", "step"}


@pytest.mark.parametrize(("family", "settings", "env"), AGENTS, ids=lambda value: str(value))
def test_an_agent_through_its_programs_decides_the_same(family, settings, env, tmp_path):
    from daybreak.lab.system import resolve

    cls = resolve(RECIPES[family])
    game = make(env, 5)
    torch.manual_seed(1)
    net = cls.net_of(cls.Config(env=env, **settings), game.spec, 1).eval().requires_grad_(False)
    observation = {name: torch.from_numpy(value)[None] for name, value in game.reset(3).items()}
    game.close()
    carry = net.start(1, 5)
    if carry is not None:
        carry = torch.randn_like(carry)
    want = net.greedy(observation, carry)
    found = programs(net, game.spec)
    for program in found.values():
        inputs = next(iter(program.inputs(Snapshot.none(Lab.open(tmp_path / "lab"), "rl"), "test")))
        out = program.module(*inputs.values())
        assert len(out) == len(program.outputs)
        assert all(len(x) == len(next(iter(inputs.values()))) for x in out)
    called = []

    def run(name):
        def call(*inputs):
            called.append(name)
            return found[name].module(*inputs)

        return call

    from copy import deepcopy

    other = deepcopy(net)
    through(other, {name: run(name) for name in found})
    got = other.greedy(observation, carry)
    torch.testing.assert_close(got.action, want.action)
    assert set(called) == set(found)
    if carry is not None:
        torch.testing.assert_close(got.carry, want.carry)
