"""The words of a request, in English and Korean: names of keywords, their values, and the few words that say nothing.

Forms are matched without case, spaces, hyphens and underscores: "main melody", "Main-Melody" and "main_melody" are one.
This file is a list; `words` reads sentences with it, and `words.table` prints it for the documentation.
"""

from __future__ import annotations

import unicodedata

from daybreak.systems.music import instruments

KEYWORDS = (
    "bpm", "key", "genre", "instrument", "role", "metre", "bars", "chords", "pitch_range", "min_velocity",
    "max_velocity", "density", "rhythm",
)  # fmt: skip
"""The keywords, in the order of a canonical text."""


def folded(form: str) -> str:
    """A form as it is looked up.

    >>> folded("Main Melody")
    'mainmelody'
    """
    return "".join(c for c in unicodedata.normalize("NFC", form).lower() if c not in " -_")


def words_of(text: str) -> list[str]:
    """The words of a text, which reads better than a list of strings."""
    return text.split()


def _forms(text: str) -> tuple[str, ...]:
    return tuple(" ".join(form.split()) for form in text.split(","))


NAMES: dict[str, tuple[str, ...]] = {
    "bpm": _forms("bpm, tempo, beats per minute, ♩, 템포, 비피엠, 빠르기, 속도"),
    "key": _forms("key, audio key, key signature, tonality, 키, 조성"),
    "genre": _forms("genre, 장르"),
    "instrument": _forms("instrument, inst, program, 악기, 음색"),
    "role": _forms("role, track role, 역할, 트랙 역할"),
    "metre": _forms("metre, meter, time signature, time, 박자, 박자표"),
    "bars": _forms(
        "bars, bar, measures, measure, number of bars, number of measures, num measures, 마디, 마디 수, 소절"
    ),
    "chords": _forms(
        "chords, chord, chord progression, chord progressions, progression, changes, 코드, 코드 진행, 화음, 화음 진행, "
        "화성, 화성 진행"
    ),
    "pitch_range": _forms("pitch range, pitch, range, register, 음역, 음역대, 음높이"),
    "min_velocity": _forms(
        "min velocity, minimum velocity, lowest velocity, velocity min, velocity at least, 최소 세기, 최저 세기, "
        "최소 벨로시티, 최저 벨로시티, 세기 최소, 벨로시티 최소"
    ),
    "max_velocity": _forms(
        "max velocity, maximum velocity, highest velocity, velocity max, velocity at most, 최대 세기, 최고 세기, "
        "최대 벨로시티, 최고 벨로시티, 세기 최대, 벨로시티 최대"
    ),
    "density": _forms("density, note density, 밀도, 음 밀도"),
    "rhythm": _forms("rhythm, 리듬"),
    "velocity": _forms("velocity, velocities, velocity range, 세기, 벨로시티, 셈여림"),
}
"""Names by keyword. `velocity` takes a range, which is both velocities."""

