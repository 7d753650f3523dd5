"""What is read off notes: key, chords, role, each against a plain definition or a song whose truth is known; and
`extract` and `check` of files."""

import io
import json
import math
import os
from pathlib import Path

import mido
import numpy as np
import pytest
import symusic
from hypothesis import given, settings
from hypothesis import strategies as st
from music_songs import as_item

from daybreak.errors import UserError
from daybreak.media.midi import Midi
from daybreak.systems.music import analysis, harmony, rules, score, words
from daybreak.systems.music import tokens as T
from daybreak.systems.music.check import Check
from daybreak.systems.music.data import clips, ingest
from daybreak.systems.music.extract import about, extract, progression
from daybreak.systems.music.model import Music, MusicConfig
from daybreak.systems.music.net import NetConfig
from daybreak.systems.music.request import Compose

NET = NetConfig(layers=1, width=32, heads=2, inner=64, context=256)
DATA = Path(os.environ.get("DAYBREAK_DATA", "")) / "music" / "pop909.tar.gz"


def rows(*notes):
    return np.array(notes, np.int64).reshape(-1, 4)


def chord_notes(text, step):
    """Block chords, one a step, in root position from C3 upwards."""
    found = []
    for n, name in enumerate(text.split()):
        chord, _ = harmony.parse_chord(name)
        root, quality = divmod(chord, len(T.QUALITIES))
        found += [(n * step, step, 48 + root + interval, 70) for interval in T.INTERVALS[quality]]
    return rows(*found)


def file(parts, **about):
    given = {"metre": "4/4", "bpm": 90, "bars": 8, **about}
    return score.write([score.Part(name, program, notes) for name, program, notes in parts], **given)


def foreign(notes, **how):
    """A file that says nothing of itself: no signatures, tempo, markers or names."""
    made = symusic.Score(480)
    for part in notes:
        track = symusic.Track(name="", program=0, **how)
        for onset, duration, pitch, velocity in part.tolist():
            track.notes.append(symusic.Note(onset * 40, duration * 40, pitch, velocity))
        made.tracks.append(track)
    return Midi.of(made)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 96), st.integers(0, 127)), min_size=1, max_size=30))
def test_key_correlations_are_pearsons_by_its_formula(notes):
    held = [0.0] * 12
    for _, duration, pitch in notes:
        held[pitch % 12] += duration
    found = analysis.correlations(rows(*((*note, 64) for note in notes)))
    mean = sum(held) / 12
    for place, name in enumerate(T.KEYS):
        root, mode = name.split()
        profile = analysis.MAJOR if mode == "major" else analysis.MINOR
        turned = [profile[(pc - T.ROOTS.index(root)) % 12] for pc in range(12)]
        middle = sum(turned) / 12
        top = sum((a - mean) * (b - middle) for a, b in zip(held, turned, strict=True))
        below = math.sqrt(sum((a - mean) ** 2 for a in held) * sum((b - middle) ** 2 for b in turned))
        assert found[place] == pytest.approx(top / below if below > 1e-9 else 0, abs=1e-9)


@pytest.mark.parametrize("root", range(12))
def test_a_cadence_is_heard_in_its_key_wherever_it_is_transposed_to(root):
    major = chord_notes("C F G7 C", 24) + np.array([0, 0, root, 0])
    minor = chord_notes("Am Dm E7 Am", 24) + np.array([0, 0, root, 0])
    assert analysis.key(major)[0] == f"{T.ROOTS[root]} major"
    assert analysis.key(minor)[0] == f"{T.ROOTS[(root + 9) % 12]} minor"


def test_a_confidence_is_a_share_of_24_keys_and_notes_that_say_nothing_say_so():
    flat = rows(*((0, 12, 60 + n, 64) for n in range(12)))
    assert analysis.key(flat)[1] == pytest.approx(1 / 24)
    assert analysis.key(chord_notes("C F G7 C", 24))[1] > 0.4
    assert analysis.key(T.no_notes())[1] == pytest.approx(1 / 24)


