import random
import re
import time
from itertools import permutations
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from daybreak.cli import main
from daybreak.errors import UserError
from daybreak.systems.music import harmony, instruments, vocabulary, words
from daybreak.systems.music import tokens as T
from daybreak.systems.music.model import Music, MusicConfig
from daybreak.systems.music.net import NetConfig
from daybreak.systems.music.request import Compose, asked, spread
from daybreak.systems.music.words import canonical, parse

JAZZ = {"bpm": 80, "key": "C minor", "genre": "jazz", "role": "main_melody"}


# What texts mean.


@pytest.mark.parametrize(
    "text",
    [
        "BPM 80, jazz, C minor, main melody",
        "재즈, BPM 80, 다단조, 메인 멜로디",
        "main melody C minor jazz 80bpm",
        "bpm=80, genre=jazz, key=C minor, role=main_melody",
        "track_role: main_melody; audio_key: Cm; tempo: 80; genre: jazz",
        "please make me a jazz main melody at 80 bpm in C minor",
        "템포 80의 다 단조 재즈풍 메인멜로디를 만들어 주세요",
        "장르는 재즈로, 키는 C단조로, BPM을 80으로, 역할은 주선율로 해줘",
        "jazz / 80 bpm / c minor / melody",
        "- jazz\n- 80 bpm\n- C-minor\n- melody",
        "jazz | 80 bpm | C minor | melody",
        "".join(chr(ord(c) + 0xFEE0) for c in "JAZZ,BPM") + "\u3000\uff18\uff10\uff0cC minor, melody",
        "JAZZ 80 BPM C MINOR MAIN MELODY",
    ],
)
def test_one_request_in_many_words_is_one_request(text):
    assert parse(text) == JAZZ


def test_the_example_of_the_interview_is_one_request_in_either_order():
    wanted = {"bpm": 80, "genre": "jazz"}
    assert parse("BPM 80, 재즈 장르 음악 만들어줘") == wanted
    assert parse("재즈 장르, BPM 80 음악을 만들어줘") == wanted
    assert parse("jazz BPM 80") == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", {}),
        ("please make some music", {}),
        ("음악 만들어줘", {}),
        ("♩=120", {"bpm": 120}),
        ("8 bars", {"bars": 8}),
        ("eight-bar clip", {"bars": 8}),
        ("네마디짜리 곡, 삼박자", {"bars": 4, "metre": "3/4"}),
        ("number of measures: 16", {"bars": 16}),
        ("3/4 time", {"metre": "3/4"}),
        ("4분의 3박자로", {"metre": "3/4"}),
        ("팔분의 육박자", {"metre": "6/8"}),
        ("waltz time", {"metre": "3/4"}),
        ("a waltz", {"genre": "waltz"}),
        ("velocity 60-90", {"min_velocity": 60, "max_velocity": 90}),
        ("velocity from 60 to 90, 8 bars", {"min_velocity": 60, "max_velocity": 90, "bars": 8}),
        ("velocity between 60 and 90", {"min_velocity": 60, "max_velocity": 90}),
        ("세기 60에서 90까지", {"min_velocity": 60, "max_velocity": 90}),
        ("최소 세기 60", {"min_velocity": 60}),
        ("velocity at most 90", {"max_velocity": 90}),
        ("chords Am G F E", {"chords": "Am G F E"}),
        ("코드 진행은 Am-G-F-E로 해줘", {"chords": "Am G F E"}),
        ("Am | G | F | E", {"chords": "Am G F E"}),
        ("| am | g/b | f | e7 |", {"chords": "Am G/B F E7"}),
        ("Am G F E chords, key C", {"chords": "Am G F E", "key": "C major"}),
        ("chords am f c g at 80 bpm", {"chords": "Am F C G", "bpm": 80}),
        ('chords="Am, G, F, E", 80 bpm', {"chords": "Am G F E", "bpm": 80}),
        ("chords [C+ F♯m7b5 N]", {"chords": "Caug Gbm7b5 N"}),
        ("in F#", {"key": "Gb major"}),
        ("C sharp minor", {"key": "Db minor"}),
        ("올림바장조", {"key": "Gb major"}),
        ("내림 나 장조로", {"key": "Bb major"}),
        ("나 단조", {"key": "B minor"}),
        ("C 마이너", {"key": "C minor"}),
        ("in an A minor key", {"key": "A minor"}),
        ("bass", {"role": "bass"}),
        ("bass guitar", {"instrument": "finger_bass"}),
        ("베이스 기타로", {"instrument": "finger_bass"}),
        ("instrument bass", {"instrument": "acoustic_bass"}),
        ("pad", {"role": "pad"}),
        ("synth pad", {"instrument": "new_age_pad"}),
        ("new age, pad", {"genre": "new_age", "role": "pad"}),
        ("low", {"pitch_range": "low"}),
        ("low density", {"density": "sparse"}),
        ("medium density, middle register", {"density": "medium", "pitch_range": "mid"}),
        ("중간 음역, 보통 밀도", {"density": "medium", "pitch_range": "mid"}),
        ("swing rhythm", {"rhythm": "triplet"}),
        ("jazz-guitar", {"instrument": "jazz_guitar"}),
        ("jazz, guitar", {"genre": "jazz", "instrument": "nylon_guitar"}),
        ("instrument 73", {"instrument": "flute"}),
        ("electric piano 2 8 bars", {"instrument": "electric_piano_2", "bars": 8}),
        ("첼로와 오보에", None),
        ("오보에로 연주하는 곡", {"instrument": "oboe"}),
        ("tempo 80 bpm 8 bars", {"bpm": 80, "bars": 8}),
        ("bars 8 bpm 80", {"bpm": 80, "bars": 8}),
        ("bpm 80 tempo 80 80 bpm", {"bpm": 80}),
        ("bpm 80 bpm 80 bpm 80", {"bpm": 80}),
    ],
)
def test_words_units_and_rules(text, wanted):
    if wanted is None:
        with pytest.raises(UserError, match="two values of instrument: '첼로와' at column 1 and '오보에' at column 5"):
            parse(text)
    else:
        assert parse(text) == wanted


