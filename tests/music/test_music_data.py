import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import symusic
from music_songs import as_item

from daybreak.errors import UserError
from daybreak.lab.lake import Broken, Draft
from daybreak.media.midi import Midi
from daybreak.systems.music import rules
from daybreak.systems.music import tokens as T
from daybreak.systems.music.data import clips, embedded, folder, ingest


def made(draft):
    return clips(as_item(draft, "train"), lambda part: draft.parts[part])


def streams(arrays):
    for n in range(len(arrays["keywords"])):
        yield arrays["keywords"][n], arrays["tokens"][arrays["offsets"][n] : arrays["offsets"][n + 1]]


def test_embedded_songs_are_the_same_each_time_cover_the_field_and_are_marked():
    drafts = list(embedded())
    assert [d.parts for d in drafts[:3]] == [d.parts for d in list(rules.songs(3))]
    assert len(drafts) == rules.SONGS
    assert len({d.group for d in drafts}) == len(drafts)
    assert all(d.labels["composed"] == "by rule" for d in drafts)
    rows = np.concatenate([made(d)["keywords"] for d in drafts])
    seen = {name: {T.value(row, name) for row in rows} for name in ("role", "metre", "rhythm", "genre", "key")}
    assert seen["role"] == set(T.ROLES)
    assert {"4/4", "3/4", "6/8"} <= seen["metre"]
    assert seen["rhythm"] == {"standard", "triplet"}
    assert len(seen["genre"]) == len(rules.STYLES)
    assert len(seen["key"]) >= 12


@pytest.mark.parametrize("number", range(8))
def test_what_was_composed_is_what_is_extracted(number):
    song, parts = rules.compose(number)
    draft = list(rules.songs(number + 1))[number]
    found = list(streams(made(draft)))
    beats = T.METRES[song.metre].beats
    for role, notes in parts.items():
        first = T.tidy(notes[notes[:, 0] < 8 * song.bar], 8 * song.bar)
        matching = [(r, s) for r, s in found if T.value(r, "role") == role]
        row, stream = matching[0]
        back, chords, bars = T.decode(stream, beats)
        assert bars == 8
        assert np.array_equal(back, first)
        assert np.array_equal(chords, T.tidy_chords(song.chords, 8 * song.bar))
        assert T.value(row, "key") == song.key
        assert T.value(row, "metre") == song.metre
        assert T.value(row, "bpm") == T.tempo(song.bpm)


def test_broken_files_are_reported_and_the_rest_goes_on(tmp_path):
    good = next(iter(rules.songs(1))).parts["mid"]
    (tmp_path / "b").mkdir()
    (tmp_path / "good.mid").write_bytes(good)
    (tmp_path / "b" / "GOOD.MIDI").write_bytes(good)
    (tmp_path / "empty.mid").write_bytes(b"")
    (tmp_path / "cut.mid").write_bytes(good[:200])
    (tmp_path / "text.mid").write_bytes(b"hello")
    (tmp_path / "folder.mid").mkdir()
    with open(tmp_path / "huge.mid", "wb") as file:
        file.truncate(200 * 2**20)
    (tmp_path / "quiet.mid").write_bytes(Midi.of(symusic.Score(480)).to_bytes())
    found = list(ingest(tmp_path))
    assert sorted(d.name for d in found if isinstance(d, Draft)) == ["b/GOOD.MIDI", "good.mid"]
    reasons = {d.name: d.reason for d in found if isinstance(d, Broken)}
    assert set(reasons) == {"empty.mid", "cut.mid", "text.mid", "huge.mid", "quiet.mid"}
    for name, words in (
        ("empty", "empty"),
        ("cut", "truncated"),
        ("text", "not a MIDI"),
        ("huge", "MiB"),
        ("quiet", "no notes"),
    ):
        assert words in reasons[f"{name}.mid"]


def test_a_single_file_and_a_path_that_is_not_there(tmp_path):
    path = tmp_path / "a.mid"
    path.write_bytes(next(iter(rules.songs(1))).parts["mid"])
    (draft,) = ingest(path)
    assert draft.name == "a.mid"
    with pytest.raises(UserError, match="does not exist"):
        list(ingest(tmp_path / "none"))


