import io
import sys
import xml.etree.ElementTree as ElementTree

import mido
import pytest
import symusic
from hypothesis import given, settings
from hypothesis import strategies as st

from daybreak.errors import UserError
from daybreak.media import notation, soundfont
from daybreak.media.midi import Midi
from daybreak.media.svg import Svg

STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def song(notes, numerator=4, denominator=4, key=-3, unit=40, drums=False):
    score = symusic.Score(480)
    score.time_signatures.append(symusic.TimeSignature(0, numerator, denominator))
    score.key_signatures.append(symusic.KeySignature(0, key, 1))
    score.tempos.append(symusic.Tempo(0, 90))
    score.markers.append(symusic.TextMeta(0, "Cm7/G"))
    score.markers.append(symusic.TextMeta(7680, "end"))
    track = symusic.Track("bass & co", 33, drums)
    for onset, duration, pitch in notes:
        track.notes.append(symusic.Note(onset * unit, duration * unit, pitch, 80))
    score.tracks.append(track)
    return Midi.of(score)


def read(text):
    """Notes (onset, duration in ticks, pitch) of one part, ties joined; the bars' lengths are checked."""
    found, held, start = [], {}, 0
    root = ElementTree.fromstring(text)
    drums = {e.get("id"): int(e.findtext("midi-unpitched") or 0) - 1 for e in root.iter("midi-instrument")}
    for measure in root.find("part"):
        at = onset = end = start
        for e in measure:
            if e.tag == "backup":
                at -= int(e.findtext("duration"))
            if e.tag != "note":
                continue
            length = int(e.findtext("duration"))
            kind = {"64th": 1.5, "32nd": 3, "16th": 6, "eighth": 12, "quarter": 24, "half": 48, "whole": 96}
            if name := e.findtext("type"):
                shown = kind[name] * (1.5 if e.find("dot") is not None else 1)
                assert shown * (2 / 3 if e.find("time-modification") is not None else 1) == pytest.approx(length)
            if e.find("chord") is None:
                onset, at = at, at + length
                end = max(end, at)
            if e.find("rest") is not None:
                continue
            if (pitch := e.find("pitch")) is None:
                assert e.find("unpitched") is not None
                number = drums[e.find("instrument").get("id")]
            else:
                number = STEPS[pitch.findtext("step")] + int(pitch.findtext("alter") or 0)
                number += 12 * int(pitch.findtext("octave")) + 12
            ties = {tie.get("type") for tie in e.iter("tie")}
            first = held.pop((number, onset, e.findtext("voice"))) if "stop" in ties else onset
            if "start" in ties:
                held[number, onset + length, e.findtext("voice")] = first
            else:
                found.append((first * 20, (onset + length - first) * 20, number))
        start = end
    assert not held
    return sorted(found)


NOTE = st.tuples(st.integers(0, 150), st.integers(1, 40), st.integers(24, 100))
NOTES = st.lists(NOTE, min_size=1, max_size=12, unique_by=lambda note: note[2])


@settings(max_examples=25, deadline=None)
@given(NOTES, st.sampled_from([(4, 4, 40), (3, 4, 40), (6, 8, 60), (12, 8, 60)]), st.integers(-7, 7), st.booleans())
def test_every_note_is_written_as_it_stands_in_the_file(notes, metre, key, drums):
    numerator, denominator, unit = metre
    midi = song(notes, numerator, denominator, key, unit, drums)
    path = io.BytesIO(midi.to_bytes())
    now, on, asked = 0, {}, []
    for message in mido.merge_tracks(mido.MidiFile(file=path).tracks):
        now += message.time
        if message.type == "note_on" and message.velocity:
            on[message.note] = now
        elif message.type in ("note_off", "note_on"):
            begun = on.pop(message.note)
            asked.append((begun, now - begun, message.note))
    assert read(notation.musicxml(midi).text) == sorted(asked)


def test_key_metre_tempo_chords_names_and_programs_are_written():
    root = ElementTree.fromstring(notation.musicxml(song([(0, 12, 63)], 3)).text)
    said = {tag: root.findtext(f".//{tag}") for tag in ("fifths", "mode", "beats", "beat-type", "part-name", "kind")}
    assert list(said.values()) == ["-3", "minor", "3", "4", "bass & co", "minor-seventh"]
    assert root.findtext(".//midi-program") == "34"
    assert root.find(".//sound").get("tempo") == "90"
    assert root.findtext(".//bass-step") == "G"
    assert len(root.findall(".//harmony")) == 1
    assert (root.findtext(".//step"), root.findtext(".//alter")) == ("E", "-1")


def test_a_file_off_the_grid_or_without_notes_is_refused():
    with pytest.raises(UserError, match="off the grid"):
        notation.musicxml(song([(0, 1, 60)], unit=41))
    with pytest.raises(UserError, match="no notes"):
        notation.musicxml(song([]))


