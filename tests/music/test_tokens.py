import io

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daybreak.systems.music import score
from daybreak.systems.music import tokens as T

METRES = st.sampled_from(list(T.METRES))


@st.composite
def drawn(draw):
    """Notes and chords that a stream can say, with their metre and bars."""
    metre = draw(METRES)
    bars = draw(st.integers(1, 6))
    length = bars * T.METRES[metre].beats * T.PER_BEAT
    note = st.tuples(st.integers(0, length - 1), st.integers(1, 120), st.integers(0, 127), st.integers(1, 127))
    notes = np.array(draw(st.lists(note, max_size=60)), np.int64).reshape(-1, 4)
    change = st.tuples(st.integers(0, length - 1), st.integers(0, T.NO_CHORD), st.integers(0, 11))
    rows = [(at, c, b if c != T.NO_CHORD else 0) for at, c, b in draw(st.lists(change, max_size=8))]
    chords = np.array(rows, np.int64).reshape(-1, 3)
    return metre, bars, T.tidy(notes, length), T.tidy_chords(chords, length)


@settings(max_examples=200, deadline=None)
@given(drawn())
def test_notes_to_tokens_to_notes_is_the_identity(clip):
    metre, bars, notes, chords = clip
    beats = T.METRES[metre].beats
    stream = T.encode(notes, chords, bars, beats)
    back, changes, found = T.decode(stream, beats)
    assert found == bars
    assert np.array_equal(back, notes)
    assert np.array_equal(changes, chords)
    assert np.array_equal(T.encode(back, changes, found, beats), stream)


@settings(max_examples=100, deadline=None)
@given(drawn())
def test_notes_come_back_from_midi_through_symusic_and_mido(clip):
    metre, bars, notes, chords = clip
    midi = score.write([score.Part("main_melody", 0, notes)], metre=metre, bpm=97, bars=bars, chords=chords)
    unit = round(score.TICKS * T.METRES[metre].quarters) // T.PER_BEAT
    track = midi.score().tracks[0] if len(notes) else None
    if track is not None:
        columns = track.notes.numpy()
        read = np.stack([columns[n] for n in ("time", "duration", "pitch", "velocity")], 1).astype(np.int64)
        read[:, :2] //= unit
        assert np.array_equal(read[np.lexsort((read[:, 2], read[:, 0]))], notes)
    heard, sounding = [], {}
    for part in mido.MidiFile(file=io.BytesIO(midi.to_bytes())).tracks:
        at = 0
        for message in part:
            at += message.time
            if message.type == "note_on" and message.velocity:
                assert message.note not in sounding
                sounding[message.note] = at, message.velocity
            elif message.type in ("note_on", "note_off"):
                start, velocity = sounding.pop(message.note)
                heard.append((start // unit, (at - start) // unit, message.note, velocity))
    assert not sounding
    assert sorted(heard) == sorted(map(tuple, notes.tolist()))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, T.STREAM - 1), max_size=40), st.integers(2, 5))
def test_any_tokens_decode_or_raise_value_error(tokens, beats):
    try:
        notes, _, bars = T.decode(np.array(tokens), beats)
    except ValueError:
        return
    assert (notes[:, 0] < bars * beats * T.PER_BEAT).all()


@settings(max_examples=100, deadline=None)
@given(drawn(), st.integers(-6, 5))
def test_transposing_there_and_back_changes_nothing(clip, shift):
    metre, bars, notes, chords = clip
    notes = notes[(notes[:, 2] > 12) & (notes[:, 2] < 115)]
    stream = T.encode(notes, chords, bars, T.METRES[metre].beats)
    keywords = T.row(key="A minor", metre=metre, pitch_range=None)
    moved, said = T.transpose(stream, keywords, shift)
    back, again = T.transpose(moved, said, -shift)
    assert np.array_equal(back, stream)
    assert np.array_equal(again, keywords)
    raised, _, _ = T.decode(moved, T.METRES[metre].beats)
    assert np.array_equal(raised[:, 2], T.decode(stream, T.METRES[metre].beats)[0][:, 2] + shift)


def test_triplets_and_sixteenths_are_exact():
    assert T.PER_BEAT % 3 == 0
    assert T.PER_BEAT % 4 == 0
    for metre in T.METRES.values():
        assert (score.TICKS * metre.quarters) % T.PER_BEAT == 0


def test_every_field_has_a_none_and_ids_do_not_overlap():
    assert T.OFFSETS[0] == T.STREAM
    for name, values in T.FIELDS.items():
        ids = {int(T.row(**{name: v})[T.COLUMN[name]]) for v in values}
        assert ids == set(range(1, len(values) + 1))
    sizes = [len(values) + 1 for values in T.FIELDS.values()]
    assert np.array_equal(np.cumsum([T.STREAM, *sizes])[:-1], T.OFFSETS)
    assert T.STREAM + sum(sizes) == T.VOCABULARY


@pytest.mark.parametrize(
    ("mean", "name"), [(35.9, "very_low"), (36, "low"), (71.9, "mid"), (72, "mid_high"), (96, "very_high")]
)
def test_pitch_ranges_have_the_cuts_of_commu(mean, name):
    assert T.RANGES[T.pitch_range(mean)] == name
