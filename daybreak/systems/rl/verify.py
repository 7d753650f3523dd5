"""`daybreak rl verify`: is an algorithm right? Its mathematics beside slow definitions, its learning beside a record.

Five kinds of checks, one line each with a tick: returns by brute force, conservation laws and identities of
distributions, the loss's gradient beside finite differences, tiny environments whose values are known, and a short
run beside the stored curve of the same preset. It knows every family through its recipe alone.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributions

from daybreak.errors import UserError, nearest
from daybreak.lab import checkpoint
from daybreak.lab.checkpoint import seed_everything, undisturbed
from daybreak.lab.recipe import Stored
from daybreak.lab.system import resolve
from daybreak.systems.rl import dist, returns, values
from daybreak.systems.rl.envs.probe import CUT, VALUES
from daybreak.systems.rl.model import RECIPES
from daybreak.systems.rl.recipe import Learner, play
from daybreak.systems.rl.store import Priorities

CURVES = "curves.json"
"""Stored beside this file: preset -> environment, steps, seeds' training returns. Written by `--record`."""


@dataclass(frozen=True)
class Check:
    """A line of the page."""

    name: str
    fine: bool
    told: str
    """What was compared, with both values."""


def family_of(preset: str) -> tuple[type[Learner[Any]], Any]:
    """The recipe and the config that a preset's name stands for. Raises `UserError` with the nearest names."""
    known: list[str] = []
    for target in RECIPES.values():
        cls = resolve(target)
        if (config := cls.preset(preset)) is not None:
            return cls, config
        known += cls.presets
    raise UserError(f"no preset {preset!r}; {nearest(preset, known)}")


def presets() -> list[str]:
    """Every preset of every family."""
    return [name for target in RECIPES.values() for name in resolve(target).presets]


def close(name: str, got: Tensor, expected: Tensor, tolerance: float = 1e-4) -> Check:
    """Whether two tensors agree."""
    gap = float((got - expected).abs().max())
    return Check(name, gap <= tolerance, f"largest difference {gap:.1e} (at most {tolerance:.0e})")


# Mathematics: the same for every preset that uses it.


