"""Comparisons keep their promises: intervals cover, words say no more than the numbers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daybreak.errors import UserError
from daybreak.lab.compare import SHARE, Goal, Interval, Scores, holm, paired, seeds, shares, t_cdf, t_quantile, words
from daybreak.lab.recipe import Score, mean

LOWER = Goal("nll", "lower", "nats/token")


def scored(values: np.ndarray, each: int = 2, prefix: str = "item") -> Scores:
    return Scores(
        tuple(f"{prefix}{i}" for i in range(len(values))),
        tuple(f"song{i // each}" for i in range(len(values))),
        np.asarray(values, float),
    )


def drawn(rng: np.random.Generator, groups: int, kind: str) -> Scores:
    """Differences of items in groups of one to four, whose mean over a whole population is zero."""
    sizes = rng.integers(1, 5, groups)
    shared = {
        "normal": rng.normal(0, 1, groups),
        "skewed": rng.exponential(1, groups) - 1,
        "heavy": rng.standard_t(3, groups),
    }[kind]
    values = np.repeat(shared, sizes) + rng.normal(0, 0.5, sizes.sum())
    return Scores(
        tuple(f"i{n}" for n in range(len(values))),
        tuple(f"g{n}" for n in np.repeat(np.arange(groups), sizes)),
        values,
    )


@pytest.mark.parametrize("kind", ["normal", "skewed", "heavy"])
def test_the_interval_covers_the_truth_as_often_as_it_says(kind: str) -> None:
    rng = np.random.default_rng(4)
    runs, covered = 300, 0
    for seed in range(runs):
        a = drawn(rng, 20, kind)
        b = Scores(a.items, a.groups, np.zeros(len(a)))
        found = paired(a, b, LOWER, resamples=1000, seed=seed)
        covered += found.low <= 0 <= found.high
    # Three binomial standard errors of 300 runs are 3.8 %; skew costs a little more.
    assert 0.91 <= covered / runs <= 0.985


def test_the_interval_over_seeds_covers_the_truth_with_three_seeds_a_side() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(300):
        items = np.repeat(rng.normal(0, 0.3, 20), 2)
        a = [scored(items + rng.normal(0, 0.2) + rng.normal(0, 0.3, 40)) for _ in range(3)]
        b = [scored(rng.normal(0, 0.2) + rng.normal(0, 0.3, 40)) for _ in range(3)]
        found = seeds(a, b, LOWER)
        covered += found.low <= 0 <= found.high
    assert covered / 300 >= 0.93


@given(sizes=st.lists(st.integers(1, 4), min_size=2, max_size=8), seed=st.integers(0, 9))
def test_the_shares_in_a_mean_are_the_means_of_the_groups(sizes: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=sum(sizes))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    rows = [Score(str(n), str(g), {"x": v}) for n, (g, v) in enumerate(zip(groups, values, strict=True))]
    expected = [values[groups == g].mean() for g in groups]
    np.testing.assert_allclose(shares(rows, mean("x")), expected, atol=1e-9)


def test_the_shares_in_a_figure_that_jumps_still_have_it_as_their_mean() -> None:
    def over_tags(rows: list[Score]) -> float:  # a tag counts from its second item on
        tags = [[row.values["_x"] for row in rows if row.values["_tag"] == tag] for tag in range(6)]
        return float(np.mean([np.mean(values) ** 2 for values in tags if len(values) > 1]))

    rng = np.random.default_rng(4)
    rows = [
        Score(str(n), str(n // 3), {"_x": float(rng.normal(n % 7)), "_tag": float(tag)})
        for n, tag in enumerate([0] * 20 + [1] * 15 + [2] * 2 + [3] * 2 + [4] * 2 + [5])
    ]
    assert np.mean(shares(rows, over_tags)) == pytest.approx(over_tags(rows))


def test_the_interval_of_a_figure_that_is_no_mean_covers_its_truth() -> None:
    def correlation(rows: list[Score]) -> float:
        return float(np.corrcoef([row.values["_x"] for row in rows], [row.values["_y"] for row in rows])[0, 1])

    rng = np.random.default_rng(2)
    runs, covered = 200, 0
    for seed in range(runs):
        group = np.repeat(np.arange(40), 3)
        x, y, z = (rng.normal(size=40)[group] + 0.3 * rng.normal(size=120) for _ in range(3))
        sides = []
        for other in (0.6 * x + 0.8 * y, 0.6 * x + 0.8 * z):  # equally near to x, each by its own chance
            rows = [Score(str(n), str(g), {"_x": float(x[n]), "_y": float(other[n])}) for n, g in enumerate(group)]
            told = shares(rows, correlation)
            sides.append([Score(r.item, r.group, {SHARE + "r": v}) for r, v in zip(rows, told, strict=True)])
        found = paired(sides[0], sides[1], Goal("r", "higher"), resamples=1000, seed=seed)
        covered += found.low <= 0 <= found.high
    assert 0.9 <= covered / runs <= 0.995


def test_groups_not_items_are_resampled() -> None:
    rng = np.random.default_rng(1)
    shared = np.repeat(rng.normal(0.1, 1, 12), 20)
    zero = np.zeros(len(shared))
    by_song = paired(scored(shared, 20), scored(zero, 20), LOWER)
    by_item = paired(scored(shared, 1), scored(zero, 1), LOWER)
    assert by_song.groups == 12
    assert by_song.half > 3 * by_item.half


def test_the_same_comparison_gives_the_same_bits() -> None:
    rng = np.random.default_rng(2)
    a, b = scored(rng.normal(size=60)), scored(rng.normal(size=60))
    assert paired(a, b, LOWER) == paired(a, b, LOWER)


def test_swapping_the_sides_swaps_the_sign_and_the_verdict() -> None:
    rng = np.random.default_rng(3)
    b = rng.normal(2, 0.5, 60)
    a = b - 0.1 + rng.normal(0, 0.05, 60)
    one, two = paired(scored(a), scored(b), LOWER), paired(scored(b), scored(a), LOWER)
    assert (one.verdict, two.verdict) == ("better", "worse")
    assert one.difference == pytest.approx(-two.difference)
    assert one.low == pytest.approx(-two.high, abs=0.01)


def test_direction_is_the_metrics() -> None:
    b = np.random.default_rng(3).normal(2, 0.5, 60)
    a = b - 0.1 + np.random.default_rng(4).normal(0, 0.05, 60)
    assert paired(scored(a), scored(b), Goal("accuracy", "higher")).verdict == "worse"


def test_p_agrees_with_the_interval() -> None:
    rng = np.random.default_rng(8)
    for shift in np.linspace(-0.5, 0.5, 21):
        a = scored(rng.normal(shift, 1, 50))
        found = paired(a, scored(np.zeros(50)), LOWER, resamples=999)
        assert (found.p <= 0.05) == (found.verdict != "undecided")


def test_items_are_matched_by_name_and_the_rest_is_counted() -> None:
    a = scored(np.arange(20.0))
    b = Scores((*reversed(a.items[2:]), "other"), (*reversed(a.groups[2:]), "song9"), np.append(a.values[:1:-1], 5.0))
    found = paired(a, b, LOWER)
    assert (found.difference, found.items, found.left_out) == (0.0, 18, 3)


def test_a_score_that_is_not_finite_is_left_out_and_said() -> None:
    values = np.random.default_rng(0).normal(size=20)
    broken = values.copy()
    broken[3] = math.nan
    broken[5] = math.inf
    found = paired(scored(broken), scored(values), LOWER)
    assert found.left_out == 2
    assert "2 items without a score on both sides left out" in words(found)


def test_equal_scores_show_no_difference() -> None:
    values = np.random.default_rng(0).normal(size=20)
    found = paired(scored(values), scored(values), LOWER)
    assert (found.difference, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)
    assert words(found).startswith("no difference shown")


def test_four_groups_are_too_few_for_a_verdict() -> None:
    found = paired(scored(np.ones(8)), scored(np.zeros(8)), LOWER)
    assert found.verdict == "undecided"
    assert words(found).startswith("no difference shown: 4 groups are too few")


def test_many_groups_give_the_interval_of_theory() -> None:
    values = np.random.default_rng(1).normal(0.1, 1, 5000)
    found = paired(scored(values, 1), scored(np.zeros(5000), 1), LOWER, resamples=2000)
    assert found.groups == 5000
    assert found.half == pytest.approx(1.96 / math.sqrt(5000), rel=0.1)


def test_nothing_in_common_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="none in common"):
        paired(scored(np.zeros(8)), scored(np.zeros(8), prefix="other"), LOWER)


def test_two_seeds_are_not_enough_and_said_so() -> None:
    runs = [scored(np.zeros(20))] * 2
    with pytest.raises(UserError, match="3 runs or more on each side, not 2 and 2"):
        seeds(runs, runs, LOWER)


def test_rows_of_a_run_are_read_as_objects_or_mappings() -> None:
    rows = [{"item": "a", "group": "g", "values": {"nll": "NaN"}}, {"item": "b", "group": "g", "values": {"x": 1.0}}]
    found = Scores.of(rows, "nll")
    assert found.items == ("a",)
    assert math.isnan(found.values[0])


def test_the_words_are_the_designs() -> None:
    better = Interval(-0.041, -0.053, -0.029, 1e-4, 0.95, 96, 40, "lower", "nats/token")
    assert words(better) == (
        "these weights are better on these items: -0.041 ±0.012 nats/token over 96 items in 40 groups; one seed"
    )
    unsure = Interval(-0.041, -0.1, 0.02, 0.2, 0.95, 96, 40, "lower", "nats/token")
    assert words(unsure) == "no difference shown: -0.041 ±0.060 nats/token over 96 items in 40 groups; one seed"
    change = Interval(0.02, 0.01, 0.03, 1e-3, 0.95, 96, 40, "lower", seeds=(3, 4))
    assert words(change) == "the change is worse: +0.020 ±0.010 over 96 items in 40 groups; 3 and 4 seeds"
    many = words(better, corrected=0.2, of=12)
    assert many.startswith("no difference shown once corrected for 12 comparisons (p 0.2)")


def test_holm_on_its_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_never_lowers_a_p_and_keeps_their_order(p: list[float]) -> None:
    corrected = holm(p)
    assert all(a >= b for a, b in zip(corrected, p, strict=True))
    order = np.argsort(p, kind="stable")
    assert all(corrected[i] <= corrected[j] for i, j in itertools.pairwise(order))


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.7062), (2, 4.30265), (4, 2.77645), (10, 2.22814), (30, 2.04227), (1e6, 1.95997)]
)
def test_students_t_is_that_of_the_tables(freedom: float, quantile: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(quantile, rel=1e-5)
    assert t_cdf(quantile, freedom) == pytest.approx(0.975, abs=1e-6)
    assert t_cdf(-quantile, freedom) == pytest.approx(0.025, abs=1e-6)
