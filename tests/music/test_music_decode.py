import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daybreak.systems.music import tokens as T
from daybreak.systems.music.decode import Automaton, Rules, choose, decoder, sample
from daybreak.systems.music.net import NetConfig


@st.composite
def rules(draw):
    beats, bars = draw(st.integers(2, 5)), draw(st.integers(1, 8))
    low = draw(st.integers(0, 31))
    chords = None
    if draw(st.booleans()):
        count = draw(
            st.sampled_from([n for n in range(1, bars * beats + 1) if bars * beats % n == 0 and n <= 2 * bars])
        )
        step = bars * beats // count * T.PER_BEAT
        numbers = draw(st.lists(st.integers(0, T.NO_CHORD), min_size=count, max_size=count))
        rows = [
            (n * step, c, (c // 12 + 7) % 12 if c != T.NO_CHORD and n % 2 else c // 12 % 12)
            for n, c in enumerate(numbers)
        ]
        rows = [(at, c, b if c != T.NO_CHORD else 0) for at, c, b in rows]
        chords = T.tidy_chords(np.array(rows), bars * beats * T.PER_BEAT)
    bottom = draw(st.integers(0, 120))
    return Rules(bars, beats, (low, draw(st.integers(low, 31))), chords, True, (bottom, draw(st.integers(bottom, 127))))


@settings(max_examples=150, deadline=None)
@given(
    rules(), st.integers(0, 2**32 - 1), st.sampled_from([100, 300, 1024]), st.sampled_from(["any", "notes", "chords"])
)
def test_any_walk_through_the_grammar_is_a_clip_that_obeys(rules, seed, room, taste):
    """Whatever a network prefers: at random, notes for ever, or chords for ever."""
    draw = np.random.default_rng(seed)
    state = Automaton(rules, room)
    while not state.done:
        allowed = np.flatnonzero(state.allowed())
        assert len(allowed), state.tokens
        if taste == "notes" and (liked := allowed[(allowed >= T.PITCH) & (allowed < T.CHORD)]).size:
            allowed = liked
        if (
            taste == "chords"
            and (liked := allowed[(allowed >= T.CHORD) | ((allowed >= T.POSITION) & (allowed < T.PITCH))]).size
        ):
            allowed = liked
        state.take(int(draw.choice(allowed)))
    assert len(state.tokens) <= room
    notes, chords, bars = T.decode(np.array(state.tokens), rules.beats)
    assert bars == rules.bars
    assert len(notes) >= 1
    if room == 1024:
        assert len(np.unique(notes[:, 0] // (rules.beats * T.PER_BEAT))) * 2 >= bars
    assert (notes[:, 3] // 4 >= rules.velocities[0]).all()
    assert (notes[:, 3] // 4 <= rules.velocities[1]).all()
    assert ((notes[:, 2] >= rules.pitches[0]) & (notes[:, 2] <= rules.pitches[1])).all()
    assert (notes[:, 0] + notes[:, 1] <= bars * rules.beats * T.PER_BEAT).all()
    assert len({(at, pitch) for at, _, pitch, _ in notes.tolist()}) == len(notes)
    if rules.chords is not None:
        assert np.array_equal(chords, rules.chords)


def test_the_data_themselves_walk_through_the_grammar():
    from music_songs import Songs

    from daybreak.systems.music.data import clips

    data = Songs(6, 0)
    for item in data.split("train"):
        made = data.derived(clips, item)
        for n, (start, stop) in enumerate(zip(made["offsets"], made["offsets"][1:], strict=False)):
            row = made["keywords"][n]
            beats = T.METRES[T.value(row, "metre")].beats
            stream = made["tokens"][start:stop]
            _, chords, bars = T.decode(stream, beats)
            for asked in (chords, None):
                state = Automaton(Rules(bars, beats, chords=asked), 1024)
                for token in stream.tolist():
                    assert state.allowed()[token], (item.id, n, state.tokens[-5:], token)
                    state.take(token)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return decoder(NetConfig(layers=1, width=32, heads=2, inner=64, context=256)).eval()


def test_the_same_seed_gives_the_same_stream_and_another_another(net):
    row = T.row(bpm=80)
    first, second = sample(net, [row, row], Rules(4, 4), 1)
    assert np.array_equal(sample(net, [row], Rules(4, 4), 1)[0], first)
    assert not np.array_equal(first, second)
    assert not np.array_equal(sample(net, [row], Rules(4, 4), 2)[0], first)


def test_sampling_leaves_torchs_generator_alone(net):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    sample(net, [T.row()], Rules(1, 4), 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_that_are_not_finite_still_make_a_valid_clip(net):
    import copy

    broken = copy.deepcopy(net)
    with torch.no_grad():
        broken.embedding.weight.fill_(float("nan"))
    stream = sample(broken, [T.row()], Rules(2, 4), 1)[0]
    assert T.decode(stream, 4)[2] == 2


def test_choose_takes_the_likeliest_at_temperature_0_and_within_top_p():
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    every = np.ones(4, bool)
    generator = torch.Generator().manual_seed(0)
    assert choose(logits, every, generator, 0, 1) == 0
    assert choose(logits, np.array([False, False, True, True]), generator, 0, 1) == 2
    drawn = [choose(logits, every, generator, 1, 0.79) for _ in range(2000)]
    assert set(drawn) == {0, 1}
    assert abs(drawn.count(0) / 2000 - 0.5 / 0.8) < 0.04
    drawn = [choose(logits, every, generator, 1, 1) for _ in range(4000)]
    assert np.abs(np.bincount(drawn, minlength=4) / 4000 - [0.5, 0.3, 0.15, 0.05]).max() < 0.03