# What is refused.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bpm 80, jaz", "unknown word 'jaz' at column 9; did you mean jazz"),
        ("80 bpm 제즈", "unknown word '제즈' at column 8; did you mean 재즈"),
        ("main meldoy", "unknown word 'main' at column 1; did you mean main melody"),
        ("jazz 🎵🎶", "unknown word '🎵🎶' at column 6; no known word is near it; a request reads like"),
        ("genre jaz", "'genre' at column 1 wants a value: pop, jazz.*not 'jaz' .column 7.; did you mean jazz"),
        ("BPM 80, jazz, 90 bpm", "two values of bpm: 'BPM 80' at column 1 and '90 bpm' at column 15; say one"),
        ("jazz 재즈 팝", "two values of genre: 'jazz' at column 1 and '팝' at column 9"),
        ("velocity 90-60", "min_velocity 90 is above max_velocity 60: 'velocity 90-60' at column 1"),
        ("max velocity 60, min velocity 90", "'min velocity 90' at column 18, 'max velocity 60' at column 1"),
        ("velocity 60", "may be the softest note or the loudest; write a range"),
        ("bpm 500", "bpm is 20 to 300, not '500' at column 5"),
        ("bpm -5", "bpm is 20 to 300, not '-5' at column 5"),
        ("bpm 80-90", "bpm is one whole number, not '80-90' at column 5"),
        ("80.5 bpm", "bpm is a whole number, not '80.5' at column 1"),
        ("bpm, 80", "'bpm' at column 1 wants a whole number, 20 to 300"),
        ("33 bars", f"bars is 1 to {T.MOST_BARS}, not '33' at column 1"),
        ("velocity 0-90", "min_velocity is 1 to 127, not '0' at column 10"),
        ("instrument 128", "instrument is 0 to 127, not '128' at column 12"),
        ("instrument " + "9" * 5000, "instrument is 0 to 127"),
        ("7/8", "unknown metre '7/8' at column 1; did you mean"),
        ("6박자", "unknown metre '6박자' at column 1"),
        ("jazz 80", "'80' at column 6 belongs to no keyword"),
        ("chords", "'chords' at column 1 wants a value"),
        ("chords please", "'chords' at column 1 wants a value"),
        ("chords C " + "Am " * 160, "a progression has at most 160 chords, one a beat, not 161"),
        ("medium", "may be pitch_range=mid or density=medium; say which"),
        ("swing", "may be genre=jazz or rhythm=triplet"),
        ("lead", "may be instrument=saw_lead or role=main_melody"),
        ("jazz guitar", "may be instrument=jazz_guitar, or 'jazz' and 'guitar'; write 'jazz-guitar' or 'jazz, guitar'"),
        ("재즈 기타", "may be instrument=jazz_guitar, or '재즈' and '기타'"),
        ("jazz in A", "'A' at column 9 may be the article or the key; write 'A major'"),
        ("A Cm piece", "'A Cm' at column 1 may be two chords, or an article and one"),
        ("a minor piece", "may be in the key of A or in any other"),
        ("chords Am G E minor", "'E minor' at column 13 may be the key or the chord Em"),
        ("chords am g a jazz", "'a' at column 13 may be the article or a chord"),
        ("chords Am G F E, C", "'C' at column 18 may be the key, or a chord of 'chords Am G F E'"),
        ("C, chords Am G F E", "'C' at column 1 may be the key, or a chord of 'chords Am G F E'"),
        ("Am, G, F, E", "two values of key.*write a progression as"),
        ("no piano", "'no' at column 1 is no keyword: a request says what is to be there"),
        ("jazz or pop", "'or' at column 6 is no keyword"),
        ("slow jazz", "'slow' at column 1 is no keyword: say the tempo as a number"),
        ("low density high", "'density' at column 5 may belong to 'low' before it or to what follows; write a comma"),
        ("3/4 time waltz", "'time' at column 5 may belong to '4' before it or to what follows"),
        ("bass instrument piano", "'instrument' at column 6 may belong to 'bass' before it"),
        ("drums", "no drums are composed"),
        ("minor", "say its tonic too"),
        ("foo=3", "unknown word 'foo' at column 1"),
        ("jazz=3", "'jazz' before the '=' at column 5 is no keyword; they are bpm, key"),
        ("x" * 10_001, "the text has 10,001 characters; at most 10,000 are read"),
        ("\x00", r"unknown word '\\x00' at column 1"),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_what_would_work(text, message):
    with pytest.raises(UserError, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        ("jazz, chords Am Gx F, 80 bpm", "Gx", "  Am Gx F"),
        ("Am | Gmaj13 | F | E", "Gmaj13", "  Am Gmaj13 F E"),
        ('chords="Am, jazz, F"', "jazz", "  Am jazz F"),
        ("chords Am 가 F", "가", "  Am 가"),
        ("chords " + "Am " * 20 + "Hm", "Hm", "  ... Am Am Am Am Am Am Am Am Hm"),
    ],
)
def test_a_bad_chord_has_a_caret_under_it(text, name, line):
    with pytest.raises(UserError) as caught:
        parse(text)
    first, shown, caret = str(caught.value).split("\n")
    assert name in first
    assert shown.startswith(line)
    wide = 2 if name == "가" else len(name)
    assert caret == " " * (len(line[: line.rindex(name)])) + "^" * wide


