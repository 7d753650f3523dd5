"""The store: what is added is there once, survives, and says what was set aside."""

import hashlib
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from daybreak.errors import UserError
from daybreak.lab.database import connect, network
from daybreak.lab.home import Lab
from daybreak.lab.lake import Broken, Draft, Lake, removed, saw, split_of, verify
from daybreak.lab.lake.item import clean


@pytest.fixture
def lake(lab):
    return Lake.open(lab)


def draft(number, group=None, **more):
    return Draft(f"n{number}", group or f"g{number // 3}", {"data": b"%d" % number}, **more)


def add(lake, drafts, **more):
    return lake.add("toy", drafts, **{"licence": "CC0-1.0", **more})


def named(lake, name, **more):
    return next(item for item in lake.items("toy", **more) if item.name == name)


def test_what_is_added_is_there_with_its_provenance(lake):
    done = add(lake, [draft(1, labels={"genre": "jazz"})], source="here", consent="all", licence=" CC-BY-4.0 ")
    (item,) = lake.items("toy")
    assert (done.added, done.duplicates, done.broken) == (1, 0, [])
    assert (item.name, item.group, item.labels) == ("n1", "g0", {"genre": "jazz"})
    assert (item.source, item.licence, item.consent) == ("here", "CC-BY-4.0", "all")
    assert item.digest == hashlib.sha256(b"1").hexdigest() == item.parts["data"]
    assert lake.read(item) == lake.read(item.id) == lake.read(item.digest) == b"1"
    assert lake.get(item.id) == lake.get(item.id[:5]) == item
    assert item.added.count(":") >= 2
    assert len(item.added) > len("2026-01-01T00:00:00")


def test_adding_again_adds_nothing(lake):
    drafts = [draft(i) for i in range(2500)]
    assert add(lake, drafts).added == 2500
    again = add(lake, drafts)
    assert (again.added, again.changed, again.duplicates, again.seen) == (0, 0, 2500, 2500)
    assert lake.count("toy") == len(list(lake.items())) == 2500


def test_content_is_stored_once_whatever_its_name_and_group(lake):
    done = add(lake, [draft(1), Draft("copy", "other", {"data": b"1"}), Draft("again", "g0", {"data": b"1"})])
    assert (done.added, done.duplicates) == (1, 2)
    assert [item.name for item in lake.items()] == ["n1"]


def test_other_labels_supersede_and_the_old_item_stays_for_old_snapshots(lake):
    add(lake, [draft(1, labels={"genre": "pop"}), draft(2)])
    before, old = lake.snapshot("toy"), named(lake, "n1")
    done = add(lake, [draft(1, labels={"genre": "jazz"}), draft(2)])
    new = named(lake, "n1")
    assert (done.added, done.changed, done.duplicates) == (0, 1, 1)
    assert new.id != old.id
    assert new.labels == {"genre": "jazz"}
    assert lake.get(old.id) == old
    assert before.gone() == []
    assert lake.snapshot("toy").id != before.id
    add(lake, [draft(1, labels={"genre": "pop"})])
    assert lake.snapshot("toy").id == before.id


def test_labels_that_change_back_within_one_batch_end_as_the_last_says(lake):
    add(lake, [draft(1, labels={"n": n}) for n in (1, 2, 1)])
    assert [item.labels for item in lake.items()] == [{"n": 1}]
    assert len(list(lake.items(current=False))) == 2


def test_a_group_never_stands_in_two_splits(lake):
    add(lake, [draft(i, split=None) for i in range(600)])
    splits = {}
    for item in lake.items():
        splits.setdefault(item.group, set()).add(item.split)
        assert item.split == split_of("toy", item.group)
    assert all(len(found) == 1 for found in splits.values())
    assert {split for found in splits.values() for split in found} == {"train", "validation", "test"}


def test_shares_of_the_splits_are_about_85_and_7_and_7_percent():
    drawn = [split_of("toy", str(group)) for group in range(20_000)]
    assert abs(drawn.count("train") / 20_000 - 0.85) < 0.01
    assert abs(drawn.count("test") / 20_000 - 0.075) < 0.01