def test_drums_are_percussion_with_a_place_for_each_sound_and_no_key():
    root = ElementTree.fromstring(notation.musicxml(song([(0, 6, 36), (0, 6, 42), (12, 6, 38)], drums=True)).text)
    assert root.find(".//pitch") is None
    assert (root.findtext(".//fifths"), root.findtext(".//mode")) == ("0", "none")
    assert (root.findtext(".//clef/sign"), root.find(".//clef/line")) == ("percussion", None)
    names = [e.text for e in root.iter("instrument-name")]
    assert names == ["Bass Drum", "Acoustic Snare", "Closed Hi-Hat"]
    assert [e.text for e in root.iter("midi-unpitched")] == ["37", "39", "43"]
    assert {e.text for e in root.iter("midi-channel")} == {"10"}
    shown = [(e.findtext("display-step"), e.findtext("display-octave")) for e in root.iter("unpitched")]
    assert shown == [("F", "4"), ("G", "5"), ("C", "5")]
    assert len(root.findall(".//notehead[.='x']")) == 1


def test_tempos_and_chords_keep_their_time_and_what_would_have_to_move_is_refused():
    score = song([(0, 96, 60)]).score()
    score.tempos.append(symusic.Tempo(1920 + 500, 120))
    score.markers.append(symusic.TextMeta(1920 + 20, "G7"))
    score.markers.append(symusic.TextMeta(1921, "Verse 1"))
    root = ElementTree.fromstring(notation.musicxml(Midi.of(score)).text)
    second = root.findall(".//measure")[1]
    assert [(e.text, e.get("sound")) for e in second.findall("direction/offset")] == [("25", "yes")]
    assert [e.text for e in second.findall("harmony/offset")] == ["1"]
    for add, words in (
        (lambda s: s.tempos.append(symusic.Tempo(1921, 99)), "a tempo at tick 1921 is off the grid"),
        (lambda s: s.markers.append(symusic.TextMeta(1921, "G7")), "chord G7 at tick 1921 is off the grid"),
        (lambda s: s.key_signatures.append(symusic.KeySignature(1921, 2, 0)), "a key signature at tick 1921 is off"),
        (
            lambda s: s.key_signatures.append(symusic.KeySignature(2400, 2, 0)),
            "the key changes within a bar, 5 quarters",
        ),
    ):
        moved = song([(0, 96, 60)]).score()
        add(moved)
        with pytest.raises(UserError, match=words) as raised:
            notation.musicxml(Midi.of(moved))
        assert "\n" not in str(raised.value)


def test_a_key_that_changes_at_a_bar_is_written_there():
    score = song([(0, 96, 61)]).score()
    score.key_signatures.append(symusic.KeySignature(1920, 2, 0))
    first, second = ElementTree.fromstring(notation.musicxml(Midi.of(score)).text).findall(".//measure")[:2]
    assert [m.findtext("attributes/key/fifths") for m in (first, second)] == ["-3", "2"]
    assert second.findtext("attributes/key/mode") == "major"


def test_written_music_comes_back_and_other_files_are_refused():
    made = notation.musicxml(song([(0, 12, 60)]))
    assert notation.MusicXml.from_bytes(made.to_bytes()) == made
    for data in (b"<svg/>", b"<score", b"<!ENTITY", b"\xff"):
        with pytest.raises(UserError):
            notation.MusicXml.from_bytes(data)


def test_the_sheet_is_a_drawing_that_runs_nothing():
    pytest.importorskip("verovio", reason="needs daybreak[score]")
    made = notation.sheet(song([(0, 4, 60), (4, 4, 62), (8, 4, 64), (44, 12, 65)]))
    assert Svg.from_bytes(made.to_bytes()) == made
    assert made.text.count('class="note"') == 5  # the last is tied over the bar line
    assert 'class="tuplet"' in made.text


def test_the_sheet_of_drums_has_their_clef_and_heads():
    pytest.importorskip("verovio", reason="needs daybreak[score]")
    text = notation.sheet(song([(0, 12, 36), (12, 12, 42)], drums=True)).text
    assert text.count('class="note"') == 2
    for glyph in ("E069", "E0A9"):  # SMuFL: unpitched percussion clef, black X notehead
        assert f'id="{glyph}' in text


def test_missing_extras_are_named_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "verovio", None)
    monkeypatch.setitem(sys.modules, "midirenderer", None)
    with pytest.raises(UserError, match=r"pip install 'daybreak\[score\]'$"):
        notation.sheet(song([(0, 12, 60)]))
    with pytest.raises(UserError, match=r"pip install 'daybreak\[soundfont\]'$"):
        soundfont.render(song([(0, 12, 60)]), tmp_path / "a.sf2")


def test_what_is_no_soundfont_is_named(tmp_path):
    pytest.importorskip("midirenderer", reason="needs daybreak[soundfont]")
    for name, data, words in (
        ("none", None, "cannot read"),
        ("a", b"hello", "no SoundFont"),
        ("b", b"RIFF\x04\0\0\0sfbk", "cannot render"),
    ):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=words) as error:
            soundfont.render(song([(0, 12, 60)]), tmp_path / name)
        assert "\n" not in str(error.value)