_INSTRUMENTS = """
acoustic_grand_piano: grand piano, acoustic piano, 피아노, 그랜드 피아노
bright_acoustic_piano: bright piano, 밝은 피아노
electric_grand_piano: electric grand, 전기 그랜드 피아노, 일렉트릭 그랜드 피아노
honky_tonk_piano: honky tonk, 홍키통크 피아노, 홍키통크
electric_piano_1: electric piano, rhodes, 전기 피아노, 전자 피아노, 일렉트릭 피아노, 로즈 피아노
electric_piano_2: 일렉트릭 피아노 2, 전자 피아노 2
harpsichord: 하프시코드, 쳄발로
clavinet: clavi, 클라비넷
celesta: 첼레스타
glockenspiel: 글로켄슈필
music_box: 뮤직 박스, 오르골
vibraphone: vibes, 비브라폰
marimba: 마림바
xylophone: 실로폰, 자일로폰
tubular_bells: 튜블러 벨, 관종
dulcimer: 덜시머
drawbar_organ: hammond, hammond organ, 오르간, 드로바 오르간, 해먼드 오르간
percussive_organ: 퍼커시브 오르간
rock_organ: 록 오르간, 락 오르간
church_organ: pipe organ, 교회 오르간, 파이프 오르간
reed_organ: 리드 오르간, 풍금
accordion: 아코디언
harmonica: 하모니카
tango_accordion: bandoneon, 탱고 아코디언, 반도네온
nylon_guitar: classical guitar, 기타, 나일론 기타, 클래식 기타
steel_guitar: acoustic guitar, 통기타, 어쿠스틱 기타, 스틸 기타
jazz_guitar: 재즈 기타
clean_guitar: electric guitar, 전기 기타, 일렉트릭 기타, 일렉 기타, 클린 기타
muted_guitar: 뮤트 기타
overdriven_guitar: overdrive guitar, 오버드라이브 기타
distortion_guitar: distorted guitar, 디스토션 기타
guitar_harmonics: 기타 하모닉스
acoustic_bass: upright bass, 베이스, 어쿠스틱 베이스, 업라이트 베이스
finger_bass: bass guitar, electric bass, 베이스 기타, 일렉트릭 베이스, 일렉 베이스, 핑거 베이스
pick_bass: picked bass, 픽 베이스
fretless_bass: 프렛리스 베이스
slap_bass_1: slap bass, 슬랩 베이스
slap_bass_2: 슬랩 베이스 2
synth_bass_1: synth bass, 신스 베이스
synth_bass_2: 신스 베이스 2
violin: 바이올린
viola: 비올라
cello: 첼로
contrabass: double bass, 콘트라베이스, 더블 베이스
tremolo_strings: 트레몰로 스트링
pizzicato_strings: pizzicato, 피치카토 스트링, 피치카토
harp: orchestral harp, 하프
timpani: 팀파니
string_ensemble_1: string ensemble, 스트링, 스트링스, 현악, 현악기, 현악 합주
string_ensemble_2: slow strings, 스트링 2
synth_strings_1: synth strings, 신스 스트링
synth_strings_2: 신스 스트링 2
choir_aahs: 합창, 합창단, 콰이어
voice_oohs: voice, 보이스
synth_voice: synth choir, 신스 보이스
orchestra_hit: 오케스트라 히트
trumpet: 트럼펫
trombone: 트롬본
tuba: 튜바
muted_trumpet: 뮤트 트럼펫
french_horn: horn, 호른, 프렌치 호른
brass_section: 브라스, 금관, 금관악기
synth_brass_1: synth brass, 신스 브라스
synth_brass_2: 신스 브라스 2
soprano_sax: soprano saxophone, 소프라노 색소폰
alto_sax: alto saxophone, 알토 색소폰
tenor_sax: saxophone, tenor saxophone, 색소폰, 테너 색소폰
baritone_sax: baritone saxophone, 바리톤 색소폰
oboe: 오보에
english_horn: cor anglais, 잉글리시 호른
bassoon: 바순, 파곳
clarinet: 클라리넷
piccolo: 피콜로
flute: 플루트, 플룻
recorder: 리코더
pan_flute: panpipes, 팬 플루트, 팬파이프
blown_bottle: 병 불기
shakuhachi: 샤쿠하치
whistle: 휘파람, 휘슬
ocarina: 오카리나
square_lead: 스퀘어 리드
saw_lead: sawtooth lead, 쏘 리드, 톱니파 리드
calliope_lead: calliope, 칼리오페
chiff_lead: 치프 리드
charang_lead: 차랑 리드
voice_lead: 보이스 리드
fifths_lead: 피프스 리드
bass_and_lead: 베이스 앤 리드
new_age_pad: 뉴에이지 패드, 신스 패드
warm_pad: 웜 패드, 따뜻한 패드
polysynth_pad: polysynth, 폴리신스
choir_pad: 합창 패드, 콰이어 패드
bowed_pad: 보우 패드
metallic_pad: 메탈릭 패드
halo_pad: 헤일로 패드
sweep_pad: 스윕 패드
rain: 빗소리
soundtrack: 사운드트랙
crystal: 크리스털
atmosphere: 애트머스피어
brightness: 브라이트니스
goblins: 고블린
echoes: 에코
sci_fi: 공상 과학
sitar: 시타르
banjo: 밴조
shamisen: 샤미센
koto: 고토
kalimba: 칼림바
bagpipe: bagpipes, 백파이프
fiddle: 피들
shanai: 샤나이
tinkle_bell: 방울
agogo: 아고고
steel_drums: steel pan, 스틸 드럼, 스틸팬
woodblock: 우드블록, 목탁
taiko_drum: taiko, 타이코, 큰북
melodic_tom: 멜로딕 탐
synth_drum: 신스 드럼
reverse_cymbal: 리버스 심벌
guitar_fret_noise: fret noise, 기타 프렛 소리
breath_noise: 숨소리
seashore: 파도 소리
bird_tweet: birdsong, 새소리
telephone_ring: telephone, 전화벨
helicopter: 헬리콥터
applause: 박수 소리
gunshot: 총소리
"""


