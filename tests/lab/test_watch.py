"""Detectors keep their promises: each fault is found and explained, a healthy run raises nothing."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daybreak.lab.compare import Goal, Scores
from daybreak.lab.home import Lab
from daybreak.lab.recipe import Config, Gate, Metric
from daybreak.lab.run import Run
from daybreak.lab.watch import Finding, Record, Series, Window, watch

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.curves import FAULTS, laws

STEPS = 2000
AT = np.arange(1, STEPS + 1)


def learning(seed: int = 0, scale: float = 0.1) -> np.ndarray:
    return 2 + 3 * AT**-0.3 + scale * np.random.default_rng(seed).standard_t(4, STEPS)


def windows(count: int = 40, step_ms: float = 50.0, wait: float = 0.01) -> tuple[Window, ...]:
    each = STEPS // count
    train = each * step_ms / 1000
    rng = np.random.default_rng(1)
    return tuple(
        Window((n + 1) * each, each, train, train * wait, step_ms * (1 + 0.01 * rng.normal()), 900.0, 50_000.0)
        for n in range(count)
    )


def record(loss: np.ndarray | None = None, **changed: Any) -> Record:
    held: dict[str, Any] = {
        "run": "music:small#42", "number": 42, "planned": STEPS, "goal": Goal("note NLL", "lower", "nats"),
        "train": {"loss": Series(AT, learning() if loss is None else loss), "lr": Series(AT, np.full(STEPS, 1e-2))},
        "config": {"lr": 1e-2, "steps": STEPS, "clip": 0.0, "loaders": 0, "net": {"dropout": 0.1}},
        "recipe": "music:compose", "windows": windows(),
    }  # fmt: skip
    return Record(**(held | changed))


def goal(values: np.ndarray) -> dict[str, Series]:
    return {"note NLL": Series(np.linspace(0, STEPS, len(values)).astype(int), values)}


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, [f.text for f in found]
    return found[0]


def test_a_healthy_run_raises_nothing() -> None:
    assert watch(record(), previous=record()) == []


def test_an_empty_record_raises_nothing() -> None:
    assert watch(Record()) == []


def test_one_value_that_is_not_finite_is_found_and_named() -> None:
    loss = learning()
    loss[1233] = math.nan
    found = only(watch(record(loss)))
    assert (found.kind, found.step, found.weight) == ("non-finite", 1234, "alarm")
    assert found.text == "loss is not finite from step 1,234, in 1 of 2,000 values"


def test_a_figure_that_is_not_defined_on_the_items_is_no_broken_run() -> None:
    run = record()
    steps = np.array([0, 1000, STEPS])
    kept = {**run.validation, "loss": Series(steps, np.array([3.0, 2.0, 1.5]))}
    part = {**kept, "AP": Series(steps, np.array([math.nan, 0.5, 0.6]))}
    found = only(watch(replace(run, validation=part)))
    assert (found.kind, found.step, found.weight, found.next) == ("undefined", 0, "warn", None)
    assert found.text.startswith(
        "validation/AP is not finite from step 0, in 1 of 3 values; the rest of the evaluation"
    )
    whole = {name: Series(steps, np.array([3.0, 2.0, math.nan])) for name in ("loss", "AP")}
    assert only(watch(replace(run, validation=whole))).kind == "non-finite"


def test_a_gradient_norm_that_is_not_finite_is_found_too() -> None:
    norm = np.ones(STEPS)
    norm[10] = math.inf
    run = record()
    run = replace(run, train={**run.train, "norm/main": Series(AT, norm)})
    assert only(watch(run)).text.startswith("norm/main is not finite from step 11")


def test_divergence_is_dated_and_goes_back_to_the_parents_rate() -> None:
    loss = np.where(AT > 1200, learning() + 3 * (1 - np.exp(-(AT - 1200) / 50)), learning())
    found = only(watch(record(loss, difference={"lr": [3e-4, 1e-2]})))
    assert found.kind == "divergence"
    assert found.step is not None
    assert abs(found.step - 1200) <= 40
    assert found.next == ("tonight", "add", "music:small", "--from", "42", "--lr", "0.0003")


def test_divergence_without_a_parent_proposes_a_third_of_the_rate() -> None:
    loss = np.where(AT > 1200, 6.0, learning()) + 0.01 * np.random.default_rng(0).normal(size=STEPS)
    found = only(watch(record(loss)))
    assert found.next is not None
    assert found.next[-2:] == ("--lr", "0.0033")


def test_a_loss_that_rises_while_the_goal_is_at_its_best_is_no_divergence() -> None:
    loss = np.where(AT > 1200, learning() + 3 * (1 - np.exp(-(AT - 1200) / 50)), learning())
    assert "divergence" not in [f.kind for f in watch(record(loss, validation=goal(np.linspace(5, 1, 20))))]


def test_standing_still_is_found_and_proposes_a_search() -> None:
    loss = 2.3 + 0.1 * np.random.default_rng(0).normal(size=STEPS)
    found = only(watch(record(loss, validation=goal(np.full(10, 2.3)))))
    assert found.kind == "not learning"
    assert found.next is not None
    assert found.next[-4:] == ("--lr", "log(0.00033,0.3)", "--trials", "6")


def test_a_goal_that_improves_is_learning_whatever_the_loss_does() -> None:
    loss = 2.3 + 0.1 * np.random.default_rng(0).normal(size=STEPS)
    assert "not learning" not in [f.kind for f in watch(record(loss, validation=goal(np.linspace(3, 1, 10))))]


def test_spikes_name_their_steps_and_the_items_of_their_batches() -> None:
    loss = learning()
    places = [500, 700, 900, 1100, 1300]
    loss[places] += 5
    # Batches of four of 800 items in their order: the corrupt one is met every 200 steps.
    found = only(watch(record(loss), items=lambda index: [f"item{(4 * index + n) % 800}" for n in range(4)]))
    assert found.kind == "spikes"
    assert found.evidence["steps"] == [p + 1 for p in places]
    assert "item400 (5 of 5)" in found.text
    assert found.next is not None
    assert found.next[-2:] == ("--clip", "1")


def test_three_spikes_are_nothing_yet() -> None:
    loss = learning()
    loss[[500, 900, 1300]] += 5
    assert watch(record(loss)) == []


def test_over_fitting_proposes_fewer_steps_and_more_dropout() -> None:
    at = np.linspace(0, 1, 21)
    values = 2.2 + 2 * np.exp(-8 * at) + np.clip(at - 0.4, 0, None) + 0.01 * np.random.default_rng(0).normal(size=21)
    found = only(watch(record(validation=goal(values))))
    assert found.kind == "over-fitting"
    assert found.step is not None
    assert 600 <= found.step <= 1000
    assert found.next == (
        "tonight", "add", "music:small", "--from", "42", "--net.dropout", "0.2", "--steps", str(found.step),
    )  # fmt: skip


def test_over_fitting_of_a_metric_where_higher_is_better() -> None:
    at = np.linspace(0, 1, 21)
    values = 0.9 - 0.8 * np.exp(-8 * at) - 0.3 * np.clip(at - 0.4, 0, None)
    run = record(validation={"accuracy": Series((STEPS * at).astype(int), values)}, goal=Goal("accuracy", "higher"))
    assert only(watch(run)).kind == "over-fitting"


def test_dropout_is_proposed_only_where_the_config_has_it() -> None:
    at = np.linspace(0, 1, 21)
    values = 2.2 + 2 * np.exp(-8 * at) + np.clip(at - 0.4, 0, None)
    found = only(watch(record(validation=goal(values), config={"lr": 1e-2, "steps": STEPS})))
    assert found.next == ("tonight", "add", "music:small", "--from", "42", "--steps", str(found.step))


def test_a_plateau_says_where_the_run_could_have_stopped() -> None:
    loss = 2 + 3 * np.exp(-AT / 100) + 0.05 * np.random.default_rng(0).normal(size=STEPS)
    found = only(watch(record(loss)))
    assert found.kind == "plateau"
    assert found.text.startswith(f"could have stopped at step {found.step:,} of 2,000")
    assert found.next is not None
    assert found.next[-2:] == ("--steps", str(found.step))


def test_waiting_for_data_is_found_except_in_the_first_window() -> None:
    stalled = record(windows=windows(wait=0.6))
    found = only(watch(stalled))
    assert found.kind == "data stall"
    assert found.text.startswith("waited for data 58.5 s of 156 s (38 %)") or "waited for data" in found.text
    assert found.next is not None
    assert found.next[-2:] == ("--loaders", "2")
    first = (replace(windows()[0], wait_s=60.0), *windows()[1:])
    assert watch(record(windows=first)) == []


def test_slower_than_before_only_on_the_same_recipe_hardware_and_size() -> None:
    slow = record(windows=windows(step_ms=70.0))
    assert only(watch(slow, previous=record())).kind == "slower"
    assert watch(slow, previous=record(hardware={"cpu": "another"})) == []
    assert watch(slow, previous=record(recipe="music:other")) == []
    assert watch(slow, previous=record(config={**record().config, "layers": 4})) == []


def test_slowing_inside_a_run_is_dated() -> None:
    slow = tuple(replace(w, step_ms=w.step_ms * (1.6 if w.step > 1000 else 1)) for w in windows())
    found = only(watch(record(windows=slow)))
    assert (found.kind, found.step) == ("slowing", 1050)


def test_memory_that_reaches_its_limit_before_the_end_is_an_alarm_while_the_run_lives() -> None:
    growing = tuple(replace(w, rss_mb=1000 + 2.0 * w.step) for w in windows())
    live = record(windows=growing, state="running", planned=10_000, memory_mb=16_000.0)
    found = only(watch(live))
    assert found.kind == "memory"
    assert found.evidence["reaches"] == 7500
    assert watch(replace(live, memory_mb=32_000.0)) == []
    assert watch(replace(live, state="finished")) == []


def test_a_disk_that_fills_before_the_end_is_an_alarm() -> None:
    filling = tuple(replace(w, disk_mb=50_000 - 20.0 * w.step) for w in windows())
    assert only(watch(record(windows=filling, state="running", planned=10_000))).kind == "disk"


def scores(shift: float) -> Scores:
    rng = np.random.default_rng(0 if shift == 0 else 1)
    values = np.random.default_rng(2).normal(2, 0.5, 80) + shift + 0.1 * rng.normal(size=80)
    return Scores(tuple(f"i{n}" for n in range(80)), tuple(f"g{n // 2}" for n in range(80)), values)


def test_worse_than_the_best_is_told_with_its_interval() -> None:
    best = record(run="music:small#41", number=41, scores={STEPS: scores(0.0)})
    found = only(watch(record(scores={STEPS: scores(0.3)}), best=best))
    assert found.kind == "regression"
    difference = float((scores(0.3).values - scores(0.0).values).mean())
    assert f"these weights are worse on these items: +{difference:.3g} " in found.text
    assert "at 99.5 %" in found.text
    assert watch(record(scores={STEPS: scores(-0.3)}), best=best) == []


def test_a_run_that_stopped_early_is_held_against_the_best_at_equal_steps_only() -> None:
    best = record(run="music:small#41", number=41, scores={1000: scores(0.3), STEPS: scores(0.0)})
    early = record(scores={1000: scores(0.3)}, state="deadline")
    assert watch(early, best=best) == []
    assert watch(replace(early, scores={900: scores(0.3)}), best=best) == []


def test_gates_that_are_all_reached_are_good_news() -> None:
    gate = Gate(Metric("note NLL", "lower", "nats"), 2.5)
    run = record(validation=goal(np.linspace(4, 2.4, 10)))
    found = only(watch(run, gates=[gate]))
    assert (found.weight, found.next) == ("good", ("registry", "add", "42"))
    assert watch(run, gates=[gate, Gate(Metric("note NLL", "lower"), 2.0)]) == []


def test_alarms_come_first() -> None:
    loss = learning()
    loss[1500] = math.inf
    found = watch(record(loss, windows=windows(wait=0.6)))
    assert [f.weight for f in found] == ["alarm", "warn"]


def test_evidence_is_plain_json() -> None:
    loss = learning()
    loss[[500, 900, 1300, 1500]] += 5
    for finding in watch(record(loss, windows=windows(wait=0.6)), items=lambda index: ["a"]):
        json.dumps(dict(finding.evidence), allow_nan=False)


def written(tmp_path: Path) -> Run:
    goal = {"name": "note NLL", "better": "lower", "unit": "nats"}
    run = Run.create(Lab.open(tmp_path / "lab"), recipe="music:compose", preset="small", config=Config(), goal=goal)
    with open(run.path / "metrics.jsonl", "w") as file:
        file.write('{"step": 0, "validation/note NLL": 5.0}\n')
        for step in range(1, 101):
            file.write(json.dumps({"step": step, "loss": 3.0 / step, "lr": 1e-3, "norm/main": 1.0}) + "\n")
        file.write(
            '{"step": 100, "loss": "NaN", "lr": 0.001}\n{"step": 100, "validation/note NLL": 4.0}\n{"step": 101, "lo'
        )
    with open(run.path / "scores.jsonl", "w") as file:
        for step, item in [(0, "a"), (0, "b"), (100, "a"), (100, "b"), (150, "a")]:
            line = {"step": step, "split": "validation", "item": item, "group": "g", "values": {"note NLL": 1.0}}
            file.write(json.dumps(line) + "\n")
    (run.path / "system.jsonl").write_text(
        '{"time": 1.0, "step": 50, "steps": 50, "train_s": 9.0, "wait_s": 1.0, "step_ms": null, "rss_mb": 900.0}\n'
    )
    return run


def test_a_crashed_runs_folder_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    found = Record.of(written(tmp_path))
    assert found.run == "music:small#1"
    assert len(found.loss) == 100
    assert math.isnan(found.loss.values[-1])
    assert found.reached.values.tolist() == [5.0, 4.0]
    assert sorted(found.scores) == [0, 100]  # 150 was not wholly evaluated
    assert math.isnan(found.windows[0].step_ms)
    assert found.goal == Goal("note NLL", "lower", "nats")
    assert only(watch(found)).kind == "non-finite"


def test_a_run_that_never_began_is_an_empty_record(tmp_path: Path) -> None:
    run = Run.create(Lab.open(tmp_path / "lab"), recipe="music:compose", config=Config())
    assert watch(Record.of(run)) == []


def test_watching_needs_no_torch() -> None:
    import subprocess

    code = "import sys, daybreak.lab.watch, daybreak.lab.compare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


LEAST = {"over-fitting": 0.85, "plateau": 0.85, "divergence": 0.92, "not learning": 0.92, "regression": 0.9}
"""Recall promised, less what a sample of forty may miss by chance; of the others every one is found."""


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_on_drawn_curves_are_found(fault: str) -> None:
    found = 0
    for case in laws.cases(fault, 40, 500):
        best = case.best if fault == "regression" else None
        found += fault in [f.kind for f in watch(case.record, case.previous, best)]
    assert found / 40 >= LEAST.get(fault, 1.0)


def test_healthy_drawn_curves_raise_hardly_any_alarm() -> None:
    raised = [kind for c in laws.cases("healthy", 150, 500) for kind in [f.kind for f in watch(c.record, c.previous)]]
    assert len(raised) <= 3, raised


def agent(returns: np.ndarray, **changed: Any) -> Record:
    """An agent's run: its losses rise as its returns do."""
    losses = Series(AT, np.linspace(1, 400, STEPS) + np.random.default_rng(2).normal(size=STEPS))
    return record(
        progress=Goal("episode return", "higher"), goal=Goal("return", "higher"),
        train={"loss": losses, "episode return": Series(3 * AT, returns)}, **changed,
    )  # fmt: skip