def test_a_named_split_holds_for_the_group_and_one_that_contradicts_is_set_aside(lake):
    done = add(lake, [draft(1, "a", split="test"), draft(2, "a"), draft(3, "a", split="train")])
    assert [item.split for item in lake.items()] == ["test", "test"]
    assert done.broken == [Broken("n3", "names the split train, but its group 'a' is test")]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Draft("x", "g", {}), "has no parts"),
        (Draft("x", "", {"data": b"1"}), "has no group"),
        (Draft("x", "g", {"data": "text"}), "not bytes"),
        (Draft("x", "g", {"data": b"1"}, {"what": object()}), "not JSON serializable"),
        (Draft("x", "g", {"data": b"1"}, {}, "tests"), "did you mean test?"),
        (Broken("x", "truncated"), "truncated"),
    ],
)
def test_one_bad_draft_is_set_aside_with_its_reason(lake, bad, words):
    done = add(lake, [draft(1), bad, draft(2)])
    assert done.added == 2
    ((name, reason),) = [(one.name, one.reason) for one in done.broken]
    assert name == "x"
    assert words in reason


def test_names_that_are_no_text_are_stored_readably(lake):
    add(lake, [Draft(os.fsdecode(b"caf\xe9.mid"), "\ud800", {"data": b"1"}, {"a": float("nan")})])
    (item,) = lake.items()
    assert (item.name, item.group, item.labels) == ("caf�.mid", "�", {"a": "NaN"})
    assert clean("日本語") == "日本語"


def test_large_blobs_are_files_named_by_their_digest(lake, lab):
    data = os.urandom(64 * 1024 + 1)
    add(lake, [Draft("big", "g", {"data": data, "beats": b"1 2"}), Draft("edge", "g", {"data": data[:-1]})])
    item = named(lake, "big")
    digest = hashlib.sha256(data).hexdigest()
    assert (lab.objects / digest[:2] / digest).read_bytes() == data == lake.read(item)
    assert lake.read(item, "beats") == b"1 2"
    assert len(list(lab.objects.glob("*/*"))) == 1
    assert item.digest not in item.parts.values()


def test_no_item_part_or_licence_is_said_in_a_line(lake):
    add(lake, [draft(1)])
    item = named(lake, "n1")
    with pytest.raises(UserError, match=r"no part 'date'; did you mean data\?"):
        lake.read(item, "date")
    with pytest.raises(UserError, match="no item 'feed'"):
        lake.get("feed")
    with pytest.raises(UserError, match="licence"):
        add(lake, [draft(2)], licence=" ")
    with pytest.raises(UserError, match=r"unknown split 'tran'; did you mean train\?"):
        list(lake.items(split="tran"))


def test_where_finds_texts_numbers_truths_and_members_of_lists(lake):
    labels = [{"k": "jazz"}, {"k": 3}, {"k": True}, {"k": ["a", "b"]}, {"k": None}, {}, {"k.x": "y"}]
    add(lake, [draft(i, labels=one) for i, one in enumerate(labels)])
    for value, names in {"jazz": ["n0"], "3": ["n1"], "true": ["n2"], "b": ["n3"], "null": ["n4"], "1": []}.items():
        assert [item.name for item in lake.items(where={"k": value})] == names
    assert [item.name for item in lake.items(where={"k.x": "y"})] == ["n6"]
    with pytest.raises(UserError, match="label"):
        list(lake.items(where={'a"b': "c"}))


def test_what_came_before_an_ingestion_raised_stays(lake):
    def drafts():
        yield from (draft(i) for i in range(10))
        raise UserError("the folder went away")

    with pytest.raises(UserError, match="went away"):
        add(lake, drafts())
    assert lake.count() == 10


def test_adding_streams_and_tells_its_progress(lake):
    seen, alive = [], set()

    class Part(bytes):
        def __new__(cls, number):
            alive.add(number)
            return super().__new__(cls, b"%d" % number)

        def __init__(self, number):
            self.number = number

        def __del__(self):
            alive.discard(self.number)

    most = 0

    def drafts():
        nonlocal most
        for number in range(5000):
            most = max(most, len(alive))
            yield Draft("n", "g", {"data": Part(number)})

    add(lake, drafts(), progress=lambda done: seen.append(done.seen))
    assert seen == sorted(seen)
    assert seen[-1] == 5000
    assert len(seen) >= 5
    assert most <= 2001


KILLED = """
import sys
import daybreak.lab.lake.store as store
from daybreak.lab.lake import Draft, Lake
store.BATCH = 20
def drafts():
    for n in range(100000):
        yield Draft(f"n{n}", f"g{n // 3}", {"data": b"%d " % n * (30000 if n % 40 == 0 else 1)})
Lake.open(sys.argv[1]).add("toy", drafts(), licence="CC0-1.0", progress=lambda done: print(done.added, flush=True))
"""


