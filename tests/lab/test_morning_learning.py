"""Learning curves over seeds: the middle half's mean, an interval that covers, and nothing where nothing was logged."""

from __future__ import annotations

import json

import numpy as np
import pytest
from nights import Night

from daybreak.lab.compare import Goal
from daybreak.lab.morning import write_morning
from daybreak.lab.morning.learning import interquartile, interval, learning
from daybreak.lab.watch import Record, Series

AT = np.arange(1, 1001)


def record(seeds: int, **more: np.ndarray) -> Record:
    random = np.random.default_rng(3)
    named = {f"return/seed-{k}": 100 + 10 * random.normal(size=len(AT)) for k in range(seeds)}
    series = {name: Series(AT, values) for name, values in {**named, **more}.items()}
    return Record(goal=Goal("return", "higher"), train=series, clock="env_steps", ticks=Series(AT, 8.0 * AT))


def test_one_seed_that_runs_away_moves_no_interquartile_mean() -> None:
    assert interquartile(np.array([[1.0], [2.0], [3.0], [1e9]])) == pytest.approx([2.5])
    assert interquartile(np.array([[1.0], [2.0], [6.0]])) == pytest.approx([3.0])


def test_the_interval_over_eight_seeds_covers_the_truth_as_often_as_small_samples_let_it() -> None:
    values = np.random.default_rng(0).normal(size=(8, 2000))
    held = [interval(values[:, start : start + 200]) for start in range(0, 2000, 200)]
    covered = np.concatenate([(low <= 0) & (high >= 0) for _, low, high in held])
    assert 0.85 < covered.mean() < 0.97


def test_a_curve_over_seeds_has_its_band_over_the_clock_and_one_seed_has_none() -> None:
    found = learning(record(5))
    assert found is not None
    assert (found.seeds, len(found.points), len(found.band)) == (5, 200, 200)
    assert found.points[-1][0] == 8000
    assert all(low <= y <= high for (_, y), (_, low, high) in zip(found.points, found.band, strict=True))
    alone = learning(record(0, **{"return": np.ones(len(AT))}))
    assert alone is not None
    assert (alone.seeds, alone.band) == (1, [])
    assert learning(record(0, loss=np.ones(len(AT)))) is None


def test_seeds_of_which_one_has_no_value_yet_begin_where_all_have_one() -> None:
    held = record(3)
    late = Series(AT[500:], np.full(500, 100.0))
    found = learning(Record(goal=held.goal, train={**held.train, "return/seed-2": late}))
    assert found is not None
    assert found.points[0][0] == 501


def test_the_page_draws_the_curves_of_training_with_their_interval_and_shows_the_videos(tmp_path) -> None:
    night = Night(tmp_path, sounds=0)
    run = night.run(1, goal={"name": "return", "better": "higher", "unit": ""}, end="crashed", at=500)
    (run.path / "metrics.jsonl").write_text(
        "".join(
            json.dumps({"step": int(step), **{f"return/seed-{k}": float(step + k) for k in range(4)}}) + "\n"
            for step in AT[:500]
        )
    )
    page = write_morning(night.lab, now=night.now).read_text()
    assert 'class="band ' in page
    assert "return while training; the interquartile mean over seeds, with its 95 % bootstrap interval shaded" in page
