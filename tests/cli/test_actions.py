"""Actions as commands: flags from types, files from media, one line for a mistake."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Literal

import pytest
from daybreak_toys.mlp import MlpModel, Note
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from daybreak.cli import main
from daybreak.cli.actions import Written
from daybreak.lab.model import Request, Response, action
from daybreak.lab.run import Run


class Style(Request):
    key: str = "C minor"
    """Its key."""
    loud: bool = False
    """Whether it is loud."""


class Chord(BaseModel):
    root: str
    beats: int = Field(1, ge=1)


class Wish(Request):
    text: Note | None = None
    """A file to start from."""
    tags: tuple[str, ...] = ()
    """Words."""
    bars: int = Field(4, ge=1, le=32)
    """Length in bars."""
    kind: Literal["slow", "fast"] = "slow"
    """Its kind."""
    style: Style = Style(key="D minor")
    chords: tuple[Chord, ...] = ()
    weights: Mapping[str, float] = Field(default_factory=dict)
    scales: tuple[float, ...] = ()


class Clip(Response):
    note: Note
    sketch: Note
    value: float = float("nan")


class Songs(Response):
    echo: dict[str, object]
    clips: tuple[Clip, ...]
    text: Note


@pytest.fixture
def wishing(monkeypatch, lab):
    """The toy's model with two more actions, and a finished run to ask."""

    @action
    def wish(self, request: Wish) -> Songs:
        """Make a wish."""
        clip = Clip(note=Note("one"), sketch=Note("two"))
        echo = request.model_dump(exclude={"text"}) | {"text": request.text.text if request.text else None}
        return Songs(echo=echo, clips=(clip, clip), text=Note("all"))

    @action
    def count(self, request: Wish) -> Iterator[Clip]:
        """Count up."""
        for n in range(request.bars):
            yield Clip(note=Note(str(n)), sketch=Note("x"), value=n)

    def known(self):
        return {"tags": ["calm", "dark"], "data": "three songs"}

    for name, method in {"wish": wish, "count": count, "describe": known}.items():
        monkeypatch.setattr(MlpModel, name, method, raising=name == "describe")
    # Types are resolved by name in the module that defines the action.
    for name in ("wish", "count"):
        getattr(MlpModel, name).__globals__.update(Wish=Wish, Songs=Songs, Clip=Clip, Iterator=Iterator)
    main(["train", "toy:mlp", "--steps", "2"])
    return lab


def ask(capsys, *argv):
    capsys.readouterr()
    main(["toy", *argv])
    out, err = capsys.readouterr()
    return json.loads(out), err


def refuse(capsys, *argv):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["toy", *argv])
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line.startswith("daybreak: ")]
    assert err.endswith(f"{line}\n")
    return line


def test_every_kind_of_field_has_its_flag(wishing, capsys, tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    answer, err = ask(
        capsys, "wish", "--text", str(tmp_path / "a.txt"), "--tags", "calm,dark", "--tags", "calm", "--bars=8",
        "--kind", "fast", "--style.key", "D", "--style.loud", "--chords", '{"root": "C"}', "--chords",
        '{"root": "G", "beats": 2}', "--weights", '{"a": 0.5}', "--scales", "1,-2.5", "-o", str(tmp_path / "out"),
    )  # fmt: skip
    assert answer["echo"] == {
        "tags": ["calm", "dark", "calm"], "bars": 8, "kind": "fast", "style": {"key": "D", "loud": True},
        "chords": [{"root": "C", "beats": 1}, {"root": "G", "beats": 2}], "weights": {"a": 0.5}, "scales": [1.0, -2.5],
        "text": "hello",
    }  # fmt: skip
    assert "using the newest finished run, toy:mlp#1" in err
    assert ask(capsys, "wish", "--no-style.loud", "-o", str(tmp_path))[0]["echo"]["style"]["loud"] is False


def test_media_are_written_and_their_paths_stand_in_the_answer(wishing, capsys, tmp_path):
    out = tmp_path / "deep" / "out"
    answer, err = ask(capsys, "wish", "-o", str(out))
    assert answer["text"] == str(out / "text.txt")
    assert answer["clips"][1] == {
        "note": str(out / "clip-2-note.txt"), "sketch": str(out / "clip-2-sketch.txt"), "value": "NaN",
    }  # fmt: skip
    assert sorted(path.name for path in out.iterdir()) == [
        "clip-1-note.txt", "clip-1-sketch.txt", "clip-2-note.txt", "clip-2-sketch.txt", "text.txt",
    ]  # fmt: skip
    assert (out / "clip-2-sketch.txt").read_text() == "two"
    assert f"5 files in {out}/" in err


def test_a_stream_prints_a_line_an_event(wishing, capsys, tmp_path):
    capsys.readouterr()
    main(["toy", "count", "--bars", "3", "-o", str(tmp_path)])
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["value"] for event in events] == [0.0, 1.0, 2.0]
    assert (tmp_path / "3-note.txt").read_text() == "2"


