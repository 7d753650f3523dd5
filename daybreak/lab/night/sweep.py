"""Sweeps: values written as `log(1e-4,1e-2)`, and the search over them.

The jobs of a sweep and what their runs scored are the only record: the study is made from them each time a trial needs
values or an evaluation comes in. This file knows search spaces and Optuna; it knows nothing about processes.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daybreak.errors import UserError

if TYPE_CHECKING:
    import optuna
    from pydantic import BaseModel

FORM = re.compile(r"\s*(log|uniform|int|one)\s*\((.*)\)\s*", re.DOTALL)
STARTUP = 4
"""Trials with scores before the median of the others may stop one."""


@dataclass(frozen=True)
class Trial:
    """What one trial was given and what it reached."""

    values: Mapping[str, Any]
    """Swept field -> value."""
    state: str
    """ "finished", "running", "pruned" or "failed"."""
    scores: Mapping[int, float] = field(default_factory=dict)
    """The goal's value by step, so far."""


def is_sweep(text: str) -> bool:
    """Whether a flag's value is a sweep."""
    return FORM.fullmatch(text) is not None


def parse(model: type[BaseModel], base: BaseModel, flag: str, text: str, where: str) -> dict[str, Any]:
    """A field's part of a search space: {"kind", "low", "high"} or {"kind": "one", "choices"}.

    Its ends, or its choices, are checked against the field. Raises `UserError`.
    """
    from daybreak.lab.config import build, flat

    match = FORM.fullmatch(text)
    if match is None:
        raise UserError(f"{where}: {text!r} is not log(A,B), uniform(A,B), int(A,B) or one(A,B,...)")
    kind, parts = match[1], [part.strip() for part in match[2].split(",")]
    shown = f"{where}: --{flag.replace('_', '-')} {text}"
    if "" in parts or (kind != "one" and len(parts) != 2):
        raise UserError(f"{shown}: {kind} takes {'values with commas between' if kind == 'one' else 'two numbers'}")
    values = [flat(build(model, {flag: [part]}, base, where).model_dump(mode="json"))[flag] for part in parts]
    if kind == "one":
        if len({str(value) for value in values}) < len(values):
            raise UserError(f"{shown}: a value stands there twice")
        return {"kind": "one", "choices": values}
    low, high = values
    if any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in values):
        raise UserError(f"{shown}: the field takes no number; one(A,B,...) works for it")
    if kind == "int" and not (float(low).is_integer() and float(high).is_integer()):
        raise UserError(f"{shown}: int takes whole numbers; uniform(A,B) takes others")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{shown}: the first number must be below the second")
    if kind == "log" and low <= 0:
        raise UserError(f"{shown}: log needs numbers above 0; uniform(A,B) takes others")
    whole = kind == "int" or (isinstance(low, int) and isinstance(high, int))
    return {"kind": "int" if whole else "float", "log": kind == "log", "low": low, "high": high}


def words(part: Mapping[str, Any]) -> str:
    """A field's part of a space as a person wrote it: "log(0.0001,0.01)"."""
    if part["kind"] == "one":
        return f"one({','.join(str(choice) for choice in part['choices'])})"
    kind = "log" if part["log"] else "int" if part["kind"] == "int" else "uniform"
    return f"{kind}({part['low']:g},{part['high']:g})"


def grid(space: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every combination of a space of choices."""
    names = list(space)
    return [
        dict(zip(names, values, strict=True)) for values in itertools.product(*(space[n]["choices"] for n in names))
    ]


def placed(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The config with values set at dotted names."""
    made = dict(config)
    for name, value in values.items():
        first, _, rest = name.partition(".")
        made[first] = placed(made[first], {rest: value}) if rest else value
    return made


def taken(config: Mapping[str, Any], space: Mapping[str, Any]) -> dict[str, Any]:
    """The swept fields' values in a config."""
    from daybreak.lab.config import flat

    held = flat(config)
    return {name: held[name] for name in space}


def ask(space: Mapping[str, Mapping[str, Any]], trials: Sequence[Trial], better: str, seed: int) -> dict[str, Any]:
    """Values for the next trial, from what the others reached. The same trials and seed give the same values."""
    study = _study(space, trials, better, seed)
    distributions = {name: _distribution(part) for name, part in space.items()}
    return {name: _given(space[name], value) for name, value in study.ask(distributions).params.items()}


def hopeless(
    space: Mapping[str, Mapping[str, Any]], trial: Trial, others: Sequence[Trial], better: str, startup: int = STARTUP
) -> bool:
    """Whether a trial's best score so far is worse than the median of the others at its step."""
    import optuna

    if not trial.scores:
        return False
    study = _study(space, others, better, 0)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=startup)
    return bool(pruner.prune(study, _frozen(space, trial)))


def needs_optuna(where: str) -> None:
    """Raise `UserError` where Optuna is not installed."""
    from importlib.util import find_spec

    if find_spec("optuna") is None:
        raise UserError(f"{where}: --trials needs Optuna: pip install 'daybreak[search]'")


def _study(
    space: Mapping[str, Mapping[str, Any]], trials: Sequence[Trial], better: str, seed: int
) -> optuna.study.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # A trial that runs counts as a bad one there, so that workers do not all try the same place.
    sampler = optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=STARTUP, constant_liar=True)
    study = optuna.create_study(direction="minimize" if better == "lower" else "maximize", sampler=sampler)
    study.add_trials([_frozen(space, trial) for trial in trials])
    return study


def _frozen(space: Mapping[str, Mapping[str, Any]], trial: Trial) -> optuna.trial.FrozenTrial:
    import optuna

    states = optuna.trial.TrialState
    last = trial.scores[max(trial.scores)] if trial.scores else math.nan
    known = {"finished": states.COMPLETE, "running": states.RUNNING, "pruned": states.PRUNED}
    state = known.get(trial.state, states.FAIL)
    if state == states.COMPLETE and not math.isfinite(last):
        state = states.FAIL
    return optuna.trial.create_trial(
        state=state,
        value=last if state == states.COMPLETE else None,
        params={name: _param(space[name], value) for name, value in trial.values.items()},
        distributions={name: _distribution(space[name]) for name in trial.values},
        # Before the first update every trial scores alike.
        intermediate_values={step: value for step, value in trial.scores.items() if step},
    )


def _distribution(part: Mapping[str, Any]) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if part["kind"] == "one":
        return CategoricalDistribution([str(value) for value in part["choices"]])
    if part["kind"] == "int":
        return IntDistribution(int(part["low"]), int(part["high"]), log=part["log"])
    return FloatDistribution(part["low"], part["high"], log=part["log"])


def _param(part: Mapping[str, Any], value: Any) -> Any:
    return str(value) if part["kind"] == "one" else value


def _given(part: Mapping[str, Any], param: Any) -> Any:
    """What a config holds for what the sampler said: numbers with four digits, which a person can read."""
    if part["kind"] == "one":
        return next(value for value in part["choices"] if str(value) == param)
    if part["kind"] == "int":
        return int(param)
    return min(max(float(f"{param:.4g}"), part["low"]), part["high"])