@pytest.mark.parametrize("lines", [1, 6])
def test_kill_9_while_adding_loses_nothing_acknowledged_and_adding_goes_on(lab, lines):
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(lab.root)], stdout=subprocess.PIPE, text=True)
    told = [int(child.stdout.readline()) for _ in range(lines)][-1]
    child.send_signal(signal.SIGKILL)
    told = int(([told, *child.stdout.read().split()])[-1])
    child.wait()
    lake = Lake.open(lab)
    held = lake.count()
    assert held >= told > 0
    assert held % 20 == 0
    found = verify(lake)
    assert found.corrupt == []
    assert found.blobs == held
    drafts = [
        Draft(f"n{n}", f"g{n // 3}", {"data": b"%d " % n * (30000 if n % 40 == 0 else 1)}) for n in range(held + 50)
    ]
    done = add(lake, drafts)
    assert (done.added, done.duplicates) == (50, held)


def test_two_processes_add_the_same_at_once_and_it_is_there_once(lab):
    script = KILLED.replace("100000", "200")
    Lake.open(lab).close()
    both = [subprocess.Popen([sys.executable, "-c", script, str(lab.root)], stdout=subprocess.PIPE) for _ in "ab"]
    assert [child.wait() for child in both if child.communicate()] == [0, 0]
    lake = Lake.open(lab)
    assert lake.count() == 200
    assert verify(lake).corrupt == []


def test_a_pickled_lake_opens_in_another_place(lake):
    add(lake, [draft(1)])
    copy = pickle.loads(pickle.dumps(lake))
    assert copy.read(named(lake, "n1")) == b"1"


# Removal.


def test_what_is_removed_is_gone_with_its_bytes_and_stays_away(lake, lab):
    big = os.urandom(100_000)
    add(lake, [Draft("n1", "g", {"data": big}, {"v": 1}), draft(2)])
    add(lake, [Draft("n1", "g", {"data": big}, {"v": 2})])
    item = named(lake, "n1")
    gone = lake.remove(item.id[:8], who="ada", why="consent withdrawn")
    assert [one.labels["v"] for one in gone.items] == [1, 2]
    assert list(lab.objects.glob("*/*")) == []
    with pytest.raises(UserError, match="by ada: consent withdrawn"):
        lake.get(item.id)
    with pytest.raises(UserError, match="no blob"):
        lake.read(item)
    again = add(lake, [Draft("n1", "g", {"data": big}, {"v": 2})])
    assert again.added == 0
    assert "by ada: consent withdrawn; --restore adds it again" in again.broken[0].reason
    assert {one["who"] for one in removed(lake)} == {"ada"}
    assert add(lake, [Draft("n1", "g", {"data": big}, {"v": 2})], restore=True).added == 1
    assert lake.read(item) == big
    assert list(removed(lake)) == []


def test_removed_bytes_are_not_left_in_the_files(lake, lab):
    secret = b"a very secret voice " * 200
    add(lake, [Draft("n1", "g", {"data": secret}), draft(2)])
    lake.remove(named(lake, "n1").id, who="ada", why="")
    assert all(b"secret voice" not in file.read_bytes() for file in lab.root.glob("lake.sqlite*"))


def test_a_blob_that_another_item_needs_stays(lake):
    add(lake, [Draft("a", "g", {"data": b"same", "x": b"1"}), Draft("b", "g", {"data": b"same", "x": b"2"})])
    lake.remove(named(lake, "a").id, who="ada", why="")
    assert lake.read(named(lake, "b")) == b"same"
    assert verify(lake).corrupt == []


def test_a_removal_lists_every_run_and_model_that_saw_the_item(lake, lab):
    add(lake, [draft(1, "a", split="train"), draft(2, "b", split="test")])
    snapshot = lake.snapshot("toy")
    for run, seen in (("1-toy-mlp", snapshot.id), ("2-toy-mlp", "")):
        (lab.runs / run).mkdir()
        (lab.runs / run / "run.json").write_text(f'{{"snapshot": "{seen}"}}')
    (lab.runs / "3-broken").mkdir()
    (lab.runs / "3-broken" / "run.json").write_text("{")
    for version, record in (("1", f'{{"snapshot": "{snapshot.id}"}}'), ("2", '{"run": "1-toy-mlp"}'), ("3", "[]")):
        (lab.registry / "mlp" / version).mkdir(parents=True)
        (lab.registry / "mlp" / version / "record.json").write_text(record)
    found = saw(lab, [named(lake, "n1").id])
    assert [(one.kind, one.name, one.split) for one in found] == [
        ("snapshot", snapshot.id, "train"),
        ("run", "1-toy-mlp", "train"),
        ("model", "mlp/1", "train"),
        ("model", "mlp/2", "train"),
    ]
    assert {one.split for one in saw(lab, [named(lake, "n2").id])} == {"test"}
    assert saw(lab, ["0" * 16]) == []