def mathematics(seed: int = 0) -> Iterator[Check]:
    """Returns, targets, distributions and replay, beside slow definitions of their papers' equations."""
    g = torch.Generator().manual_seed(seed)

    def rand() -> Tensor:
        return torch.randn(20, 5, generator=g, dtype=torch.float64)

    reward, value, after, q, log_ratio = rand(), rand(), rand(), rand(), 0.5 * rand()
    terminated = (torch.rand(20, 5, generator=g) < 0.15).double()
    ended = torch.maximum(terminated, (torch.rand(20, 5, generator=g) < 0.15).double())
    gamma, lam = 0.97, 0.9
    deltas = reward + gamma * (1 - terminated) * after - value
    one = torch.ones_like(reward)
    yield close(
        "advantages (GAE) are their sum", returns.gae(reward, value, after, terminated, ended, gamma, lam),
        _sums(deltas, ended, gamma * lam * one),
    )  # fmt: skip
    ratio = log_ratio.exp().clamp(max=1)
    targets, _ = returns.vtrace(reward, value, after, terminated, ended, log_ratio, gamma, lam)
    yield close("V-trace targets are their sum", targets, value + _sums(ratio * deltas, ended, gamma * lam * ratio))
    shifted = torch.cat([ratio[1:], one[:1]])
    yield close(
        "Retrace targets are their sum", returns.retrace(reward, q, after, terminated, ended, log_ratio, gamma, lam),
        q + _sums(reward + gamma * (1 - terminated) * after - q, ended, gamma * lam * shifted),
    )  # fmt: skip
    x = 300 * rand()
    yield close("rescaled values come back", returns.unscale(returns.rescale(x)), x, 1e-6)
    support = torch.linspace(-10, 10, 51, dtype=torch.float64)
    p = torch.rand(100, 51, generator=g, dtype=torch.float64).softmax(-1)
    p[0] = torch.nn.functional.one_hot(torch.tensor(50), 51)
    shift = torch.cat([one[:1, 0], 5 * torch.randn(99, generator=g, dtype=torch.float64)])
    projected = values.project(p, support, shift, 0.9 * torch.ones(100, dtype=torch.float64))
    yield close("the C51 projection keeps all mass", projected.sum(-1), p.sum(-1))
    mean = (p * (shift[:, None] + 0.9 * support).clamp(-10, 10)).sum(-1)
    yield close("the C51 projection keeps the mean", (projected * support).sum(-1), mean)
    a, b, std, wide = rand(), rand(), rand() / 2, rand() / 2
    normal = [distributions.Independent(distributions.Normal(m, s.exp()), 1) for m, s in ((a, std), (b, wide))]
    yield close("KL of Gaussians is torch's", dist.kl_gaussian(a, std, b, wide), distributions.kl_divergence(*normal))
    choice = [distributions.Categorical(logits=z) for z in (a, b)]
    yield close("KL of choices is torch's", dist.kl_choice(a, b), distributions.kl_divergence(*choice))
    z = 3 * rand()
    slope = torch.autograd.functional.jacobian(lambda v: torch.tanh(v).sum(0), z).diagonal(dim1=0, dim2=2)  # type: ignore[no-untyped-call]
    slope = 1 - torch.tanh(z).square() if slope.shape != z.shape else slope
    yield close("tanh's correction is log of its slope", dist.log_squash(z), slope.log().sum(-1), 1e-3)
    tree = Priorities(2, 30, 2, 0.6)
    random = np.random.default_rng(seed)
    tree.open(np.arange(30))
    rows, copies, _ = tree.draw(random, 40)
    tree.set(rows, copies, 5 * random.random(rows.shape) + 0.01)
    rows, copies, _ = tree.draw(random, 20_000)
    share = np.bincount(rows[0] * 2 + copies[0], minlength=60) / 20_000
    expected = tree.leaves[0, :60] / tree.leaves[0, :60].sum()
    yield close("replay is drawn in proportion to priority", torch.tensor(share), torch.tensor(expected), 2e-4)


def _sums(deltas: Tensor, ended: Tensor, keep: Tensor) -> Tensor:
    """sum over k of the product of `keep` between t and k, times delta k, up to the episode's end: by brute force."""
    out = torch.zeros_like(deltas)
    for t in range(len(deltas)):
        weight = torch.ones_like(deltas[0])
        for k in range(t, len(deltas)):
            out[t] += weight * deltas[k]
            weight = weight * keep[k] * (1 - ended[k])
    return out


# A preset's own.


def tiny(cls: type[Learner[Any]], config: Any, **more: Any) -> Any:
    """The config at a size that learns in seconds."""
    given = {name: getattr(config, name) for name in config.model_fields_set}
    fields = cls.Config.model_fields
    small: dict[str, Any] = {
        "hidden": (32, 32), "envs": 4, "play": 8, "batch": 32, "learning_starts": 64, "replay": 4000, "epochs": 4,
        "updates": 4, "length": 6, "burn_in": 2,
    }  # fmt: skip
    whole = {
        **given,
        **{k: v for k, v in small.items() if k in fields},
        **{k: v for k, v in more.items() if k in fields},
    }
    return cls.Config(**whole)


def rounds(learner: Learner[Any], budget: float) -> dict[str, Any]:
    """Play and learn for `budget` steps; what the last round logged."""
    logs: dict[str, Any] = {}
    while learner._clock < budget:
        logs = dict(learner.step(None, learner._step))
        learner._step += 1
        learner._clock += float(logs["env_steps"])
    return logs


def gradient(cls: type[Learner[Any]], config: Any) -> Check:
    """An update moves the weights against the loss's gradient: each loss's slope along it beside finite differences."""
    seed_everything(0)
    learner = cls(tiny(cls, config, budget=100_000.0), None)  # type: ignore[arg-type]
    rounds(learner, 200)
    found: list[float] = []
    update = learner.update

    def watched(name: Any, loss: Tensor) -> None:
        names = (name,) if isinstance(name, str) else tuple(name)
        slopes = torch.autograd.grad(loss, learner.weights(names), retain_graph=True, allow_unused=True)
        found.append(sum(float(s.square().sum()) for s in slopes if s is not None))
        update(name, loss)

    learner.update = watched  # type: ignore[method-assign]
    rounds(learner, learner._clock + 64)
    fine = bool(found) and all(np.isfinite(found)) and max(found) > 0
    return Check(
        "losses reach the weights",
        fine,
        f"{len(found)} updates, squared slopes {min(found, default=0):.1e} to {max(found, default=0):.1e}",
    )