def test_the_caret_is_under_a_bad_chord_of_the_field_too():
    with pytest.raises(ValidationError, match=r"\n  Am Hm F\n     \^\^"):
        Compose(chords="Am, Hm, F")


# Every word of the vocabulary.


def test_every_form_is_read_after_the_name_of_its_keyword_and_alone_or_refused_with_its_readings():
    for keyword, values in vocabulary.VALUES.items():
        for value, forms in values.items():
            for form in forms:
                assert parse(f"{keyword}={form}") == {keyword: value}, form
                assert parse(f"{form} {vocabulary.NAMES[keyword][0]}") == {keyword: value}, form
                readings = vocabulary.READINGS[vocabulary.folded(form)]
                try:
                    alone = parse(form)
                except UserError as error:
                    assert " may be " in str(error), form  # noqa: PT017
                else:
                    assert alone == {keyword: value} or len(readings) > 1, form


def test_every_name_takes_its_value():
    examples = {"bpm": "80", "bars": "8", "key": "C minor", "chords": "Am G", "metre": "3/4", "velocity": "60-90",
                "min_velocity": "60", "max_velocity": "90"}  # fmt: skip
    for keyword, names in vocabulary.NAMES.items():
        value = examples.get(keyword) or next(iter(vocabulary.VALUES[keyword].values()))[0]
        wanted = parse(f"{names[0]}={value}")
        assert wanted
        for name in names:
            assert parse(f"{name} {value}") == wanted, name
            assert parse(f"{name}: {value}") == wanted, name


