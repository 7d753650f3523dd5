"""Flags: types make them, and every mistake is one line that says what would work."""

import pytest

from daybreak.cli import main
from daybreak.errors import UserError
from daybreak.lab.config import describe, difference, leaves, lookup, parse_flags, portable, read_toml
from daybreak.lab.derive import plan


def parse(*argv):
    found = lookup("toy:mlp")
    return parse_flags(found.cls.Config, argv, found.config, "train toy:mlp")[0]


def test_nested_fields_bools_and_numbers_are_flags():
    config = parse("--net.width", "8", "--lr=3e-4", "--steps", "1e3", "--deterministic", "--budget", "none")
    assert (config.net.width, config.lr, config.steps, config.deterministic, config.budget) == (
        8,
        3e-4,
        1000,
        True,
        None,
    )
    assert parse("--no-deterministic").deterministic is False


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--net.wdth", "8"], "did you mean --net.width"),
        (["--lr", "-1"], "--lr takes a number > 0, not '-1'"),
        (["--steps", "many"], "--steps takes a whole number >= 0, not 'many'"),
        (["--schedule", "cosin"], "did you mean cosine?"),
        (["--lr"], "--lr wants a value"),
        (["--lr", "1", "--lr", "2"], "given twice"),
        (["-x"], "flags are written with two dashes"),
        (["--net.dropout", "1"], "--net.dropout takes a number >= 0 and < 1"),
    ],
)
def test_a_mistake_is_one_line_with_what_would_work(argv, said):
    with pytest.raises(UserError) as error:
        parse(*argv)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("toi", "did you mean toy?"),
        ("toy:wid", "did you mean wide?"),
        ("toy:mlp:wid", "did you mean wide?"),
        ("toy:mpl:wide", "did you mean mlp?"),
        ("toy::b", "is not SYSTEM"),
    ],
)
def test_an_unknown_name_brings_the_nearest(spec, said):
    with pytest.raises(UserError, match=None) as error:
        lookup(spec)
    assert said in str(error.value)


def test_a_file_comes_between_preset_and_flags(tmp_path, lab):
    file = tmp_path / "tonight.toml"
    file.write_text("lr = 0.5\n[net]\nwidth = 4\n")
    config = plan(lab, "toy:mlp:wide", ["--lr", "0.25"], file=file).config
    assert (config.lr, config.net.width, config.net.dropout) == (0.25, 4, 0.1)


@pytest.mark.parametrize(
    ("text", "said"), [("lr = ", "is not TOML"), ("lrr = 1", "unknown name 'lrr'; did you mean lr")]
)
def test_a_bad_file_is_named(tmp_path, text, said):
    file = tmp_path / "bad.toml"
    file.write_text(text)
    found = lookup("toy:mlp")
    with pytest.raises(UserError, match=r"bad\.toml") as error:
        read_toml(found.cls.Config, file, found.config)
    assert said in str(error.value)


def test_the_difference_names_fields_by_their_dotted_name():
    assert difference({"a": 1, "n": {"b": 2, "c": 3}}, {"a": 1, "n": {"b": 5, "c": 3}}) == {"n.b": [2, 5]}


def test_a_folder_of_this_machine_is_told_by_its_name_and_what_is_in_it(tmp_path):
    model = lookup("toy:mlp").cls.Config
    assert describe(leaves(model)["start"]) == "a folder"
    (tmp_path / "mine").mkdir()
    values = {"start": str(tmp_path / "mine"), "net": {"width": 8}, "lr": 0.1}
    assert portable(model, values) == {**values, "start": "mine"}
    (tmp_path / "mine" / "weights.safetensors").write_bytes(b"w")
    told = portable(model, values)
    assert told["start"] == "mine, weights 50e721e49c013f00"
    assert portable(model, told) == told, "what was told once stays as it is"
    assert portable(model, {"start": ""}) == {"start": ""}


def test_a_run_that_is_refused_before_its_first_step_leaves_no_folder(lab, monkeypatch, capsys):
    from daybreak.lab import train

    def refuse(*_):
        raise UserError("start: there is nothing there")

    monkeypatch.setattr(train, "make", refuse)
    with pytest.raises(SystemExit) as left:
        main(["train", "toy:mlp", "--steps", "3"])
    assert left.value.code == 2
    assert "start: there is nothing there" in capsys.readouterr().err
    assert [path for path in lab.runs.iterdir() if not path.name.startswith(".")] == []