# Verifying.


def test_verify_finds_every_kind_of_damage(lake, lab):
    big = [os.urandom(70_000) for _ in range(3)]
    add(lake, [draft(1), draft(2), *(Draft(f"b{i}", "g", {"data": data}) for i, data in enumerate(big))])
    assert verify(lake).corrupt == verify(lake).unused == []
    files = [lake.object(hashlib.sha256(data).hexdigest()) for data in big]
    files[0].write_bytes(b"x" + big[0][1:])
    files[1].unlink()
    (files[2].parent / "left.part").write_bytes(b"")
    lake.db.execute("UPDATE blobs SET data = x'6e6f' WHERE data = x'31'")
    lake.db.execute("DELETE FROM blobs WHERE data = x'32'")
    found = verify(lake)
    assert len(found.corrupt) == 4
    reasons = " ".join(one.reason for one in found.corrupt)
    for words in ("now have the digest", "cannot be read", "should have 1", "is missing", named(lake, "b0").id):
        assert words in reasons
    assert found.unused == [f"objects/{files[2].parent.name}/left.part"]


# Folders that cannot hold a lake.


def test_a_network_file_system_is_refused_and_said_why(tmp_path, monkeypatch):
    mounts = "/dev/a / ext4 rw 0 0\nhost:/x /home\\040of nfs4 rw 0 0\ntmpfs /home\\040of/local tmpfs rw 0 0\nbad\n"
    assert network(Path("/home of"), mounts) == network(Path("/home of/lab"), mounts) == "nfs4"
    assert network(Path("/home of/local/lab"), mounts) is None
    assert network(Path("/home off"), mounts) is None
    monkeypatch.setattr("daybreak.lab.database.network", lambda folder: "cifs")
    with pytest.raises(UserError, match=r"network file system \(cifs\).*write-ahead log.*local disk"):
        Lake.open(tmp_path / "lab")


def test_a_lake_of_a_newer_version_is_refused(lab):
    with sqlite3.connect(lab.root / "lake.sqlite") as db:
        db.execute("PRAGMA user_version = 2")
    with pytest.raises(UserError, match=r"newer daybreak \(version 2, this one knows 1\)"):
        Lake.open(lab)


def test_a_file_that_is_no_database_is_refused(lab):
    (lab.root / "lake.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(UserError, match="not an SQLite database"):
        Lake.open(lab)


def test_a_full_disk_is_said_and_what_was_added_stays(lake):
    add(lake, [draft(1)])
    lake.db.execute("PRAGMA max_page_count = 20")
    with pytest.raises(UserError, match="full"):
        add(lake, [Draft(f"b{i}", "g", {"data": os.urandom(60_000)}) for i in range(20)])
    lake.db.execute("PRAGMA max_page_count = 1000000")
    assert [item.name for item in lake.items()] == ["n1"]
    assert add(lake, [draft(2)]).added == 1


@pytest.mark.parametrize("made", [True, False])
def test_a_read_only_folder_is_refused_in_a_line(made):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        lab = Lab.open(Path(folder) / "lab")
        if made:
            lake = Lake.open(lab)
            add(lake, [draft(1)])
            lake.close()
        for path in [lab.root, *lab.root.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                if os.geteuid() == 0:
                    os.setuid(65534)
                Lake.open(lab)
                os.write(theirs, b"opened")
            except UserError as error:
                os.write(theirs, str(error).encode())
            finally:
                os._exit(0)
        os.close(theirs)
        os.waitpid(child, 0)
        said = os.read(ours, 10_000).decode()
        os.close(ours)
        lab.root.chmod(0o755)
        for path in lab.root.rglob("*"):
            path.chmod(0o755)
    assert "is read-only" in said
    assert "DAYBREAK_LAB" in said
    assert "\n" not in said


def test_connect_makes_tables_once(tmp_path):
    for _ in range(2):
        db = connect(tmp_path / "a.sqlite", "CREATE TABLE a (b)", 3)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA user_version").fetchone() == (3,)
        db.close()
