"""Speed of reinforcement learning, one thread, CPU time: ours and Stable-Baselines3, same settings, in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

from rows import Bar, PartError, Row, in_turn, main, medians, once, say

JORLDY = {"dqn": 391.0, "per32": 0.87, "per256": 5.98, "muzero": 52.5, "sac": 23.0}
"""Recorded on a machine like this one; JORLDY does not run beside current packages in whole."""


def rates(learner: Any, rounds: int, each: int) -> Iterator[float]:
    """Steps of the environment a CPU second, over all seeds."""
    while True:
        began, steps = time.process_time(), 0.0
        for _ in range(rounds):
            steps += float(learner.step(None, learner._step)["env_steps"]) * each
            learner._step += 1
        yield steps / (time.process_time() - began)


def ready(family: str, preset: str, warm: int, **more: Any) -> Any:
    """A learner that has warmed up."""
    import importlib

    import torch

    from daybreak.lab.surroundings import keep_memory

    keep_memory()  # as the lab's trainer does
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cls = getattr(importlib.import_module(f"daybreak.systems.rl.{family}"), family.capitalize())
    learner = cls(cls.preset(preset).model_copy(update=more), None)
    for _ in range(warm):
        learner.step(None, learner._step)
        learner._step += 1
    return learner


def ppo(who: str, seeds: int = 1) -> Iterator[float]:
    """PPO on CartPole with the Zoo's settings: 8 copies, 32 steps, a batch of 256, 20 epochs."""
    if who == "ours":
        yield from rates(ready("policy", "ppo", 4, seeds=seeds), 40, seeds)
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(1)
    model = PPO(
        "MlpPolicy", make_vec_env("CartPole-v1", 8), n_steps=32, batch_size=256, gae_lambda=0.8, gamma=0.98,
        n_epochs=20, ent_coef=0.0, learning_rate=1e-3, device="cpu", seed=0,
    )  # fmt: skip
    model.learn(1024)
    yield from learned(model, 10_240)


def learned(model: Any, steps: int) -> Iterator[float]:
    """Steps a CPU second of a model of Stable-Baselines3."""
    while True:
        began, before = time.process_time(), model.num_timesteps
        model.learn(steps, reset_num_timesteps=False)
        yield (model.num_timesteps - before) / (time.process_time() - began)


def dqn(who: str) -> Iterator[float]:
    """DQN on CartPole with JORLDY's settings: an update of 32 every step, 2 x 512, target every 500."""
    if who == "ours":
        more = {"envs": 1, "play": 8, "updates": 8, "batch": 32, "hidden": (512, 512), "norm": False, "ema": 0.0,
                "learning_starts": 500, "target_every": 500, "replay": 50_000, "lr": 1e-4}  # fmt: skip
        yield from rates(ready("value", "dqn", 80, **more), 125, 1)
    import torch
    from stable_baselines3 import DQN

    torch.set_num_threads(1)
    model = DQN(
        "MlpPolicy", "CartPole-v1", learning_rate=1e-4, batch_size=32, buffer_size=50_000, learning_starts=500,
        train_freq=1, gradient_steps=1, target_update_interval=500, policy_kwargs={"net_arch": [512, 512]},
        device="cpu", seed=0,
    )  # fmt: skip
    model.learn(700)
    yield from learned(model, 1000)


def sac(who: str) -> Iterator[float]:
    """SAC on Pendulum: updates of 256 with 2 x 256, one a step."""
    if who == "ours":
        more = {"envs": 1, "play": 8, "updates": 8, "batch": 256, "hidden": (256, 256), "learning_starts": 300,
                "norm": False, "ema": 0.0, "gamma": 0.99, "tau": 0.005}  # fmt: skip
        yield from rates(ready("control", "sac", 60, env="Pendulum-v1", **more), 40, 1)
    import torch
    from stable_baselines3 import SAC

    torch.set_num_threads(1)
    model = SAC("MlpPolicy", "Pendulum-v1", batch_size=256, learning_starts=300, device="cpu", seed=0)
    model.learn(400)
    yield from learned(model, 300)


