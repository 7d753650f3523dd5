"""Each measure agrees with an independent definition in plain Python, on songs by rule and on drawn notes."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daybreak.systems.music import harmony, measures, published
from daybreak.systems.music import tokens as T

BARS, BEATS = 4, 4
END = BARS * BEATS * T.PER_BEAT


@st.composite
def clips(draw):
    rows = st.tuples(
        st.integers(0, END - 1), st.sampled_from([1, 3, 4, 6, 12, 18, 24, 48]), st.integers(40, 90), st.integers(1, 127)
    )
    notes = np.array(draw(st.lists(rows, min_size=1, max_size=20)), np.int64)
    changes = draw(st.lists(st.tuples(st.integers(0, 15), st.integers(0, T.NO_CHORD)), max_size=5))
    chords = np.array([(12 * at, chord, 0) for at, chord in changes], np.int64).reshape(-1, 3)
    return notes, T.tidy_chords(chords, END) if len(chords) else T.no_chords(), draw(st.sampled_from(T.KEYS))


def scale(key):
    root, mode = key.split()
    whole = [2, 2, 1, 2, 2, 2, 1] if mode == "major" else [2, 1, 2, 2, 1, 2, 2]
    return {(T.ROOTS.index(root) + sum(whole[:n])) % 12 for n in range(7)}


def chord_at(chords, time):
    there = [chord for at, chord, _ in chords.tolist() if at <= time]
    return harmony.pitch_classes(there[-1]) if there else frozenset()


@settings(max_examples=30, deadline=None)
@given(clips())
def test_harmony_is_the_scale_or_every_chord_that_sounds_under_the_note(clip):
    notes, chords, key = clip
    plain = []
    for onset, duration, pitch, _ in notes.tolist():
        # Tick by tick: the chord under each twelfth of the note.
        under = all(pitch % 12 in chord_at(chords, time) for time in range(onset, onset + duration))
        plain.append(pitch % 12 in scale(key) or under)
    assert measures.in_harmony(notes, chords, key).tolist() == plain


@settings(max_examples=30, deadline=None)
@given(clips())
def test_harmony_as_published_compares_what_crosses_an_eighths_border(clip):
    notes, chords, key = clip
    plain = []
    for onset, duration, pitch, _ in notes.tolist():
        right, end = True, onset + duration
        for time in range(0, END, 6):
            inside = time < onset < time + 6 or time < end < time + 6 or (onset < time and time + 6 < end)
            if inside and pitch % 12 not in scale(key) and pitch % 12 not in chord_at(chords, time):
                right = False
        plain.append(right)
    assert measures.in_harmony_as_published(notes, chords, key, END).tolist() == plain


def test_the_published_script_never_tests_a_quarter_on_the_grid_and_the_strict_measure_does():
    wrong = np.array([[0, 12, 66, 64], [12, 6, 66, 64], [24, 24, 66, 64]])  # F sharp over C in C major
    chords = np.array([[0, 0, 0]])
    assert measures.in_harmony_as_published(wrong, chords, "C major", END).tolist() == [True, True, False]
    assert measures.in_harmony(wrong, chords, "C major").tolist() == [False] * 3
    assert measures.in_harmony(wrong, T.no_chords(), "G major").all()
    assert not measures.in_harmony(wrong, T.no_chords(), "C major").any()


@settings(max_examples=20, deadline=None)
@given(clips())
def test_pitch_range_and_velocities_are_counted_plainly(clip):
    notes = clip[0]
    mean = sum(notes[:, 2].tolist()) / len(notes)
    cuts = [36, 48, 60, 72, 84, 96, 128]
    name = T.RANGES[next(n for n, cut in enumerate(cuts) if mean < cut)]
    assert [measures.pitch_range_holds(notes, asked) for asked in T.RANGES] == [asked == name for asked in T.RANGES]
    inside = [50 <= velocity <= 90 for velocity in notes[:, 3].tolist()]
    assert measures.velocities_inside(notes, 50, 90).tolist() == inside


def plain_distance(one, other):
    found = []
    for values in (lambda note: note[2] % 12, lambda note: note[1]):
        bars = []
        for bar in range(BARS):
            counts = [{}, {}]
            for count, notes in zip(counts, (one, other), strict=True):
                for note in notes.tolist():
                    if note[0] // (BEATS * 12) == bar:
                        count[values(note)] = count.get(values(note), 0) + 1
            a, b = counts
            if a and b:
                norm = math.sqrt(sum(v * v for v in a.values())) * math.sqrt(sum(v * v for v in b.values()))
                bars.append(1 - sum(a[v] * b.get(v, 0) for v in a) / norm)
        if not bars:
            return math.nan
        found.append(sum(bars) / len(bars))
    return math.sqrt(found[0] ** 2 + found[1] ** 2) / 2


@settings(max_examples=20, deadline=None)
@given(st.lists(clips(), min_size=2, max_size=4))
def test_diversity_is_the_mean_over_pairs_of_the_plain_distance(drawn):
    notes = [clip[0] for clip in drawn]
    plain = [plain_distance(a, b) for a, b in itertools.combinations(notes, 2)]
    for (a, b), value in zip(itertools.combinations(notes, 2), plain, strict=True):
        assert measures.distance(a, b, BARS, BEATS) == pytest.approx(value, nan_ok=True, abs=1e-9)
    kept = [value for value in plain if not math.isnan(value)]
    mean = sum(kept) / len(kept) if kept else math.nan
    assert measures.diversity(notes, BARS, BEATS) == pytest.approx(mean, nan_ok=True, abs=1e-9)


def test_equal_clips_are_at_0_and_clips_with_nothing_in_common_at_the_most():
    one = np.array([[0, 12, 60, 64], [50, 12, 62, 64]])
    other = np.array([[5, 6, 61, 64], [60, 6, 63, 64]])
    assert measures.distance(one, one, BARS, BEATS) == pytest.approx(0, abs=1e-9)
    assert measures.distance(one, other, BARS, BEATS) == pytest.approx(math.sqrt(2) / 2)


def test_order_kl_is_the_plain_sum_and_nothing_for_a_network_that_reads_a_set():
    torch.manual_seed(0)
    table, weights = torch.randn(50, 7, dtype=torch.float64), torch.arange(1.0, 5, dtype=torch.float64)

    def ordered(keywords, tokens):
        return (table[keywords] * weights[None, :, None]).sum(1)[:, None] + table[tokens]

    def as_set(keywords, tokens):
        return table[keywords.sort(1).values].sum(1)[:, None] + table[tokens]

    keywords, stream = np.array([10, 20, 30, 40]), np.array([1, 2, 3])
    mean, largest = measures.order_kl(ordered, keywords, stream, orders=3, seed=0)
    draw, found = np.random.default_rng(0), []
    usual = ordered(torch.tensor(keywords)[None], torch.tensor(stream)[None])[0].softmax(-1)
    for _ in range(3):
        drawn = torch.tensor(draw.permutation(keywords))
        other = ordered(drawn[None], torch.tensor(stream)[None])[0].softmax(-1)
        found += [
            sum(float(p) * math.log(float(p / q)) for p, q in zip(*rows, strict=True))
            for rows in zip(usual, other, strict=True)
        ]
    assert mean == pytest.approx(sum(found) / len(found))
    assert largest == pytest.approx(max(found))
    assert mean > 0.01
    assert measures.order_kl(as_set, keywords, stream, orders=3, seed=0) == (0.0, 0.0)


def test_published_rows_name_their_data_and_source():
    assert {row.system for row in published.ROWS} >= {"ComMU Transformer-XL", "Text2midi", "MuseCoco"}
    assert all(row.data and row.source and row.values for row in published.ROWS)
