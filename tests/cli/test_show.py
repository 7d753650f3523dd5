"""What the commands print: a person's table, a pipe's columns, a program's JSON."""

import json
import math
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from daybreak.cli.show import aligned, cell, clean, record, say, table, width

ROWS = [
    {"run": "music:small#41", "nll": 1.7012345, "steps": 4000, "note": ""},
    {"run": "노래", "nll": math.nan, "steps": 12, "note": None},
]


def test_a_pipe_gets_aligned_columns(capsys):
    table(ROWS, {"run": "run", "nll": "note NLL", "steps": "steps"})
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "run             note NLL  steps",
        "music:small#41     1.701   4000",
        "노래                 nan     12",
    ]
    assert err == ""


def test_json_holds_every_key_and_no_bare_nan(capsys):
    table([{**ROWS[1], "path": Path("a/b")}], ["run"], json=True)
    (row,) = json.loads(capsys.readouterr().out, parse_constant=lambda word: 1 / 0)
    assert row == {"run": "노래", "nll": "NaN", "steps": 12, "note": None, "path": "a/b"}


def test_no_rows_are_an_empty_list_or_a_word_on_stderr(capsys):
    table([], ["run"], json=True)
    assert capsys.readouterr().out == "[]\n"
    table([], ["run"], empty="there are no runs")
    assert capsys.readouterr() == ("", "there are no runs\n")


def test_a_record_prints_a_line_a_field(capsys):
    record({"run": "a", "gates": [{"name": "nll", "value": 1.5}], "config": {"lr": 0.001, "net": {"layers": 8}}})
    assert capsys.readouterr().out.splitlines() == [
        "run     a",
        "gates",
        "  name nll, value 1.5",
        "config",
        "  lr   0.001",
        "  net",
        "    layers  8",
    ]


def test_hostile_names_do_not_reach_the_terminal(capsys):
    hostile = "\x1b[2J\x1b]0;owned\x07<img onerror=x>\u202egpj\nnext"
    table([{"run": hostile}])
    record({"run": hostile, hostile: 1})
    out = capsys.readouterr().out
    assert not set(out) & {"\x1b", "\x07", "\u202e"}
    assert "<img onerror=x>" in out
    say("two\nlines \x1b[2J")
    assert capsys.readouterr().err == "two\nlines \\x1b[2J\n"


def test_a_terminal_gets_a_drawn_table_without_reading_markup():
    program = "from daybreak.cli.show import table; table([{'run': '[red]x[/red]', 'n': 3}])"
    head, tail = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "80"}
    subprocess.run([sys.executable, "-c", program], stdout=tail, env=env, check=True)
    os.close(tail)
    drawn = re.sub(r"\x1b\[[0-9;]*m", "", os.read(head, 4096).decode())
    os.close(head)
    assert [line.split() for line in drawn.splitlines()] == [["run", "n"], ["[red]x[/red]", "3"]]


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2), min_size=1))
def test_every_line_of_any_text_stays_one_line(rows):
    cells = [[cell(text) for text in row] for row in rows]
    lines = aligned(cells, [False, True])
    assert len(lines) == len(rows)
    assert all(line.isprintable() for line in lines)


@given(st.text())
def test_clean_text_is_printable_and_stays_the_same_when_cleaned_again(text):
    assert clean(text).isprintable()
    assert clean(clean(text)) == clean(text)
    assert width(clean(text)) >= 0