def _instruments() -> dict[str, tuple[str, ...]]:
    """Forms by program: its name, families and everyday words of `instruments`, and the synonyms above."""
    forms = {program: [program.replace("_", " ")] for program in instruments.PROGRAMS}
    for word in (*instruments.ALIASES, *instruments.FAMILIES):
        forms[instruments.PROGRAMS[instruments.program(word)]].append(word.replace("_", " "))
    for line in _INSTRUMENTS.strip().splitlines():
        program, _, more = line.partition(":")
        forms[program] += _forms(more)
    return {program: tuple(dict.fromkeys(said)) for program, said in forms.items()}


VALUES: dict[str, dict[str, tuple[str, ...]]] = {
    "genre": {
        "pop": _forms("pop, k-pop, 팝, 팝송, 가요, 대중가요, 케이팝"),
        "jazz": _forms("jazz, jazzy, swing, 재즈, 스윙"),
        "new_age": _forms("new age, 뉴에이지"),
        "cinematic": _forms("cinematic, film, film score, movie, soundtrack, 시네마틱, 영화, 영화 음악, 사운드트랙"),
        "waltz": _forms("waltz, 왈츠"),
        "folk": _forms("folk, 포크, 민요"),
        "classical": _forms("classical, 클래식, 고전"),
        "rock": _forms("rock, 록, 락"),
        "electronic": _forms("electronic, electronica, edm, 일렉트로닉, 전자 음악"),
        "latin": _forms("latin, 라틴"),
        "blues": _forms("blues, bluesy, 블루스"),
        "hymn": _forms("hymn, 찬송가, 찬송"),
    },
    "instrument": _instruments(),
    "role": {
        "main_melody": _forms(
            "main melody, melody, lead, lead melody, main theme, theme, 메인 멜로디, 멜로디, 리드, 리드 멜로디, "
            "주 멜로디, 주선율, 선율, 주제"
        ),
        "sub_melody": _forms(
            "sub melody, second melody, counter melody, 서브 멜로디, 부 멜로디, 보조 멜로디, 부선율, 대선율"
        ),
        "accompaniment": _forms("accompaniment, backing, comping, 반주, 컴핑"),
        "bass": _forms("bass, bass line, walking bass, 베이스, 베이스 라인, 워킹 베이스"),
        "pad": _forms("pad, 패드"),
        "riff": _forms("riff, ostinato, 리프, 오스티나토"),
    },
    "metre": {
        "2/4": _forms("two four, 사분의 이박자"),
        "3/4": _forms("three four, waltz, 사분의 삼박자, 왈츠"),
        "4/4": _forms("four four, common, 사분의 사박자"),
        "5/4": _forms("five four, 사분의 오박자"),
        "6/8": _forms("six eight, 팔분의 육박자"),
        "9/8": _forms("nine eight, 팔분의 구박자"),
        "12/8": _forms("twelve eight, 팔분의 십이박자"),
    },
    "pitch_range": {
        "very_low": _forms("very low, 아주 낮은, 매우 낮은, 초저음, 최저음"),
        "low": _forms("low, 낮은, 낮음, 저음, 저음역"),
        "mid_low": _forms("mid low, low mid, lower middle, 중저음, 중저음역"),
        "mid": _forms("mid, middle, medium, 중간, 중음, 중음역"),
        "mid_high": _forms("mid high, high mid, upper middle, 중고음, 중고음역"),
        "high": _forms("high, 높은, 높음, 고음, 고음역"),
        "very_high": _forms("very high, 아주 높은, 매우 높은, 초고음, 최고음"),
    },
    "density": {
        "sparse": _forms("sparse, low, few notes, 성긴, 낮은, 낮음, 듬성듬성"),
        "medium": _forms("medium, moderate, normal, 중간, 보통"),
        "dense": _forms("dense, busy, high, many notes, 빽빽한, 촘촘한, 높은, 높음"),
    },
    "rhythm": {
        "standard": _forms("standard, straight, normal, 표준, 기본, 보통"),
        "triplet": _forms(
            "triplet, triplets, swing, swung, swing feel, shuffle, shuffle feel, 셋잇단, 셋잇단음표, 트리플렛, "
            "스윙, 셔플"
        ),
    },
}
"""Forms by keyword and value. Keys, chords and numbers are read by `words`."""