def atari(who: str) -> Iterator[float]:
    """PPO on Pong with the Zoo's settings: 8 copies, 128 steps, batches of 256, 4 epochs; agent steps."""
    if who == "ours":
        yield from rates(ready("policy", "ppo@ale:Pong", 0, budget=10_000_000.0), 1, 1)
    import ale_py
    import gymnasium
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    torch.set_num_threads(1)
    gymnasium.register_envs(ale_py)
    env = VecFrameStack(make_atari_env("PongNoFrameskip-v4", n_envs=8, seed=0), n_stack=4)
    model = PPO(
        "CnnPolicy", env, n_steps=128, batch_size=256, n_epochs=4, ent_coef=0.01, learning_rate=2.5e-4, vf_coef=0.5,
        clip_range=0.1, device="cpu", seed=0,
    )  # fmt: skip
    yield from learned(model, 1024)


def replay(batch: int) -> Iterator[float]:
    """Milliseconds to draw a batch from 50,000 prioritised steps, and to set its priorities."""
    import numpy as np

    from daybreak.systems.rl.store import Priorities

    random = np.random.default_rng(0)
    tree = Priorities(1, 50_000, 1, 0.6)
    tree.open(np.arange(50_000))
    errors = random.random((1, batch)) + 0.01
    while True:
        began = time.process_time()
        for _ in range(300):
            rows, copies, _ = tree.draw(random, batch)
            tree.set(rows, copies, errors)
        yield 1000 * (time.process_time() - began) / 300


def muzero(batch: int) -> Iterator[float]:
    """CPU milliseconds of one decision of 30 simulations, `batch` games at once."""
    import torch

    learner = ready("search", "muzero", 0, env="CartPole-v1", envs=batch, simulations=30)
    with torch.no_grad():
        while True:
            began = time.process_time()
            learner.actor.collect(4)
            yield 1000 * (time.process_time() - began) / (4 * batch)


def measure(quick: bool) -> Iterator[Row]:
    """The rows."""
    rounds = 1 if quick else 5
    peers = "Stable-Baselines3"

    def pair(name: str, what: str, unit: str, bound: float, note: str = "") -> Row:
        say(what)
        found = medians(in_turn({"ours": ["ours"], peers: ["sb3"]}, rounds, part=name))
        return Row(what, unit, found["ours"], Bar("ratio", ">=", bound), peers, found.get(peers), note)

    yield pair("ppo", "PPO on CartPole", "steps/CPU s", 2.0, "the Zoo's settings")
    say("8 stacked seeds")
    found = medians(in_turn({"ours": ["ours", 8], peers: ["sb3"]}, rounds, part="ppo"))
    yield Row("PPO on CartPole, 8 seeds stacked in one process, all together", "steps/CPU s", found["ours"],
              Bar("ratio", ">=", 5.0), f"{peers}, one seed", found.get(peers))  # fmt: skip
    row = pair("dqn", "DQN on CartPole, an update a step, 2 x 512", "steps/CPU s", 2.0, "JORLDY's settings")
    yield row
    yield Row(row.what, row.unit, row.ours, Bar("ratio", ">=", 2.0), "JORLDY, recorded", JORLDY["dqn"])
    yield pair("sac", "SAC on Pendulum, an update of 256 a step, 2 x 256", "steps/CPU s", 1.5)
    if not quick:
        yield pair("atari", "PPO on Pong, 8 copies", "agent steps/CPU s", 2.0, "the Zoo's settings")
    for batch in (32, 256):
        took = statistics.median([once("replay", batch) for _ in range(rounds)])
        yield Row(f"prioritised replay of 50,000, draw and set {batch}", "CPU ms", took, Bar("ratio", "<=", 0.25),
                  "JORLDY, recorded", JORLDY[f"per{batch}"])  # fmt: skip
    try:
        took = once("muzero", 64)
        yield Row("MuZero, a decision of 30 simulations, 64 games at once", "CPU ms", took, Bar("ratio", "<=", 0.1),
                  "JORLDY, recorded", JORLDY["muzero"])  # fmt: skip
    except PartError as error:
        say(f"MuZero was not run: {error}")


if __name__ == "__main__":
    parts = {"ppo": ppo, "dqn": dqn, "sac": sac, "atari": atari, "replay": replay, "muzero": muzero}
    main(measure, parts, ["stable_baselines3", "gymnasium", "ale_py"])  # type: ignore[arg-type]