def test_where_a_recipe_names_what_measures_progress_a_rising_loss_is_no_fault() -> None:
    returns = 500 * (1 - np.exp(-AT / 900)) + 30 * np.random.default_rng(0).normal(size=STEPS)
    assert watch(agent(returns)) == []
    assert [f.kind for f in watch(replace(agent(returns), progress=Goal("loss")))] == ["divergence"]


def test_an_agent_that_forgot_that_never_learned_or_that_was_done_early_is_told_by_its_return() -> None:
    noise = 20 * np.random.default_rng(0).normal(size=STEPS)
    learned = 480 * (1 - np.exp(-AT / 150)) + noise
    forgot = only(watch(agent(np.where(AT > 1200, 90 + noise, learned))))
    assert forgot.kind == "divergence"
    assert forgot.text.startswith("diverged at about step 3,")  # its returns are logged every third step
    assert "the training episode return fell from 4" in forgot.text
    never = only(watch(agent(100 + noise)))
    assert never.kind == "not learning"
    assert "the training episode return went from" in never.text
    early = only(watch(agent(learned)))
    assert early.kind == "plateau"
    assert "the training episode return stayed at 47" in early.text


def test_an_agents_record_is_read_with_what_its_recipe_named(tmp_path: Path) -> None:
    run = Run.create(Lab.open(tmp_path), recipe="rl:policy", config=Config(), goal={"name": "return"})
    assert Record.of(run).progress == Goal("loss")  # it never began
    (run.path / "judged.json").write_text(
        json.dumps({"progress": {"name": "episode return", "better": "higher", "unit": ""}, "task": "CartPole-v1"})
    )
    with run.log() as log:
        log(1, {"loss": 1.0, "episode return": 20.0})
    found = Record.of(run)
    assert found.progress == Goal("episode return", "higher")
    assert found.training.values.tolist() == [20.0]
