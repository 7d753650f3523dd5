"""`daybreak lake`: what it prints, and one line for every mistake."""

import json
from pathlib import Path

import pytest

from daybreak.cli import main
from daybreak.errors import UserError
from daybreak.lab.lake import Broken, Draft, Lake
from daybreak.lab.system import System


def ingest(path):
    for file in sorted(Path(path).rglob("*.txt")):
        data = file.read_bytes()
        if data:
            yield Draft(file.name, file.stem[:1], {"data": data}, {"kind": data.decode()[:1]})
        else:
            yield Broken(file.name, "is empty")


def failing(path):
    yield Draft("a", "a", {"data": b"1"})
    raise PermissionError(13, "Permission denied", str(path))


def embedded():
    yield Draft("own", "own", {"data": b"own"})


def codes(item, read):
    import numpy as np

    return {"x": np.frombuffer(read("data"), "u1")}


class Spelling:
    Config = dict
    presets = {}  # noqa: RUF012
    derives = (codes,)


@pytest.fixture
def spell(lab, monkeypatch, tmp_path):
    here = __name__
    systems = {
        "spell": System("spell", "", f"{here}:ingest", f"{here}:embedded", recipes={"spelling": f"{here}:Spelling"}),
        "dumb": System("dumb", ""),
        "failing": System("failing", "", f"{here}:failing"),
        "absent": System("absent", "", "no_such_module:ingest", "no_such_module:embedded"),
    }
    monkeypatch.setattr("daybreak.lab.system.systems", lambda: systems)
    monkeypatch.setattr("daybreak.lab.system.broken", dict)
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(30):
        (folder / f"{chr(97 + number % 10)}{number}.txt").write_text(f"{'xy'[number % 2]}{number}")
    (folder / "z.txt").write_text("")
    return folder


@pytest.fixture
def run(capsys):
    def call(*words, code=0):
        try:
            main(["lake", *map(str, words)])
            found = 0
        except SystemExit as stop:
            found = stop.code
        out, err = capsys.readouterr()
        assert found == code, err
        return out, err

    return call


def test_add_counts_lists_what_is_broken_and_again_adds_nothing(spell, run):
    out, err = run("add", "spell", spell, "--licence", "CC0-1.0", "--json")
    done = json.loads(out)
    assert (done["added"], done["duplicates"]) == (30, 0)
    assert done["broken"] == [{"name": "z.txt", "reason": "is empty"}]
    assert "set aside: z.txt: is empty" in err
    again = json.loads(run("add", "spell", spell, "--licence", "CC0-1.0", "--json")[0])
    assert (again["added"], again["duplicates"]) == (0, 30)
    (item, *_) = json.loads(run("ls", "spell", "--limit", "1", "--json")[0])
    assert (item["licence"], item["source"]) == ("CC0-1.0", str(spell))


def test_add_without_a_path_brings_what_the_system_has(spell, run):
    run("add", "spell")
    (item,) = json.loads(run("ls", "--json")[0])
    assert (item["name"], item["licence"], item["source"]) == ("own", "Apache-2.0", "made by daybreak")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "spel"), "unknown system 'spel'; did you mean spell?"),
        (("add", "spell", "/nowhere", "--licence", "x"), "there is no file or folder /nowhere"),
        (("add", "spell", "/"), "items need a licence; name it with --licence"),
        (("add", "dumb"), "dumb brings no data of its own"),
        (("add", "dumb", "/", "--licence", "x"), "dumb reads no files"),
        (("add", "failing", "/", "--licence", "x"), "cannot read /: Permission denied"),
        (("add", "absent"), "needs no_such_module; `pip install 'daybreak[absent]'` brings it"),
        (("ls", "--where", "genre"), "write a label and its value"),
        (("ls", "--split", "tests"), "did you mean test?"),
        (("show", "nothing"), "there is no snapshot yet"),
        (("show", "0123456789abcdef"), "no item '0123456789abcdef'"),
        (("rm", "nothing"), "no item 'nothing'"),
        (("snapshot", "spell"), "the lake has no items of 'spell'"),
        (("diff", "a", "b"), "there is no snapshot yet"),
        (("derive", "spell", "--function", "nonsense"), "write module:function"),
        (("snapshots",), "did you mean snapshot?"),
    ],
)
def test_a_mistake_is_one_line(spell, run, words, said):
    _, err = run(*words, code=2)
    assert said in err
    assert err.count("\n") == 1


