"""Altered copies are found, other photos are not, and the work grows with the number of photos."""

from __future__ import annotations

import numpy as np
import pytest
from catalogues import unit
from hypothesis import given, settings
from hypothesis import strategies as st

from daybreak.errors import UserError
from daybreak.systems.commerce.catalogue import Catalogue, Row, Rule, dedupe, dhash, duplicates


def scene(seed: int, side: int = 64) -> np.ndarray:
    """A smooth grey picture."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    waves = sum(np.sin(2 * np.pi * (a * x + b * y + c)) for a, b, c in random.uniform(-4, 4, (6, 3)))
    return (127 + 20 * waves).clip(0, 255)


def bits(text: str) -> np.ndarray:
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))


def words(hashes) -> np.ndarray:
    return np.frombuffer(bytes.fromhex("".join(hashes)), np.uint64).reshape(-1, 4)


def test_a_difference_hash_says_which_cells_are_darker_than_the_next():
    rising = np.tile(np.arange(17) * 10.0, (16, 1))
    assert dhash(rising) == "f" * 64
    assert dhash(rising[:, ::-1]) == dhash(np.full((40, 30), 7)) == "0" * 64
    half = np.concatenate([rising[:8], rising[:8, ::-1]])
    assert dhash(half) == "f" * 32 + "0" * 32
    assert dhash(np.kron(half, np.ones((5, 3)))) == dhash(half), "its size is no part of it"
    for wrong in (np.zeros((3, 3, 3)), np.zeros((0, 5)), np.full((4, 4), np.nan)):
        with pytest.raises(UserError, match="a grey picture"):
            dhash(wrong)


@given(st.integers(0, 1000), st.integers(17, 90), st.integers(17, 90))
@settings(max_examples=25, deadline=None)
def test_brightness_and_noise_move_few_bits(seed, height, width):
    gray = np.kron(scene(seed, 17), np.ones((6, 6)))[: 6 * 17, : 6 * 17]
    at = np.ix_(np.arange(height) * 102 // height, np.arange(width) * 102 // width)
    shown = gray[at]
    assert np.sum(bits(dhash(shown)) != bits(dhash(0.8 * shown + 10))) <= 16


def altered(seed: int) -> np.ndarray:
    """A copy of a scene: darker, noisy, cut by 3 %."""
    random = np.random.default_rng(seed + 10_000)
    return (0.85 * scene(seed) + random.normal(0, 4, (64, 64)) + 8)[1:-1, 1:-1].clip(0, 255)


def test_altered_copies_are_found_among_other_photos(tmp_path):
    count, copies = 400, 100
    catalogue = Catalogue.create(tmp_path / "c", "m", {"instance": 32})
    random = np.random.default_rng(0)
    base = unit(count, 32)
    copied = base[:copies] + 0.04 * random.standard_normal((copies, 32)).astype(np.float32)
    copied /= np.linalg.norm(copied, axis=1, keepdims=True)
    rows = [Row(id=f"i{i:03}", digest=f"{i:04x}", dhash=dhash(scene(i))) for i in range(count)]
    rows += [Row(id=f"j{i:03}", digest=f"{i + 999:04x}", dhash=dhash(altered(i))) for i in range(copies)]
    with catalogue.writing() as writer:
        writer.add(rows, {"instance": np.concatenate([base, copied])})
    found = {tuple(group) for group in duplicates(catalogue)}
    wanted = {(f"i{i:03}", f"j{i:03}") for i in range(copies)}
    assert len(found & wanted) >= 0.95 * len(wanted)
    assert len(found & wanted) >= 0.99 * len(found)
    assert set(dedupe.pairs(catalogue)) == found, "groups of two are the pairs"
    # Removing one of a pair takes the pair out.
    with catalogue.writing() as writer:
        writer.remove([f"j{i:03}" for i in range(copies)])
    assert duplicates(catalogue) == []


def test_the_vectors_and_every_block_have_a_say():
    one = dhash(scene(1))
    print_changed = bits(one).reshape(16, 16).copy()
    print_changed[4:8, 4:8] ^= 1
    other = np.packbits(print_changed).tobytes().hex()
    pairs = [[0, 1]]
    hashes = words([one, one, other])
    agree = lambda a, b: np.ones(len(a))  # noqa: E731
    assert dedupe.near(hashes, agree, Rule()).tolist() == pairs, "one block of 16 differs as a whole"
    assert dedupe.near(hashes, agree, Rule(block=16)).tolist() == [[0, 1], [0, 2], [1, 2]]
    assert dedupe.near(hashes, lambda a, b: np.zeros(len(a)), Rule()).tolist() == []
    assert dedupe.near(hashes, None, Rule()).tolist() == pairs


def test_plain_photos_are_not_the_same_for_want_of_a_pattern(tmp_path):
    plain = words(["0" * 64] * 5)
    assert dedupe.near(plain, None, Rule()).tolist() == []
    catalogue = Catalogue.create(tmp_path / "c", "m", {"product": 4})
    with catalogue.writing() as writer:
        writer.add(
            [Row(id=n, digest="ab" if n < "c" else n * 2, dhash="0" * 64) for n in "abcd"], {"product": unit(4, 4)}
        )
    assert duplicates(catalogue, space="") == [["a", "b"]], "the same bytes are the same photo"
    with pytest.raises(UserError, match="no vector space 'instance'; there is: product"):
        duplicates(catalogue)


def test_the_pairs_looked_at_grow_with_the_photos_not_with_their_square():
    for count in (300, 3000):
        crowded = np.zeros((count, 4), np.uint64)
        looked = sum(len(a) for a, _ in dedupe._neighbours(crowded))
        assert looked <= dedupe.ORDERS * dedupe.WINDOW * count


def test_nothing_and_one_photo_have_no_duplicates(tmp_path):
    assert dedupe.near(np.empty((0, 4), np.uint64), None, Rule()).shape == (0, 2)
    assert dedupe.near(words(["f" * 64]), None, Rule()).shape == (0, 2)
    assert duplicates(Catalogue.create(tmp_path / "c", "m", {"instance": 4})) == []


@given(st.integers(1, 30), st.data())
@settings(max_examples=60, deadline=None)
def test_groups_are_the_connected_parts(count, data):
    pairs = data.draw(st.lists(st.tuples(*[st.integers(0, count - 1)] * 2), max_size=40))
    parts = {i: {i} for i in range(count)}
    for a, b in pairs:
        whole = parts[a] | parts[b]
        parts |= dict.fromkeys(whole, whole)
    wanted = {frozenset(part) for part in parts.values() if len(part) > 1}
    found = dedupe.joined(count, np.array(pairs, np.int64).reshape(-1, 2))
    assert {frozenset(group.tolist()) for group in found} == wanted
