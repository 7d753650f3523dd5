"""Replay keeps what was played: n-step returns, stacks, sequences and priorities as slow readers compute them."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rl_play import FRAMES, VECTOR, played

from daybreak.errors import UserError
from daybreak.systems.rl import store
from daybreak.systems.rl.store import Priorities, Ring

GAMMA = 0.9


def filled(spec, seeds=2, copies=3, capacity=90, blocks=5, times=13, seed=0):
    """A ring and all rows ever added: column -> [time, seeds, copies, ...]."""
    random = np.random.default_rng(seed)
    ring = Ring(spec, seeds, copies, capacity, spec.stack)
    rows: dict[str, list] = {}
    finals = {}
    for number in range(blocks):
        block = played(random, ring, times, number)
        for name, column in block.columns.items():
            rows.setdefault(name, []).append(column)
        finals.update({(t + ring.added, s, c): v for (t, s, c), v in block.finals.items()})
        ring.add(block)
    return ring, {name: np.concatenate(parts) for name, parts in rows.items()}, finals


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 6), blocks=st.integers(1, 6))
def test_n_step_transitions_are_those_of_a_loop(seed, n, blocks):
    ring, rows, finals = filled(VECTOR, blocks=blocks, seed=seed)
    random = np.random.default_rng(seed)
    at, copies = ring.draw(random, 7, n + 1)
    got = ring.transitions(at, copies, n, GAMMA)
    for place in np.ndindex(at.shape):
        s, t, c = place[0], int(at[place]), int(copies[place])
        total, discount, following = 0.0, 1.0, None
        for k in range(n):
            total += discount * rows["reward"][t + k, s, c]
            discount *= GAMMA
            if rows["terminated"][t + k, s, c]:
                discount, following = 0.0, None
                break
            if rows["truncated"][t + k, s, c]:
                following = finals[t + k, s, c]["vector"]
                break
        else:
            following = rows["vector"][t + n, s, c]
        assert got["reward"][place] == pytest.approx(total, abs=1e-5)
        assert got["discount"][place] == pytest.approx(discount, abs=1e-6)
        assert got["observation"]["vector"][place] == rows["vector"][t, s, c]
        assert got["action"][place] == rows["action"][t, s, c]
        if following is not None:
            assert got["next"]["vector"][place] == following


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_stacks_hold_the_episodes_own_frames(seed):
    ring, rows, _ = filled(FRAMES, seed=seed)
    random = np.random.default_rng(seed)
    at, copies = ring.draw(random, 9, 2)
    got = ring.observe(at, copies)["image"]
    assert got.shape[2:] == (4, 2, 2)
    for place in np.ndindex(at.shape):
        s, t, c = place[0], int(at[place]), int(copies[place])
        frames = [rows["image"][t, s, c, 0, 0, 0]]
        while len(frames) < 4:
            before = t - 1
            if before >= ring.oldest and not (rows["terminated"][before, s, c] or rows["truncated"][before, s, c]):
                t = before
            frames.append(rows["image"][t, s, c, 0, 0, 0])
        assert got[place][:, 0, 0].tolist() == frames[::-1]


def test_what_a_cut_off_episode_is_bootstrapped_from_is_its_own_last_observation_with_its_own_history():
    ring, rows, finals = filled(FRAMES, blocks=2)
    t, s, c = next(key for key in finals if key[0] > 5 and key[0] + 1 < ring.added)
    at, copies = np.full((2, 1), t), np.full((2, 1), c)
    got = ring.transitions(at, copies, 1, GAMMA)["next"]["image"][s, 0]
    assert (got[-1] == 255).all()
    assert got[-2, 0, 0] == rows["image"][t, s, c, 0, 0, 0]


def test_sequences_are_the_rows_in_order_and_say_where_episodes_begin():
    ring, rows, finals = filled(VECTOR)
    at, copies = ring.draw(np.random.default_rng(0), 5, 9)
    got = ring.sequences(at, copies, 8)
    for s, b in np.ndindex(at.shape):
        for k in range(8):
            t, c = int(at[s, b]) + k, int(copies[s, b])
            assert got["reward"][k, s, b] == rows["reward"][t, s, c]
            assert got["observation"]["vector"][k, s, b] == rows["vector"][t, s, c]
            ended = rows["terminated"][t - 1, s, c] or rows["truncated"][t - 1, s, c]
            assert got["first"][k, s, b] == (k > 0 and ended)
            if rows["truncated"][t, s, c]:
                assert got["next"]["vector"][k, s, b] == finals[t, s, c]["vector"]
            elif not rows["terminated"][t, s, c]:
                assert got["next"]["vector"][k, s, b] == rows["vector"][t + 1, s, c]


def test_a_checkpoint_links_what_is_old_and_reads_back_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SEGMENT", 12)
    random = np.random.default_rng(1)
    ring = Ring(VECTOR, 2, 3, 90)
    last = None
    for number in range(8):
        ring.add(played(random, ring, 7, number))
        folder = tmp_path / str(number)
        folder.mkdir()
        ring.write(folder, last)
        if last is not None:
            old = {p.name for p in last.glob("*.safetensors")} & {p.name for p in folder.glob("*.safetensors")} - {
                "ring.safetensors"
            }
            assert old
            assert all(os.path.samefile(last / name, folder / name) for name in old)
        back = Ring(VECTOR, 2, 3, 90)
        back.read(folder)
        at, copies = ring.draw(np.random.default_rng(2), 20, 3)
        one, two = ring.transitions(at, copies, 2, GAMMA), back.transitions(at, copies, 2, GAMMA)
        assert all(np.array_equal(one[name], two[name]) for name in ("reward", "action", "discount"))
        assert np.array_equal(one["next"]["vector"], two["next"]["vector"])
        assert back.finals.keys() == ring.finals.keys()
        assert back.added == ring.added
        last = folder


def test_replay_that_does_not_fit_says_both_sizes_and_spills_when_told(monkeypatch):
    monkeypatch.setattr(store, "available", lambda: 1000)
    random = np.random.default_rng(0)
    ring = Ring(VECTOR, 1, 2, 10_000)
    block = played(random, ring, 3)
    with pytest.raises(UserError, match=r"10,000 steps of test x 1 needs 0\.0 GiB and 0\.0 GiB .*--spill"):
        ring.add(block)
    spilled = Ring(VECTOR, 1, 2, 10_000, spill=True)
    spilled.add(block)
    assert isinstance(spilled.columns["reward"], np.memmap)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(2, 40), copies=st.integers(1, 4))
def test_the_sum_tree_is_the_sum_of_its_leaves_and_draws_in_proportion(seed, rows, copies):
    random = np.random.default_rng(seed)
    tree = Priorities(2, rows, copies, 0.6)
    tree.open(np.arange(rows))
    at, each, _ = tree.draw(random, 16)
    tree.set(at, each, random.random(at.shape) * 5 + 0.01)
    leaves = tree.leaves[:, : rows * copies]
    assert tree.sums[0].sum(1) == pytest.approx(leaves.sum(1))
    at, each, chances = tree.draw(random, 4000)
    assert at.max() < rows
    assert each.max() < copies
    for s in range(2):
        counts = np.bincount(at[s] * copies + each[s], minlength=rows * copies)
        expected = 4000 * leaves[s] / leaves[s].sum()
        assert np.abs(counts - expected).max() <= 2 + 1e-6  # stratified: within one stratum at each end
        assert chances[s] == pytest.approx(leaves[s][at[s] * copies + each[s]] / leaves[s].sum())


def test_what_is_shut_is_never_drawn_and_new_rows_get_the_largest_priority():
    tree = Priorities(1, 8, 1, 1.0)
    tree.open(np.arange(4))
    tree.set(np.array([[0]]), np.array([[0]]), np.array([[7.0]]))
    tree.open(np.array([5]))
    assert tree.leaves[0, 5] == 7.0
    tree.shut(np.array([0, 5]))
    at, _, _ = tree.draw(np.random.default_rng(0), 1000)
    assert set(at.ravel()) == {1, 2, 3}