def test_every_key_is_read_in_both_languages():
    letters = dict(zip("CDEFGAB", "다라마바사가나", strict=True))
    for key in T.KEYS:
        root, mode = key.split()
        korean = ("내림" if root.endswith("b") else "") + letters[root[0]] + ("장조" if mode == "major" else "단조")
        assert parse(key) == parse(korean) == parse(f"key {root}{'m' if mode == 'minor' else ''}") == {"key": key}


def test_the_lists_do_not_overlap_and_hold_the_models_values():
    names, forms, reasons = set(vocabulary.NAME_OF), set(vocabulary.READINGS), set(vocabulary.REASONS)
    fillers = vocabulary.FILLERS
    assert not names & forms
    assert not names & reasons
    assert not forms & reasons
    assert not fillers & (names | forms | reasons)
    assert all(value == vocabulary.DECIDED.get(form, value) or len(vocabulary.READINGS[form]) > 1
               for form, value in vocabulary.DECIDED.items())  # fmt: skip
    for keyword in ("genre", "role", "metre", "pitch_range", "density", "rhythm"):
        assert set(vocabulary.VALUES[keyword]) == set(T.FIELDS[keyword])
    assert set(vocabulary.VALUES["instrument"]) == set(instruments.PROGRAMS)
    spoken = {form for forms in vocabulary.NAMES.values() for form in forms} | fillers
    spoken |= {form for values in vocabulary.VALUES.values() for forms in values.values() for form in forms}
    chords = [word for form in spoken for word in form.split() if word != "a" and harmony_reads(word)]
    assert chords == []
    fields = [name for name in Compose.model_fields if name in words.KEYWORDS]
    assert tuple(fields) == words.KEYWORDS


def harmony_reads(word: str) -> bool:
    try:
        harmony.parse_chord(word)
    except UserError:
        return False
    return True


def test_the_documented_vocabulary_is_the_one_that_is_read():
    page = (Path(__file__).parents[2] / "docs" / "music.md").read_text()
    assert vocabulary.tables() in page, "print it anew: python -m daybreak.systems.music.vocabulary"


# Order, and one canonical text.

PHRASES = {
    "bpm": ["bpm 80", "80 bpm", "템포 80", "80bpm", "tempo of 80", "BPM은 80으로", "bpm=80"],
    "key": ["C minor", "다단조", "key of C minor", "C단조로", "key=Cm", "in c minor"],
    "genre": ["jazz", "재즈 장르", "genre: jazz", "재즈풍의 음악", "a jazz piece"],
    "instrument": ["alto sax", "알토 색소폰으로", "instrument=alto_sax", "played on the alto saxophone"],
    "role": ["main melody", "메인 멜로디", "role=main_melody", "주선율"],
    "metre": ["3/4", "4분의 3박자", "waltz time", "3박자", "metre 3/4"],
    "bars": ["8 bars", "8마디", "여덟 마디", "bars=8", "eight measures"],
    "chords": ["chords Cm Ab Fm G7", "코드 Cm-Ab-Fm-G7", "Cm | Ab | Fm | G7", 'chords="Cm Ab Fm G7"'],
    "pitch_range": ["high", "높은 음역", "pitch range high", "고음"],
    "min_velocity": ["min velocity 60", "최소 세기 60", "min_velocity=60"],
    "max_velocity": ["max velocity 90", "최대 세기 90", "90 max velocity"],
    "density": ["sparse", "low density", "density=sparse", "성긴"],
    "rhythm": ["triplet", "스윙 리듬", "rhythm: triplet", "셋잇단음표"],
}
WANTED = {
    "bpm": 80, "key": "C minor", "genre": "jazz", "instrument": "alto_sax", "role": "main_melody", "metre": "3/4",
    "bars": 8, "chords": "Cm Ab Fm G7", "pitch_range": "high", "min_velocity": 60, "max_velocity": 90,
    "density": "sparse", "rhythm": "triplet",
}  # fmt: skip


