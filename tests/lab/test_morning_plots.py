"""Pictures and figures: what is thinned keeps its spikes, what is written has no more digits than it may."""

from __future__ import annotations

import doctest
import math
import xml.etree.ElementTree as ET

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from daybreak.lab.morning import figures, plots
from daybreak.lab.morning.plots import Line, Mark, chart, columns, spark, stack, thin, weekly

numbers = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf])


def inside(svg, x0, x1, y0, y1):
    """Every coordinate of every path lies in the frame."""
    for path in ET.fromstring(svg).iter("path"):
        for word in path.get("d").replace("M", " M").replace("L", " L").split(" M"):
            for pair in word.replace("L", "").split("  "):
                if pair.strip():
                    x, y = map(float, pair.split()[:2])
                    assert x0 <= x <= x1
                    assert y0 <= y <= y1


def test_doctests():
    assert doctest.testmod(figures).failed == 0


@given(st.lists(numbers, min_size=1, max_size=3000))
def test_thinning_keeps_the_least_the_greatest_the_ends_and_the_limit(values):
    kept = thin(range(len(values)), values)
    assert len(kept) <= plots.MOST
    assert [x for x, _ in kept] == sorted({x for x, _ in kept})
    assert (kept[0][0], kept[-1][0]) == (0, len(values) - 1)
    finite = [v for v in values if math.isfinite(v)]
    shown = [y for _, y in kept if y is not None]
    if finite:
        assert min(shown) == float(f"{min(finite):.6g}")
        assert max(shown) == float(f"{max(finite):.6g}")
    assert any(y is None for _, y in kept) == any(not math.isfinite(v) for v in values)


def test_one_spike_among_a_hundred_thousand_points_is_kept():
    values = np.ones(100_000)
    values[77_777] = 9.0
    assert (77_777.0, 9.0) in thin(np.arange(100_000), values)


@given(st.lists(numbers, min_size=1, max_size=600), st.lists(numbers, min_size=1, max_size=60))
def test_a_chart_is_well_formed_whatever_the_numbers(one, two):
    lines = [Line("#1", thin(range(len(one)), one)), Line("#2", thin(range(len(two)), two), "grey")]
    drawn = chart(lines, label='<&">')
    assert "nan" not in drawn
    assert "inf" not in drawn.replace("infinity", "")
    if drawn:
        ET.fromstring(drawn)
    small = spark(lines[0].points, "better")
    if small:
        ET.fromstring(small)


def test_curves_stay_inside_the_frame():
    rng = np.random.default_rng(0)
    wild = np.exp(rng.normal(0, 4, 500))
    inside(chart([Line("#1", thin(range(500), wild))], label="x", width=430, height=220), 40, 400, 12, 194)


def test_a_run_that_ran_away_does_not_press_the_others_flat():
    steps = np.arange(1, 1001)
    calm = 2 + 3 / np.sqrt(steps)
    wild = np.where(steps < 800, calm, calm + np.exp((steps - 800) / 10))
    low, high = plots.scale([thin(steps, calm), thin(steps, calm), thin(steps, wild)])
    assert low < 2.1
    assert high < 6


def test_a_mark_is_a_link_to_the_text_that_explains_it():
    points = thin(range(100), np.linspace(3, 1, 100))
    drawn = chart([Line("#1", points, "worse", [Mark(50, "1", "finding-1-1")])], label="x")
    link = next(ET.fromstring(drawn).iter("a"))
    assert link.get("href") == "#finding-1-1"


def test_names_are_escaped_in_every_picture():
    evil = '"><script>x</script>'
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
    for drawn in (
        chart([Line(evil, points, "worse", [Mark(1, evil, evil)])], label=evil, x=evil),
        stack([(evil, 1.0)], 1.0, evil),
        columns([evil], [[(evil, 1)]], evil),
        weekly([evil], [(0.0, 1.0)], evil),
    ):
        assert "<script" not in drawn
        ET.fromstring(drawn)


def test_figures_have_no_more_digits_than_their_interval_supports():
    assert figures.decimals([1.7012], [0.0123]) == 3
    assert figures.decimals([1.7012], [0.123]) == 2
    assert figures.decimals([170.12], [12.3]) == 0
    assert figures.decimals([1.7012], [math.inf]) == 3
    assert figures.decimals([]) == 2
    assert figures.decimals([2.05, 300.0], [0.12, 250.0]) == 2


def test_a_number_that_is_not_finite_is_written_as_what_it_is():
    assert [figures.figure(v, 2) for v in (math.nan, math.inf, -math.inf, None)] == [
        "NaN",
        "\u221e",
        "\u2212\u221e",
        "-",
    ]
    assert figures.figure(-0.0001, 2) == "0.00"
    assert figures.signed(-0.0001, 2) == "0.00"
    assert figures.figure(123456789.0, 2) == "1.2e08"
