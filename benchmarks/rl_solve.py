"""Every preset learns its task: five seeds stacked in one process, judged by a hundred greedy episodes each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

from rows import Bar, PartError, Row, main, once, say

SEEDS = 5
TASKS: tuple[tuple[str, str, float, str], ...] = (
    *((name, "CartPole-v1", 475.0, "value") for name in (
        "dqn", "double", "dueling", "multistep", "per", "noisy", "c51", "qrdqn", "iqn", "m_dqn", "m_iqn", "rainbow",
        "rainbow_iqn", "ape_x", "r2d2")),
    *((name, "CartPole-v1", 475.0, "policy") for name in (
        "reinforce", "a2c", "ppo", "icm_ppo", "rnd_ppo", "vmpo", "impala")),
)  # fmt: skip
"""Preset, environment, the return that counts as solved, family."""


LOOKS = 20
"""Times that a training is looked at, evenly over its budget."""


def train(family: str, preset: str, seeds: int, bound: float) -> Iterator[dict[str, Any]]:
    """Train stacked seeds until each has once reached `bound` as the mean of 100 greedy episodes, or the budget ends.

    Gives each seed's steps at its first such look (none: 0) and its last mean, and the CPU seconds of training alone.
    """
    import importlib

    import torch

    from daybreak.lab.checkpoint import undisturbed
    from daybreak.systems.rl.recipe import STARTS, play

    torch.set_num_threads(1)
    cls = getattr(importlib.import_module(f"daybreak.systems.rl.{family}"), family.capitalize())
    config = cls.preset(preset).model_copy(update={"seeds": seeds})
    torch.manual_seed(config.seed)
    learner = cls(config, None)
    spent, clock, step, due = 0.0, 0.0, 0, config.budget / LOOKS
    solved, means = [0.0] * seeds, [0.0] * seeds
    while clock < config.budget and not all(solved):
        began = time.process_time()
        learner._step, learner._clock = step, clock
        clock += float(learner.step(None, step)["env_steps"])
        step += 1
        spent += time.process_time() - began
        if clock < due:
            continue
        due += config.budget / LOOKS
        with undisturbed(learner):
            played = play(learner.net, config.env, seeds, 100, STARTS["test"])
        means = [statistics.fmean(played[seed, n][0] for n in range(100)) for seed in range(seeds)]
        solved = [at or (clock if mean >= bound else 0.0) for at, mean in zip(solved, means, strict=True)]
    yield {"means": means, "seconds": spent, "steps": clock, "solved": solved}


def seconds_to_solve(seed: int) -> Iterator[dict[str, float]]:
    """CPU seconds of PPO's own until 100 greedy episodes reach 475 on CartPole, looked at every 5,000 steps."""
    import torch

    from daybreak.lab.checkpoint import undisturbed
    from daybreak.systems.rl.policy import Policy
    from daybreak.systems.rl.recipe import STARTS, play

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    config = Policy.preset("ppo").model_copy(update={"seed": seed})  # type: ignore[union-attr]
    learner = Policy(config, None)  # type: ignore[arg-type]
    clock, step, spent, due = 0.0, 0, 0.0, 5000
    while clock < config.budget:  # type: ignore[operator]
        began = time.process_time()
        learner._step, learner._clock = step, clock
        clock += float(learner.step(None, step)["env_steps"])
        spent += time.process_time() - began
        step += 1
        if clock >= due:
            due += 5000
            with undisturbed(learner):
                played = play(learner.net, config.env, 1, 100, STARTS["test"])
            if statistics.fmean(total for total, _, _ in played.values()) >= 475:
                break
    else:
        spent = float("inf")
    yield {"seconds": spent, "steps": clock}


def sb3_to_solve(seed: int) -> Iterator[dict[str, float]]:
    """The same of Stable-Baselines3, with the Zoo's settings for CartPole."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    torch.set_num_threads(1)
    looked = make_vec_env("CartPole-v1", 8, seed=1000)

    class Solved(BaseCallback):
        spent, due, began, solved = 0.0, 5000, 0.0, False

        def _on_training_start(self) -> None:
            self.began = time.process_time()

        def _on_step(self) -> bool:
            if self.num_timesteps >= self.due:
                self.due += 5000
                self.spent += time.process_time() - self.began
                mean, _ = evaluate_policy(self.model, looked, 100)
                self.solved = mean >= 475
                self.began = time.process_time()
            return not self.solved

    model = PPO(
        "MlpPolicy", make_vec_env("CartPole-v1", 8, seed=seed), n_steps=32, batch_size=256, gae_lambda=0.8, gamma=0.98,
        n_epochs=20, ent_coef=0.0, learning_rate=lambda left: 1e-3 * left, clip_range=lambda left: 0.2 * left,
        device="cpu", seed=seed,
    )  # fmt: skip
    watch = Solved()
    model.learn(100_000, callback=watch)
    yield {"seconds": watch.spent if watch.solved else float("inf"), "steps": float(model.num_timesteps)}


def measure(quick: bool) -> Iterator[Row]:
    """The rows."""
    for preset, env, bound, family in TASKS:
        if quick and preset != "ppo":
            yield Row(f"{preset} on {env}", "return", None, Bar("ours", ">=", bound), note="not run in a quick run")
            continue
        say(f"{preset} on {env}")
        found = once("train", family, preset if env == "CartPole-v1" else f"{preset}@{env}", SEEDS, bound)
        at = ", ".join(f"{steps / 1000:.0f}k" if steps else "-" for steps in found["solved"])
        last = ", ".join(f"{mean:.0f}" for mean in found["means"])
        note = f"first at {at} steps; last look {last}; {found['seconds']:.0f} CPU s for all seeds"
        yield Row(f"{preset} on {env}: a greedy mean of {bound:.0f} over 100 episodes", f"of {SEEDS} seeds",
                  sum(map(bool, found["solved"])), Bar("ours", ">=", SEEDS), note=note)  # fmt: skip
    count = 1 if quick else SEEDS
    ours = [once("seconds_to_solve", seed) for seed in range(count)]
    try:
        peers = [once("sb3_to_solve", seed) for seed in range(count)]
    except PartError as error:
        say(f"Stable-Baselines3 was not run: {error}")
        peers = []
    told = [", ".join(f"{found['steps'] / 1000:.0f}k" for found in runs) for runs in (ours, peers)]
    yield Row("PPO to a greedy mean of 475 on CartPole, mean of seeds", "CPU s",
              statistics.fmean(found["seconds"] for found in ours), Bar("ratio", "<=", 0.6), "Stable-Baselines3",
              statistics.fmean(found["seconds"] for found in peers) if peers else None,
              f"steps: ours {told[0]}; theirs {told[1]}")  # fmt: skip


if __name__ == "__main__":
    parts = {"train": train, "seconds_to_solve": seconds_to_solve, "sb3_to_solve": sb3_to_solve}
    main(measure, parts, ["stable_baselines3", "gymnasium"])  # type: ignore[arg-type]
