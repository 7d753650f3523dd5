"""A run's files: whole lines come back, whatever a crash left at the end."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daybreak.lab.run import Lines, read, read_last

LINES = st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9000), max_size=3), max_size=6)


@given(before=LINES, after=LINES, torn=st.binary(max_size=9000))
def test_what_is_appended_after_a_torn_line_reads_back_and_the_torn_line_does_not(before, after, torn):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "lines.jsonl"
        whole = "".join(json.dumps(line) + "\n" for line in before).encode()
        path.write_bytes(whole + torn.replace(b"\n", b""))
        assert list(read(path)) == before
        lines = Lines(path)
        for line in after:
            lines.append(line)
        lines.close()
        assert list(read(path)) == before + after
        assert read_last(path) == ([None, *before, *after][-1])


def test_the_rest_of_a_line_that_is_being_written_is_not_read_as_a_line(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": ')
    reading = read(path)
    assert next(reading) == {"step": 1}
    with open(path, "ab") as file:
        file.write(b"2}\n")
    assert list(reading) == []
    assert list(read(path)) == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize(("said", "threads"), [("3", 3), ("", None), ("0", None), ("many", None)])
def test_a_run_takes_as_many_threads_as_the_environment_says(monkeypatch, said, threads):
    from daybreak.lab.surroundings import cores, usual_threads

    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert usual_threads() == (threads or cores())