def test_bars_follow_a_change_of_metre_and_unknown_metres_are_left_out():
    score = symusic.Score(480)
    score.tempos.append(symusic.Tempo(0, 120))
    for time, numerator, denominator in ((0, 4, 4), (8 * 1920, 7, 8), (8 * 1920 + 8 * 1680, 3, 4)):
        score.time_signatures.append(symusic.TimeSignature(time, numerator, denominator))
    track = symusic.Track("Piano", 0, False)
    for n in range(90):
        track.notes.append(symusic.Note(n * 480, 480, 60 + n % 12, 80))
    score.tracks.append(track)
    draft = Draft("a", group="a", parts={"mid": Midi.of(score).to_bytes()})
    found = list(streams(made(draft)))
    assert [T.value(row, "metre") for row, _ in found] == ["4/4", "3/4"]
    assert [T.value(row, "chords") for row, _ in found] == ["without", "without"]
    assert all(T.value(row, "key") is None for row, _ in found)


def test_a_role_is_read_from_a_name_or_program_and_never_guessed():
    assert folder.role("Vocal lead", 0) == "main_melody"
    assert folder.role("SUB MELODY", 0) == "sub_melody"
    assert folder.role("Track 3", 33) == "bass"
    assert folder.role("Track 3", 0) is None


# POP909

DATA = Path(os.environ.get("DAYBREAK_DATA", "")) / "music" / "pop909.tar.gz"
pop909 = pytest.mark.skipif(not DATA.is_file(), reason="DAYBREAK_DATA has no music/pop909.tar.gz")


@pytest.mark.data
@pop909
def test_pop909_is_read_alike_from_archive_tree_and_the_folder_that_holds_it(tmp_path):
    from_archive = list(ingest(DATA))
    assert len(from_archive) == 849
    assert not [d for d in from_archive if isinstance(d, Broken)]
    assert [d.name for d in ingest(DATA.parent)] == [d.name for d in from_archive]
    with tarfile.open(DATA) as archive:
        wanted = [m for m in archive if "/001/" in m.name or m.name.endswith("index.csv")]
        archive.extractall(tmp_path, wanted, filter="data")
    (draft,) = ingest(tmp_path)
    assert draft == from_archive[0]
    assert draft.group == "POP909/001"


@pytest.mark.data
@pop909
def test_pop909_gives_clips_whose_notes_lie_in_their_bars():
    drafts = [d for n, d in enumerate(ingest(DATA)) if n % 40 == 0]
    count = 0
    for draft in drafts:
        for row, stream in streams(made(draft)):
            metre = T.METRES[T.value(row, "metre")]
            notes, chords, bars = T.decode(stream, metre.beats)
            assert bars == T.value(row, "bars")
            assert len(chords)
            assert (notes[:, 0] + notes[:, 1] <= bars * metre.beats * T.PER_BEAT).all()
            assert T.value(row, "key")
            count += 1
    assert count > 20 * len(drafts)


def test_a_song_of_pop909_without_its_beats_is_broken(tmp_path):
    good = next(iter(rules.songs(1))).parts["mid"]
    for song in ("001", "002"):
        (tmp_path / song).mkdir()
        (tmp_path / song / f"{song}.mid").write_bytes(good)
    (tmp_path / "index.csv").write_text(
        "song_id,name,artist,modify_times,num_beats_per_measure,num_quavers_per_beat\n1,a,b,1,2,2\n2,c,d,1,2,2\n"
    )
    beats = "\n".join(f"{n * 0.5} {float(n % 2 == 0)} {float(n % 4 == 0)}" for n in range(140))
    (tmp_path / "002" / "beat_midi.txt").write_text(beats)
    (tmp_path / "002" / "chord_midi.txt").write_text("0.0 4.0 C:maj\n4.0 70.0 A:min7/b7\n")
    (tmp_path / "002" / "key_audio.txt").write_text("0.0 70.0 C:maj\n")
    found = list(ingest(tmp_path))
    assert found[0] == Broken("POP909/001", "has no 001/beat_midi.txt")
    assert isinstance(found[1], Draft)
    assert found[1].labels["title"] == "c"