def test_block_chords_of_every_quality_are_heard():
    for text in ("C Am F G", "Db Ebm Gb Ab", "Cmaj7 Am7 Dm7 G7", "Cm7b5 Bdim Caug Csus4", "Em6 A6 Bsus2 E7"):
        changes, within = analysis.chords(chord_notes(text, 24), 2, 4)
        heard = {int(at): analysis_tones(chord) for at, chord, _ in changes.tolist()}
        wanted = {24 * n: analysis_tones(harmony.parse_chord(name)[0]) for n, name in enumerate(text.split())}
        assert heard == wanted, text  # C6 and Am7 have the same tones; the bass tells them apart
        assert within == pytest.approx(1)
        assert [int(bass) for bass in changes[:, 2]] == [harmony.parse_chord(name)[1] for name in text.split()]


def analysis_tones(chord):
    return harmony.pitch_classes(int(chord))


def test_silence_has_no_chord_and_a_bar_of_it_keeps_the_one_before():
    assert analysis.chords(T.no_notes(), 2, 4)[0].tolist() == [[0, T.NO_CHORD, 0]]
    changes, _ = analysis.chords(chord_notes("Am", 24), 2, 4)
    assert changes.tolist() == [[0, *harmony.parse_chord("Am")]]


def test_frames_are_half_bars_or_whole_bars_of_odd_metres():
    assert [analysis.frame(T.METRES[m].beats) for m in ("4/4", "3/4", "6/8", "5/4", "12/8")] == [24, 36, 12, 60, 24]