DECIDED: dict[str, str] = {
    "bass": "role", "베이스": "role", "pad": "role", "패드": "role", "waltz": "genre", "왈츠": "genre",
    "low": "pitch_range", "낮은": "pitch_range", "낮음": "pitch_range",
    "high": "pitch_range", "높은": "pitch_range", "높음": "pitch_range",
}  # fmt: skip
"""What a word of two keywords means where it stands alone. Other such words are refused, naming both readings."""

TOGETHER = frozenset(folded(form) for form in ("bass guitar", "베이스 기타", "lead melody", "리드 멜로디"))
"""Names that are read as one, though their words apart are values of two keywords; others are refused."""

_TEMPO, _LOUD = "say the tempo as a number, as in '80 bpm'", "say velocities as numbers, as in 'velocity 60-90'"
_DRUMS, _MODE = "parts are of notes with pitch: no drums are composed", "say its tonic too, as in 'C minor' or '다단조'"
_SYNTH = "say 'synth lead', 'synth pad', 'synth bass', 'synth strings' or 'synth brass'"
_LEFT_OUT = "a request says what is to be there, not what is to be left out"
_EXACT, _ONE = "values are exact; say one number", "say one value, or leave the keyword out to have it drawn"
REASONS: dict[str, str] = {
    **dict.fromkeys(("no", "not", "without", "except", "없이", "빼고", "말고", "아닌"), _LEFT_OUT),
    **dict.fromkeys(("about", "around", "roughly", "약", "정도", "쯤"), _EXACT),
    **dict.fromkeys(("or", "either", "또는", "혹은"), _ONE),
    **dict.fromkeys(("slow", "fast", "quick", "느린", "느리게", "빠른", "빠르게"), _TEMPO),
    **dict.fromkeys(("loud", "soft", "quiet", "조용한", "부드러운", "강한", "약한", "여린"), _LOUD),
    **dict.fromkeys(("drum", "drums", "percussion", "드럼", "타악기"), _DRUMS),
    **dict.fromkeys(("major", "minor", "장조", "단조", "메이저", "마이너"), _MODE),
    **dict.fromkeys(("synth", "synthesizer", "신스", "신디사이저"), _SYNTH),
}
"""Words that people say and that are no keyword's value, with what to say instead."""