def test_a_hundred_permutations_of_one_request_are_one_request():
    phrases = [said[0] for said in PHRASES.values()]
    draw = random.Random(0)
    seen = set()
    while len(seen) < 100:
        draw.shuffle(phrases)
        seen.add(", ".join(phrases))
    assert {canonical(parse(text)) for text in seen} == {canonical(WANTED)}


def test_every_permutation_of_phrases_without_commas_is_one_request():
    for phrases in permutations(["jazz", "BPM 80", "C minor", "8 bars", "piano"]):
        assert parse(" ".join(phrases)) == parse("jazz, BPM 80, C minor, 8 bars, piano")


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_any_phrases_for_the_keywords_in_any_order_say_the_same(data):
    chosen = data.draw(st.lists(st.sampled_from(sorted(PHRASES)), unique=True))
    phrases = [data.draw(st.sampled_from(PHRASES[keyword])) for keyword in chosen]
    part = data.draw(st.sampled_from([", ", "; ", "\n", ". ", ",", "、"]))
    assert parse(part.join(data.draw(st.permutations(phrases)))) == {k: v for k, v in WANTED.items() if k in chosen}


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_phrases_need_no_commas_unless_a_name_stands_between_two_values(data):
    # A progression goes on while chords follow; it wants its comma.
    chosen = data.draw(st.lists(st.sampled_from(sorted({*PHRASES} - {"chords"})), unique=True))
    text = " ".join(data.draw(st.sampled_from(PHRASES[keyword])) for keyword in chosen)
    try:
        said = parse(text)
    except UserError as error:
        assert "may belong to" in str(error)  # noqa: PT017
        assert re.search("(low|높은|waltz)", text)
    else:
        assert said == {k: v for k, v in WANTED.items() if k in chosen}


chord = st.builds(
    lambda c, b: harmony.chord_name(c, b if c != T.NO_CHORD else 0), st.integers(0, T.NO_CHORD), st.integers(0, 11)
)
whole = st.integers(1, 127)
said_of = {
    "bpm": st.integers(20, 300), "bars": st.integers(1, T.MOST_BARS), "min_velocity": st.integers(1, 64),
    "max_velocity": st.integers(64, 127), "key": st.sampled_from(T.KEYS), "genre": st.sampled_from(T.GENRES),
    "instrument": st.sampled_from(instruments.PROGRAMS), "role": st.sampled_from(T.ROLES),
    "metre": st.sampled_from(sorted(T.METRES)), "pitch_range": st.sampled_from(T.RANGES),
    "density": st.sampled_from(T.DENSITIES), "rhythm": st.sampled_from(T.RHYTHMS),
    "chords": st.lists(chord, min_size=1, max_size=12).map(" ".join),
}  # fmt: skip
requests = st.fixed_dictionaries({}, optional=said_of)


@given(requests)
@settings(max_examples=50, deadline=None)
def test_a_canonical_text_says_its_request(said):
    assert parse(canonical(said)) == said
    assert canonical(parse(canonical(said))) == canonical(said)


@given(requests, st.data())
@settings(max_examples=50, deadline=None)
def test_text_and_fields_are_one_request_however_they_share_it(said, data):
    by_text = {name: said[name] for name in said if data.draw(st.booleans())}
    twice = {name for name in by_text if data.draw(st.booleans())}
    fields = {name: value for name, value in said.items() if name not in by_text or name in twice}
    both = asked(Compose(text=canonical(by_text), **fields))
    assert both == asked(Compose(**said))
    assert list(both) == list(asked(Compose(**said)))


vocabulary_words = st.sampled_from(
    sorted(
        {form for forms in vocabulary.NAMES.values() for form in forms}
        | {form for v in vocabulary.VALUES.values() for forms in v.values() for form in forms}
        | vocabulary.FILLERS | vocabulary.REASONS.keys() | set(vocabulary.SUFFIXES) | {*vocabulary.NUMBERS}
    )
)  # fmt: skip
signs = st.sampled_from(
    [" ", ", ", "-", "/", "=", ":", "|", "~", " - ", '"', "", "_", "\n", "'", "(", ")", "+", ".", "#"]
)
pieces = st.one_of(
    vocabulary_words, chord, st.sampled_from(T.KEYS), st.integers(-5, 400).map(str), st.text(max_size=3),
    st.sampled_from(["A", "a", "am", "C", "60-90", "3/4", "to", "and", "분의", "박자"]),
)  # fmt: skip
sentences = st.lists(st.tuples(pieces, signs)).map(lambda parts: "".join(piece + sign for piece, sign in parts))