def test_songs_by_rule_are_heard_as_they_were_composed():
    roles, chords, count = 0, [], 0
    for number in range(6):
        song, parts = rules.compose(number)
        beats = T.METRES[song.metre].beats
        length = 8 * song.bar
        first = {role: T.tidy(notes, length) for role, notes in parts.items()}
        truth = T.tidy_chords(song.chords, length)
        found, _ = analysis.chords(np.concatenate(list(first.values())), 8, beats)
        chords.append(np.mean(at_each(found, length) // 12 == at_each(truth, length) // 12))
        for role, notes in first.items():
            if len(notes) > 3:
                roles += analysis.role(notes, 8, beats)[0] == role
                count += 1
    assert np.mean(chords) > 0.6
    assert roles / count > 0.7


def at_each(changes, length):
    force = np.searchsorted(changes[:, 0], np.arange(length), "right") - 1
    return changes[force, 1]


def test_a_file_that_says_nothing_is_measured_and_what_is_assumed_is_marked():
    found = extract(foreign([chord_notes("C Am F G C F G C", 48)]))
    by_name = {one.name: one for one in found.keywords}
    assert by_name["key"].value == "C major"
    assert (by_name["key"].source, by_name["chords"].source, by_name["role"].source) == ("measured",) * 3
    assert 0 < by_name["key"].confidence < 1
    assert by_name["chords"].value == "C Am F G C F G C"
    assert (by_name["bars"].value, by_name["bars"].confidence) == (8, 1)
    for name, value in (("metre", "4/4"), ("bpm", 120)):
        assert (by_name[name].value, by_name[name].source, by_name[name].confidence) == (value, "assumed", None)
    assert words.parse(found.text)["chords"] == "C Am F G C F G C"


def test_what_a_file_says_wins_over_its_notes_and_a_doubt_is_a_remark():
    notes = chord_notes("C F G7 C C F G7 C", 48)
    chords = np.array([[0, *harmony.parse_chord("Am7/G")], [192, *harmony.parse_chord("F")]])
    midi = file([("sub_melody", 40, notes)], key="F# minor".replace("F#", "Gb"), chords=chords, bpm=83.5)
    found = extract(midi)
    by_name = {one.name: one for one in found.keywords}
    assert all(by_name[name].source == "file" for name in ("key", "chords", "role", "instrument", "bpm", "metre"))
    assert all(by_name[name].confidence == 1 for name in ("key", "chords", "role"))
    assert by_name["key"].value == "Gb minor"
    assert by_name["chords"].value == "Am7/G F"
    assert (by_name["role"].value, by_name["instrument"].value, by_name["bpm"].value) == ("sub_melody", "violin", 83.5)
    assert any("sound more like C major" in remark for remark in found.remarks)


def test_of_several_tracks_the_melody_is_described_and_harmony_is_everybodys():
    melody = rows(*((12 * n, 12, 72 + n % 5, 90) for n in range(32)))
    midi = file([("piano", 0, chord_notes("C Am F G", 96)), ("Melody", 73, melody)])
    found = extract(midi)
    assert (found.track, found.tracks) == (2, ["piano", "Melody"])
    assert (found.value("role"), found.value("instrument")) == ("main_melody", "flute")
    assert "track 2 of 2 is described" in found.remarks[-1]
    other = extract(midi, 1)
    assert (other.value("role"), other.value("min_velocity")) == ("accompaniment", 70)
    assert other.value("chords") == found.value("chords")
    with pytest.raises(UserError, match=r"no track 3 with notes; it has 1 \(piano\), 2 \(Melody\)"):
        extract(midi, 3)


def test_files_without_notes_and_of_drums_alone_are_refused():
    with pytest.raises(UserError, match=r"has no notes$"):
        extract(Midi.of(symusic.Score(480)))
    with pytest.raises(UserError, match="no notes but drums"):
        extract(foreign([rows((0, 12, 38, 90))], is_drum=True))


def test_metres_and_tempos_that_change_or_are_not_known_are_remarked():
    made = symusic.Score(480)
    for at, above, below in ((0, 7, 8), (7 * 240, 3, 4)):
        made.time_signatures.append(symusic.TimeSignature(at, above, below))
    for at, bpm in ((0, 90), (960, 120)):
        made.tempos.append(symusic.Tempo(at, qpm=bpm))
    track = symusic.Track(name="", program=0)
    track.notes.append(symusic.Note(0, 480, 60, 70))
    track.notes.append(symusic.Note(4000, 480, 64, 70))
    made.tracks.append(track)
    found = extract(Midi.of(made))
    told = " | ".join(found.remarks)
    assert "7/8 is no metre that is known" in told
    assert "the metre changes to 3/4" in told
    assert "the tempo changes between 90 and 120 bpm" in told
    assert (found.value("bpm"), found.value("metre")) == (90, "4/4")


def test_a_marker_called_end_in_the_midst_of_a_file_does_not_end_it():
    midi = file([("x", 0, chord_notes("C F G C", 96))], bars=2)
    assert extract(midi).value("bars") == 8


def test_a_file_longer_than_a_clip_leaves_bars_and_chords_out_of_the_text_and_says_so():
    long = rows(*((48 * n, 12, 60 + n % 7, 70) for n in range(40)))
    found = extract(foreign([long]))
    assert found.value("bars") == 40
    assert not {"bars", "chords"} & set(words.parse(found.text))
    assert any("left out of the text" in remark for remark in found.remarks)
    with pytest.raises(UserError, match="at most 4,096 are analysed"):
        extract(foreign([rows((0, 12, 60, 70), (48 * 5000, 12, 60, 70))]))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, T.NO_CHORD)), min_size=1, max_size=6))