def resumes(cls: type[Learner[Any]], config: Any) -> Check:
    """A learner that takes up another's state learns on to the same bits."""

    def state(learner: Learner[Any]) -> dict[str, Any]:
        return {n: {k: v.clone() for k, v in net.state_dict().items()} for n, net in learner.nets().items()}

    seed_everything(0)
    small = tiny(cls, config, budget=100_000.0)
    one = cls(small, None)  # type: ignore[arg-type]
    rounds(one, 160)
    tree = copy.deepcopy(checkpoint.gather(one))
    with tempfile.TemporaryDirectory() as folder:
        tree["folder"] = Path(folder)
        for name, part in one.state().items():
            if isinstance(part, Stored):
                (Path(folder) / name).mkdir()
                part.write(Path(folder) / name, None)
        step, clock = one._step, one._clock
        rounds(one, clock + 128)
        seed_everything(1)
        two = cls(small, None)  # type: ignore[arg-type]
        checkpoint.restore(two, tree)
    two._step, two._clock = step, clock
    rounds(two, clock + 128)
    mine, theirs = state(one), state(two)
    wrong = [f"{n}.{k}" for n in mine for k in mine[n] if not torch.equal(mine[n][k], theirs[n][k])]
    return Check(
        "a resumed run has the same bits",
        not wrong,
        f"{sum(len(m) for m in mine.values())} tensors, {len(wrong)} differ",
    )


PROBED = {"control": 6000.0, "search": 6000.0}
"""Steps of play in the first probe, where 2,000 do not do: MPO moves within its bounds."""


REMEMBERED = {"value": 8000.0, "policy": 6000.0}
"""Steps of play in the probe that asks for what was seen before."""


def probes(cls: type[Learner[Any]], config: Any) -> Iterator[Check]:
    """Tiny environments: the best return, where the right action depends on what is seen; and the value of an episode
    that is cut off, which is that of going on (an algorithm that takes a time limit for an end learns another)."""
    real = cls.family == "control" and (config.actor != "squashed" or config.atoms > 1)
    name = "probe:both-box" if real else "probe:both"
    learner = _taught(cls, config, name, PROBED.get(cls.family, 2000.0))
    with undisturbed(learner):
        played = play(learner.net, name, 1, 20, 0)
    mean = float(np.mean([total for total, _, _ in played.values()]))
    yield Check(f"{name} is learned", mean >= 0.9, f"greedy return {mean:.2f}, best 1")
    if cls.family not in ("value", "policy"):
        return
    if config.memory != "none":
        learner = _taught(cls, config, "probe:memory", REMEMBERED[cls.family])
        with undisturbed(learner):
            played = play(learner.net, "probe:memory", 1, 20, 0)
        mean = float(np.mean([total for total, _, _ in played.values()]))
        yield Check("probe:memory is learned", mean >= 0.9, f"greedy return {mean:.2f}, best 1, without memory 0")
    (known,) = VALUES["truncation"]
    gamma = 0.8
    learner = _taught(cls, config, "probe:truncation", 3000.0, gamma=gamma, v_max=10.0)
    seen = {"vector": torch.tensor([[known.observation]])}
    with undisturbed(learner):
        extras = learner.net.greedy(seen, learner.net.start(1, 1)).extras
    worth = float(extras["q"].max() if "q" in extras else extras["value"][..., 0])
    right = known.value(gamma)
    wrong = known.reward / (1 - gamma * (1 - 1 / CUT))
    fine = abs(worth - right) < 0.5 * abs(right - wrong)
    yield Check(
        "truncation is not termination", fine, f"value {worth:.2f}; right {right:.2f}, taken for an end {wrong:.2f}"
    )