@given(st.one_of(st.text(), sentences))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_request_or_a_user_error_and_what_is_read_round_trips(text):
    try:
        said = parse(text)
    except UserError as error:
        assert str(error)  # noqa: PT017
        return
    assert parse(canonical(said)) == said
    assert asked(Compose(text=text)) == said == asked(Compose(**said))


@pytest.mark.parametrize(
    "piece",
    ["a ", "A ", "By ",
     "jazz ", "음악을 ", "음악으로", "으로", "9", "-", "Am|", "Am ", "chords ", "🎵", "x", "C", "bpm 80 ",
     "bpm of ", "of ", "한 ", "=", "'", "C#", "C/", "velocity 60-90 ", "i'", "|", "\u200b", "ᄀ", "\n", "no", "A-"],
)  # fmt: skip
def test_ten_thousand_characters_are_read_in_a_moment(piece):
    started = time.process_time()
    try:
        parse((piece * 10_000)[:10_000])
    except UserError as error:
        assert len(str(error)) < 500  # noqa: PT017
    assert time.process_time() - started < 5


# Text in requests.


@pytest.fixture(scope="module")
def music():
    torch.manual_seed(0)
    return Music(MusicConfig(net=NetConfig(layers=1, width=32, heads=2, inner=64, context=128)))


def test_text_in_any_order_and_fields_give_the_same_bytes(music):
    fields = Compose(bpm=83, key="C minor", bars=2, metre="3/4", instrument="violin", chords="Cm Ab Fm", seed=3)
    clip = music.compose(fields).clips[0]
    phrases = ["83 bpm", "다단조", "두 마디", "3/4", "바이올린", "코드 Cm-Ab-Fm"]
    for order in (phrases, phrases[::-1]):
        again = music.compose(Compose(text=", ".join(order), seed=3)).clips[0]
        assert again.midi.to_bytes() == clip.midi.to_bytes()
        assert again.report == clip.report
    mixed = music.compose(Compose(text="바이올린, 3/4", bpm=83, key="C minor", bars=2, chords="Cm Ab Fm", seed=3))
    assert mixed.clips[0].midi.to_bytes() == clip.midi.to_bytes()


def test_text_and_a_field_that_disagree_are_both_quoted():
    with pytest.raises(ValidationError, match="two values of bpm: 90 by its own name, and 'BPM 80' at column 7 of the"):
        Compose(text="jazz, BPM 80", bpm=90)
    with pytest.raises(ValidationError, match="min_velocity 100 is above max_velocity 90"):
        Compose(text="max velocity 90", min_velocity=100)
    with pytest.raises(ValidationError, match="at most 10000"):
        Compose(text="a " * 5001)
    assert asked(Compose(text="jazz, BPM 80", bpm=80)) == {"bpm": 80, "genre": "jazz"}


@pytest.mark.parametrize(
    ("text", "error", "lines"),
    [
        ("80 bpm, jaz", "daybreak: music compose: --text: unknown word 'jaz' at column 9", 1),
        ("80 bpm, bpm 90", "daybreak: music compose: --text: two values of bpm: '80 bpm' at column 1", 1),
        ("chords Am Hx", "daybreak: music compose: --text: chord 2 of 2: 'Hx' is not a chord", 3),
        ("x" * 10_001, "daybreak: music compose: --text takes text at most 10000 long", 1),
    ],
)
def test_the_command_ends_with_two_and_one_line_or_the_caret(text, error, lines, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["music", "compose", "--text", text])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(error)
    assert said.count("\n") == lines
    assert re.fullmatch(r"  Am Hx\n     \^\^\n", said.split("\n", 1)[1]) or lines == 1


def test_a_progression_has_room_for_a_chord_a_beat():
    most = " ".join(["C", "G"] * 80)
    assert spread(asked(Compose(text=f"chords {most}"))["chords"], T.MOST_BARS, "5/4").shape == (160, 3)