def test_a_progression_spread_again_is_the_changes_it_was_made_of(changes):
    from daybreak.systems.music.request import spread

    chords = T.tidy_chords(np.array([(12 * a, c, c // 12 % 12 if c < T.NO_CHORD else 0) for a, c in changes]), 192)
    text = progression(chords, 4, 4)
    assert spread(text, 4, "4/4").tolist() == chords.tolist()
    assert words.parse(words.canonical({"bars": 4, "chords": text}))["chords"] == text


@pytest.fixture(scope="module")
def music():
    return Music(MusicConfig(net=NET))


def test_more_like_this_what_is_extracted_from_a_clip_can_be_composed_again(music):
    midi = (
        music.compose(Compose(bpm=83, key="C minor", bars=4, chords="Cm Ab Eb Bb", role="bass", seed=3)).clips[0].midi
    )
    found = extract(midi)
    said = words.parse(found.text)
    assert {name: said[name] for name in ("bpm", "key", "bars", "chords", "role")} == {
        "bpm": 83, "key": "C minor", "bars": 4, "chords": "Cm Ab Eb Bb", "role": "bass",
    }  # fmt: skip
    again = music.compose(Compose(text=found.text, seed=4)).clips[0]
    lines = {line.name: line for line in again.report}
    assert all(lines[name].holds for name in ("bpm", "key", "metre", "bars", "role", "chords", "min_velocity"))


def test_check_says_asked_and_got_of_our_own_clip_and_finds_it_changed(music):
    clip = music.compose(Compose(bpm=83, key="C minor", bars=4, seed=5)).clips[0]
    found = music.check(Check(midi=clip.midi))
    assert (found.ours, found.model, found.seed, found.clip) == (True, music.name, 5, 0)
    report = {line.name: (line.asked, line.got, line.holds, line.drawn) for line in clip.report}
    told = {line.name: (line.asked, line.got, line.holds, line.drawn) for line in found.lines}
    assert {name: told[name] for name in told if name != "genre"} == {
        name: report[name] for name in report if name != "genre"
    }
    assert "no index" in found.remarks[-1]
    assert found.shared is None
    edited = mido.MidiFile(file=io.BytesIO(clip.midi.to_bytes()), charset="utf-8")
    for track in edited.tracks:
        for message in track:
            if message.type == "set_tempo":
                message.tempo = mido.bpm2tempo(99)
    data = io.BytesIO()
    edited.save(file=data)
    changed = music.check(Check(midi=Midi.from_bytes(data.getvalue())))
    (line,) = [line for line in changed.lines if line.name == "bpm"]
    assert (line.asked, line.holds) == ("83", False)
    assert changed.holds is False


def test_a_text_event_that_is_not_ours_is_not_taken_for_a_request(music):
    notes = chord_notes("C F G C", 48)
    for text in ("", "hello", "[1, 2]", "{}", json.dumps({"made by": "daybreak music", "keywords": 3})):
        found = music.check(Check(midi=file([("x", 0, notes)], bars=4, text=text)))
        assert not found.ours
        assert found.holds is None
        assert "not one of ours" in found.remarks[0]
        assert all(line.asked is None for line in found.lines)
    assert about(file([("x", 0, notes)], bars=4, text="[1, 2]")) is None


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_file(), reason="DAYBREAK_DATA has no music/pop909.tar.gz")
def test_on_real_songs_keys_chords_and_roles_agree_with_the_annotation_as_often_as_the_docs_say():
    drafts = list(ingest(DATA))[::120]
    keys, roles, chords = [], [], []
    for draft in drafts:
        made = clips(as_item(draft, "train"), lambda part, draft=draft: draft.parts[part])
        for n, row in enumerate(made["keywords"]):
            beats = T.METRES[str(T.value(row, "metre"))].beats
            notes, truth, bars = T.decode(made["tokens"][made["offsets"][n] : made["offsets"][n + 1]], beats)
            keys.append(analysis.key(notes)[0] == T.value(row, "key"))
            roles.append(analysis.role(notes, bars, beats)[0] == T.value(row, "role"))
            if T.value(row, "role") == "accompaniment" and len(truth):
                length = bars * beats * T.PER_BEAT
                heard, true = (at_each(c, length) // 12 for c in (analysis.chords(notes, bars, beats)[0], truth))
                chords.append(np.mean(heard == true))
    assert 0.35 < np.mean(keys) < 0.7
    assert np.mean(roles) > 0.8
    assert np.mean(chords) > 0.85