def _taught(cls: type[Learner[Any]], config: Any, env: str, budget: float, **more: Any) -> Learner[Any]:
    """A learner after a budget of play in a tiny environment."""
    seed_everything(0)
    plain = {"lr": 3e-3, "schedule": "constant", "rescaled": False, "bonus": 0.0, "n_step": 1}
    plain |= {"eps_mean": 0.1, "eps_spread": 0.01, "simulations": 8}
    plain |= {"target_every": 16} if cls.family == "value" else {}
    learner = cls(tiny(cls, config, env=env, budget=budget, **{**plain, **more}), None)  # type: ignore[arg-type]
    rounds(learner, budget)
    return learner


SHORT = {"value": 30_000.0, "policy": 30_000.0, "control": 20_000.0, "search": 10_000.0}
"""Steps of a short run: enough that it has learned something which a fault would lose."""


def curve(preset: str, cls: type[Learner[Any]], config: Any) -> dict[str, Any]:
    """A short run's training return at its end, of three seeds: what is stored, and compared."""
    seed_everything(0)
    steps = SHORT[cls.family]
    small = config.model_copy(update={"seeds": 3, "budget": steps})
    learner = cls(small, None)  # type: ignore[arg-type]
    rounds(learner, steps)
    recent = [float(np.mean([total for total, _ in episodes])) for episodes in learner.actor.recent if episodes]
    return {"env": config.env, "steps": steps, "returns": [round(value, 2) for value in recent]}


def stored() -> dict[str, Any]:
    """The stored curves by preset."""
    path = files("daybreak.systems.rl") / CURVES
    return json.loads(path.read_text()) if path.is_file() else {}


def regression(preset: str, cls: type[Learner[Any]], config: Any) -> Check:
    """A short run beside the stored one: its mean within three standard errors, or better."""
    known = stored().get(preset)
    if known is None:
        return Check(
            "a short run is where it was", False, f"no curve of {preset} is stored; `rl verify {preset} --record`"
        )
    got, was = curve(preset, cls, config)["returns"], known["returns"]
    spread = 3 * float(np.sqrt(np.var(was, ddof=1) / len(was) + np.var(got, ddof=1) / len(got))) + 1e-6
    gap = float(np.mean(got) - np.mean(was))
    after = f"after {known['steps']:.0f} steps of {known['env']}"
    told = f"training return {np.mean(got):.1f} {after}; stored {np.mean(was):.1f} ± {spread:.1f}"
    return Check("a short run is where it was", gap >= -spread, told)


def checks(preset: str, quick: bool) -> Iterator[Check]:
    """All checks of a preset; `quick` leaves out the short run."""
    cls, config = family_of(preset)
    yield gradient(cls, config)
    yield resumes(cls, config)
    yield from probes(cls, config)
    if not quick:
        yield regression(preset, cls, config)


def verify(preset: str = "all", /, *, quick: bool = False, record: bool = False) -> None:
    """Hold presets against mathematics, known values and stored curves; print a page of ticks.

    Args:
        preset: a preset or a mix; "all" takes every preset.
        quick: leave out the short run beside the stored curve.
        record: store the short run's curve instead of comparing with it.
    """
    names = presets() if preset == "all" else [preset]
    for name in names:
        family_of(name)  # a wrong name is told before anything is measured
    if record:
        known = stored()
        for name in names:
            known[name] = curve(name, *family_of(name))
            print(f"{name}: {known[name]}")
        target = files("daybreak.systems.rl") / CURVES
        with open(str(target), "w") as file:
            file.write(json.dumps(known, indent=1, sort_keys=True) + "\n")
        return
    wrong = _page("mathematics", mathematics())
    for name in names:
        wrong += _page(name, checks(name, quick))
    if wrong:
        raise UserError(f"verify: {wrong} checks failed")


def _page(title: str, found: Iterator[Check]) -> int:
    """Print the checks under a title; how many failed."""
    print(title)
    wrong = 0
    for check in found:
        wrong += not check.fine
        print(f"  {'✓' if check.fine else '✗'} {check.name}: {check.told}", flush=True)
    return wrong
