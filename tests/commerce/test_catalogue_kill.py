"""`kill -9` at every step to the disk of every change: the old catalogue or the new, and a rerun completes it."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from catalogues import filled, in_child, row, unit, vectors

from daybreak.errors import UserError
from daybreak.systems.commerce.catalogue import Catalogue, Reembedding


def killed_at(instant: int, work) -> bool:
    """Run in a process that gets `kill -9` at its nth step to the disk. Whether it was killed before it was done."""
    left = [instant]

    def counted(real):
        def step(*args, **named):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **named)

        return step

    def child():
        os.fsync = counted(os.fsync)
        Path.replace = counted(Path.replace)
        Path.mkdir = counted(Path.mkdir)
        Path.unlink = counted(Path.unlink)
        shutil.rmtree = counted(shutil.rmtree)
        work()

    code = in_child(child)
    assert code in (0, -signal.SIGKILL)
    return code != 0


def add(path, numbers, seed):
    with Catalogue(path).writing() as w:
        w.add([row(i) for i in numbers], {s: x[: len(numbers)] for s, x in vectors(40, seed).items()})


def remove(path):
    with Catalogue(path).writing() as w:
        w.remove([f"i{i}" for i in range(0, 20, 3)])


def restore(path):
    Catalogue(path).restore("first")


def embed_again(path):
    catalogue = Catalogue(path)
    again = Reembedding(catalogue, "shopnet-2", {"product": 4})
    for rows in again.missing():
        again.add(rows, {"product": unit(len(rows), 4)})
    again.swap()


def state(catalogue):
    view = catalogue.view()
    return catalogue.model, {view.row(int(at)).id: view.row(int(at)) for at in view.positions}


@pytest.mark.parametrize(
    "work",
    [
        lambda path: add(path, range(15, 30), 1),
        remove,
        lambda path: Catalogue(path).compact(),
        lambda path: Catalogue(path).snapshot("second"),
        restore,
        lambda path: Catalogue(path).drop("first"),
        embed_again,
    ],
    ids=["add", "remove", "compact", "snapshot", "restore", "drop", "embed again"],
)
def test_kill_9_at_every_step_leaves_the_old_state_or_the_new_and_a_rerun_completes_it(tmp_path, work):
    base = tmp_path / "base"
    catalogue, _ = filled(base, 20)
    catalogue.snapshot("first")
    with catalogue.writing() as w:
        w.remove(["i4"])
        w.update("i5", price=7.5)
    old = state(catalogue)
    done = tmp_path / "done"
    shutil.copytree(base, done)
    work(done)
    new = state(Catalogue(done))
    for instant in range(1, 1000):
        path = tmp_path / f"c{instant}"
        shutil.copytree(base, path)
        killed = killed_at(instant, lambda path=path: work(path))
        after = Catalogue(path)
        assert state(after) in (old, new)
        assert after.verify() == []
        if not killed:
            assert state(after) == new
            break
        try:
            work(path)
        except UserError as error:
            # Its commit was whole when it was killed, and the catalogue says so.
            whole = ("already", "no item", "there is no snapshot")
            assert state(after) == new and any(words in str(error) for words in whole)  # noqa: PT018, PT017
        assert state(Catalogue(path)) == new
        with Catalogue(path).writing():
            pass
        after = Catalogue(path)
        wanted = {part.name for m in [after.manifest, *after.snapshots().values()] for part in m.parts}
        assert {p.name for p in (path / "segments").iterdir()} == wanted, "what no manifest names is gone"
        assert not (path / "next").exists()
        shutil.rmtree(path)
    else:
        pytest.fail("it never got to its end")
    assert instant >= 3, "it was killed at several steps"
