import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daybreak.errors import UserError
from daybreak.systems.music import harmony
from daybreak.systems.music import tokens as T


@given(st.integers(0, T.NO_CHORD), st.integers(0, 11))
def test_a_chords_name_is_read_back(chord, bass):
    if chord == T.NO_CHORD:
        bass = 0
    assert harmony.parse_chord(harmony.chord_name(chord, bass)) == (chord, bass)


@given(st.text(max_size=12))
def test_any_text_is_a_chord_and_a_key_or_a_user_error(text):
    for parse in (harmony.parse_chord, harmony.parse_key):
        with contextlib.suppress(UserError):
            parse(text)


@pytest.mark.parametrize("key", T.KEYS)
def test_a_keys_signature_is_read_back(key):
    sharps, minor = harmony.signature_of_key(key)
    assert -7 <= sharps <= 7
    assert harmony.key_of_signature(sharps, minor) == key
    assert harmony.parse_key(key) == key


def test_known_signatures():
    assert harmony.signature_of_key("C minor") == (-3, True)
    assert harmony.signature_of_key("E major") == (4, False)


def test_labels_of_annotations():
    assert harmony.chord_of_label("A:min7/b7") == harmony.parse_chord("Am7/G")
    assert harmony.chord_of_label("C:maj/3") == harmony.parse_chord("C/E")
    assert harmony.chord_of_label("N") == (T.NO_CHORD, 0)


def test_an_unknown_key_names_near_ones():
    with pytest.raises(UserError, match="did you mean C minor"):
        harmony.parse_key("C minro")
