import os

import mido
import pytest
import symusic
from hypothesis import given, settings
from hypothesis import strategies as st

from daybreak.errors import UserError
from daybreak.media.midi import Midi


def song() -> Midi:
    score = symusic.Score(480)
    score.tempos.append(symusic.Tempo(0, 120))
    score.time_signatures.append(symusic.TimeSignature(0, 3, 4))
    track = symusic.Track("<melody & co>", 40, False)
    for n in range(12):
        track.notes.append(symusic.Note(n * 480, 470, 60 + n, 40 + 5 * n))
    score.tracks.append(track)
    return Midi.of(score, "made with ä and 가")


def test_the_same_value_has_the_same_bytes_and_comes_back():
    assert song() == song()
    assert Midi.from_bytes(song().to_bytes()) == song()


def test_the_text_event_is_read_back_by_us_and_by_mido(tmp_path):
    path = song().save(tmp_path / "a.mid")
    assert Midi.open(path).text == "made with ä and 가"
    texts = [m.text for m in mido.MidiFile(path, charset="utf-8").tracks[0] if m.type == "text"]
    assert texts == ["made with ä and 가"]


def test_a_truncated_file_is_named_as_such_at_every_length():
    data = song().to_bytes()
    for length in range(1, len(data)):
        with pytest.raises(UserError) as error:
            Midi.from_bytes(data[:length])
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"RIFF1234WAVE", "not a MIDI file"),
        (b"MThd\0\0\0\6\0\1\0\1\1", "truncated"),
        (b"MThd\0\0\0\6\0\1\0\1\0\0MTrk\0\0\0\4\0\xff\x2f\0", "0 ticks"),
        (b"MThd\0\0\0\6\0\1\0\1\xe7\x28MTrk\0\0\0\4\0\xff\x2f\0", "SMPTE"),
    ],
)
def test_what_is_no_midi_file_is_refused_in_one_line(data, words):
    with pytest.raises(UserError, match=words):
        Midi.from_bytes(data)


def test_a_folder_an_unreadable_and_a_huge_file_are_refused(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        Midi.open(tmp_path)
    with pytest.raises(UserError, match="No such file"):
        Midi.open(tmp_path / "none.mid")
    huge = tmp_path / "huge.mid"
    with open(huge, "wb") as file:
        file.truncate(200 * 2**20)
    with pytest.raises(UserError, match="has 200 MiB; at most 16 MiB"):
        Midi.open(huge)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_refused(tmp_path):
    path = song().save(tmp_path / "a.mid")
    path.chmod(0)
    with pytest.raises(UserError, match="Permission denied"):
        Midi.open(path)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_file_reads_or_raises_a_user_error(data):
    body = bytearray(song().to_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        text = Midi.from_bytes(bytes(body)).text
    except UserError as error:
        text = str(error).replace("\n", "more than one line")
    assert "more than one line" not in text


def test_the_piano_roll_shows_every_note_and_escapes_names():
    drawn = song().roll().text
    assert drawn.count('rx="1"') == 12
    assert "<melody" not in drawn
    assert "&lt;melody &amp; co&gt;" in drawn
    assert "currentColor" in drawn


def test_the_piano_roll_rules_bars_by_the_time_signature():
    assert song().roll().text.count('opacity=".55"') == 5  # four bars of three beats and the end


def test_the_piano_roll_goes_on_to_a_marker_behind_the_last_note():
    score = song().score()
    score.markers.append(symusic.TextMeta(8 * 3 * 480, "end"))
    assert Midi.of(score).roll().text.count('opacity=".55"') == 9


def test_the_sound_is_as_long_as_the_file_and_never_clips():
    sound = song().sound()
    assert 12 * 0.5 <= sound.seconds <= 12 * 0.5 + 1
    assert 0.01 < abs(sound.samples).max() <= 1


def test_a_tone_has_the_pitch_that_was_written():
    import numpy as np

    score = symusic.Score(480)
    score.tempos.append(symusic.Tempo(0, 60))
    track = symusic.Track("a", 73, False)
    track.notes.append(symusic.Note(0, 960, 69, 100))
    score.tracks.append(track)
    sound = Midi.of(score).sound()
    second = sound.samples[: sound.rate]
    assert abs(int(np.abs(np.fft.rfft(second)).argmax()) - 440) <= 1


def test_the_html_holds_everything_it_needs():
    page = song().html()
    assert "<svg" in page
    assert "data:audio/mpeg;base64," in page
    assert 'src="http' not in page