FILLERS = frozenset(
    words_of("""a an the please make me create compose write generate give want i i'd i'm would like us let's need some
    something music piece song track clip in with at of for on and to by using as is it its that has have be play played
    playing style feel vibe mood tune sound part my you can could this into midi new
    음악 곡 노래 작품 트랙 클립 파트 연주 느낌 풍 스타일 분위기 소리 사운드 만들어 만들어줘 만들어줘요 만들어주세요
    만들어주라 만들어라 만들어봐 만들자 작곡 작곡해 작곡해줘 작곡해주세요 생성 생성해줘 생성해주세요 써 써줘 써주세요
    들려줘 들려주세요 연주해줘 연주하는 부탁 부탁해 부탁해요 부탁드려요 부탁합니다 줘 줘요 주세요 해줘 해주세요
    원해 원해요 싶어 싶어요 그리고 및 하나 한 좀 제발 나 내 저 우리 된 있는 하는 짜리 위한""")
)
"""All words that carry no keyword. "no", "not", "or" and "about" are not among them: they change what is meant."""

CONNECTIVES = frozenset(words_of("of is at to be in"))
"""What may stand between a keyword's name and its value."""

SUFFIXES = tuple(
    words_of(
        """을 를 이 가 은 는 의 로 으로 에 에서 와 과 랑 이랑 인 이고 이며 하고 된 용 짜리
        풍 느낌 스타일 분위기 음악 곡"""
    )
)
"""Korean particles and endings that may follow a word, also one after the other ("재즈풍의")."""

NUMBERS: dict[str, int] = {
    **{word: n for n, word in enumerate(words_of("one two three four five six seven eight nine ten eleven twelve"), 1)},
    "sixteen": 16, "twenty": 20, "twentyfour": 24, "thirtytwo": 32,
    "한": 1, "두": 2, "세": 3, "네": 4, "다섯": 5, "여섯": 6, "일곱": 7, "여덟": 8, "아홉": 9, "열": 10, "열두": 12,
    "열여섯": 16, "이": 2, "삼": 3, "사": 4, "오": 5, "육": 6, "팔": 8, "십이": 12, "십육": 16, "삼십이": 32,
}  # fmt: skip
"""Numbers in words, read before a count of bars or beats only."""

NAME_OF: dict[str, str] = {folded(form): keyword for keyword, forms in NAMES.items() for form in forms}
"""Keyword by folded name."""


def _readings() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for keyword, values in VALUES.items():
        for value, forms in values.items():
            for form in forms:
                found.setdefault(folded(form), {})[keyword] = value
                if keyword == "genre" and not form.isascii():
                    found.setdefault(folded(form) + "장르", {})[keyword] = value
    return found


READINGS = _readings()
"""What a folded form may mean: value by keyword."""


def tables() -> str:
    """The vocabulary in Markdown, as the documentation has it."""
    lines = ["| keyword | names |", "| --- | --- |"]
    lines += [f"| {keyword} | {', '.join(forms)} |" for keyword, forms in NAMES.items()]
    for keyword, values in VALUES.items():
        lines += ["", f"| {keyword} | words |", "| --- | --- |"]
        lines += [f"| {value} | {', '.join(forms)} |" for value, forms in values.items()]
    apart = [(form, found) for form, found in READINGS.items() if len(found) > 1]
    lines += ["", "| word of two keywords | alone |", "| --- | --- |"]
    for form, found in apart:
        alone = f"{DECIDED[form]}={found[DECIDED[form]]}" if form in DECIDED else "refused"
        others = " or ".join(f"{keyword}={value}" for keyword, value in found.items())
        lines.append(f"| {form} ({others}) | {alone} |")
    reasons: dict[str, list[str]] = {}
    for word, reason in REASONS.items():
        reasons.setdefault(reason, []).append(word)
    lines += ["", "| refused | with the words |", "| --- | --- |"]
    lines += [f"| {', '.join(said)} | {reason} |" for reason, said in reasons.items()]
    lines += ["", f"Words that carry no keyword: {', '.join(sorted(FILLERS))}."]
    lines += ["", f"Endings of Korean words: {', '.join(SUFFIXES)}."]
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables())