def test_mistakes_are_one_line_with_what_would_work(wishing, capsys, tmp_path):
    for argv, said in {
        ("wihs",): "did you mean wish",
        ("wish", "--bar", "3"): "did you mean --bars",
        ("wish", "--bars", "99"): "<= 32, not '99'",
        ("wish", "--kind", "fas"): "did you mean fast",
        ("wish", "--text", str(tmp_path / "none.txt")): "No such file",
        ("wish", "--text", str(tmp_path)): "is a folder",
        ("wish", "--tags", "calm,drak"): "these weights know no 'drak'; did you mean dark",
        ("wish", "--chords", "C"): "takes JSON",
        ("wish", "loose"): "unexpected 'loose'",
        ("wish", "--model", "toy@7"): "no registered model 'toy'",
        ("wish", "--model", "/nowhere"): "no registered model, run or folder",
        ("wish", "-o", "/proc/none"): "cannot write /proc/none",
        ("predict", "--x", "1,2"): "16 long, not ['1', '2']",
        ("predict",): "--x is missing",
    }.items():
        assert said in refuse(capsys, *argv), argv


def test_without_weights_it_says_what_to_run(lab, capsys):
    assert "daybreak train toy" in refuse(capsys, "predict", "--x", ",".join(["0"] * 16))


def test_help_shows_types_ranges_texts_and_the_limits_of_the_weights(wishing, capsys):
    capsys.readouterr()
    main(["toy", "wish", "--help"])
    page = " ".join(capsys.readouterr().out.split())
    for words in (
        "daybreak toy wish: Make a wish.",
        "--bars a whole number >= 1 and <= 32. Length in bars. (default 4)",
        "--style.key text. Its key. (default D minor)",
        "--text a path to a .txt file",
        "These weights: calm, dark.",
        "data: three songs",
    ):
        assert words in page


def test_help_works_before_there_are_weights(lab, capsys):
    main(["toy", "predict", "--help"])
    assert "Sixteen numbers. (required)" in capsys.readouterr().out


def test_the_system_lists_its_actions_and_recipes(lab, capsys):
    main(["toy"])
    page = capsys.readouterr().out
    assert "predict  Predict one value." in page
    assert "toy:mlp" in page
    assert "presets: wide, plain" in page


def test_an_answer_is_the_same_as_in_python(wishing, capsys):
    from daybreak_toys.mlp import Ask

    import daybreak

    x = [n / 16 for n in range(16)]
    answer, _ = ask(capsys, "predict", "--x", ",".join(map(str, x)), "--model", Run.all(wishing)[0].id)
    assert answer["y"] == daybreak.load("1").predict(Ask(x=tuple(x))).y


@given(st.dictionaries(st.text(min_size=1), st.sampled_from(["a", "b"]), max_size=5))
def test_files_stay_in_their_folder_and_none_is_lost_whatever_the_names(tmp_path_factory, fields):
    out = tmp_path_factory.mktemp("out")
    written = Written(out)
    answer = written.answer({name: [Note(text)] for name, text in fields.items()})
    assert len(set(written.paths)) == len(fields) == len(list(out.iterdir()))
    for name, text in fields.items():
        path = written.folder / answer[name][0].rsplit("/", 1)[1]
        assert path.parent == out
        assert path.read_text() == text