def test_snapshots_are_made_listed_shown_and_compared(spell, run):
    run("add", "spell", spell, "--licence", "CC0-1.0")
    whole = json.loads(run("snapshot", "spell", "--json")[0])
    part = json.loads(run("snapshot", "spell", "--where", "kind=x", "--json")[0])
    assert whole["train"] + whole["validation"] + whole["test"] == 30
    assert part["train"] + part["validation"] + part["test"] == 15
    listed = json.loads(run("ls", "--snapshots", "--json")[0])
    assert [row["snapshot"] for row in listed] == [whole["snapshot"], part["snapshot"]]
    assert json.loads(run("show", "latest", "--json")[0])["query"] == "kind=x"
    found = json.loads(run("diff", whole["snapshot"], part["snapshot"], "--json")[0])
    assert (len(found["gone"]), found["added"], found["same"]) == (15, [], 15)
    out, err = run("diff", whole["snapshot"], part["snapshot"])
    assert "15 the same, 0 added, 15 gone, 0 moved, 0 relabelled" in err
    assert out.count("gone") == 15


def test_rm_needs_yes_and_lists_what_saw_the_item(spell, run, lab):
    run("add", "spell", spell, "--licence", "CC0-1.0")
    snapshot = json.loads(run("snapshot", "spell", "--json")[0])["snapshot"]
    (lab.runs / "7-spell-x").mkdir()
    (lab.runs / "7-spell-x" / "run.json").write_text(json.dumps({"snapshot": snapshot}))
    item = json.loads(run("ls", "spell", "--limit", "1", "--json")[0])[0]["id"]
    out, err = run("rm", item, code=2)
    assert "7-spell-x" in out
    assert "nothing was removed" in err
    assert Lake.open(lab).get(item).id == item
    out, err = run("rm", item, "--yes", "--why", "asked")
    assert "7-spell-x" in out
    with pytest.raises(UserError, match="asked"):
        Lake.open(lab).get(item)
    assert json.loads(run("ls", "--removed", "--json")[0])[0]["why"] == "asked"
    shown = run("show", snapshot)
    assert f"gone: {item}: removed on" in shown[1]
    assert "asked" in run("rm", item, code=2)[1]


def test_show_tells_what_an_item_is_and_who_saw_it(spell, run):
    run("add", "spell", spell, "--licence", "CC0-1.0")
    snapshot = json.loads(run("snapshot", "spell", "--json")[0])["snapshot"]
    item = json.loads(run("ls", "--where", "kind=y", "--limit", "1", "--json")[0])[0]
    shown = json.loads(run("show", item["id"][:7], "--json")[0])
    assert shown["labels"] == {"kind": "y"}
    assert shown["bytes"] == {"data": 2}
    assert shown["seen by"] == [f"snapshot {snapshot} ({item['split']})"]


def test_verify_exits_with_an_error_where_bytes_are_damaged(spell, run, lab):
    run("add", "spell", spell, "--licence", "CC0-1.0")
    assert "30 blobs" in run("verify")[1]
    Lake.open(lab).db.execute("UPDATE blobs SET data = x'0000' WHERE rowid = 3")
    out, err = run("verify", code=2)
    assert "needed by item" in out
    assert "1 blobs are damaged" in err


def test_derive_computes_what_a_recipe_names_once(spell, run):
    run("add", "spell", spell, "--licence", "CC0-1.0")
    (first,) = json.loads(run("derive", "spell", "--workers", "1", "--json")[0])
    (second,) = json.loads(run("derive", "spell", "--workers", "1", "--json")[0])
    assert (first["computed"], second["computed"], second["cached"]) == (30, 0, 30)


def test_hostile_names_never_reach_the_terminal_as_they_are(lab, run):
    draft = Draft("\x1b[2Jx", "<img onerror=x>", {"data": b"1"}, {"k": "\x07"})
    Lake.open(lab).add("toy", [draft, Draft("\x1b]0;", "", {"data": b"1"})], licence="x")
    out, _ = run("ls")
    assert "\x1b" not in out
    assert "\\x1b[2Jx" in out
