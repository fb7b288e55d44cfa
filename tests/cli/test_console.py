"""What a person sees keeps every word at any width, and what they copy works: no frame, no break
inside a command."""

import os
import re
import shlex
import subprocess
import sys
import warnings
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
from rich.table import Table
from typer.testing import CliRunner

from metadyn.cli import app
from metadyn.cli.console import out, show_error, show_warnings_as_notes, wrapped
from metadyn.cli.progress import validation_line
from metadyn.errors import DataError, WindowError

LONG = "/data/a lab/" + "x" * 90 + "/day1.nwb"
REMEDY = f"metadyn align model {shlex.quote('mine=' + LONG)} -o model3 --trials 8"


@pytest.mark.parametrize("width", [20, 40, 80, 300])
def test_an_error_keeps_every_word_and_its_command_is_one_line(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    found = 'columns a, b, c and "an expression of many words", ' * 4
    show_error(
        WindowError("windows overlap " * 9, file=LONG, item="trials", found=found, remedy=REMEDY)
    )
    told = capsys.readouterr().err
    whole = f"WindowError: {'windows overlap ' * 9} file: {LONG} object: trials found: {found} try: {REMEDY}"
    assert told.split() == whole.split()
    assert f"  try: {REMEDY}\n" in told
    assert f"  file: {LONG}\n" in told
    prose = [
        line
        for line in told.splitlines()
        if not line.lstrip().startswith(("file:", "try:", '"an expression'))
    ]
    assert max(map(len, prose)) <= max(width, len('      "an expression of many words",'))
    assert '"an expression of many words"' in told


@pytest.mark.parametrize("width", [20, 40, 80])
def test_prose_is_broken_between_words_and_a_remedy_that_is_prose_too(width):
    text = f"problem {'word ' * 30}\n  try: {'check the unit of the times, ' * 6}"
    lines = wrapped(text, width).splitlines()
    assert max(map(len, lines)) <= width
    assert " ".join(lines).split() == text.split()


@pytest.mark.parametrize("width", [40, 80])
def test_a_table_keeps_every_letter_at_any_width(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    table, rng = Table("column", "values", "more", title="trials"), np.random.default_rng(3)
    cells = ["".join(rng.choice(list("abcdefgh"), n)) for n in (31, 7, 64)]
    table.add_row(*cells)
    out().print(table)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    split = [
        [part.strip() for part in line.strip("│").split("│")]
        for line in lines
        if line.startswith("│")
    ]
    assert ["".join(column) for column in zip(*split, strict=True)] == cells


def test_a_note_is_wrapped_and_the_list_of_skipped_files_keeps_its_lines(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    show_warnings_as_notes()
    error = DataError("no such file", file="a.nwb", remedy="metadyn inspect " + "a" * 70)
    warnings.showwarning(f"1 recordings left out:\n  a.nwb: {error!s}", UserWarning, "x.py", 1)
    told = capsys.readouterr().err
    assert told.splitlines()[0] == "note: 1 recordings left out:"
    assert f"  try: {error.remedy}" in told


def step(**terms):
    given = {
        "stage": "elbo",
        "step": 50,
        "steps": 600,
        "steps_per_second": 12.34,
        "seconds_left": 43.2,
        "message": None,
    }
    return SimpleNamespace(**given, terms=terms, validation={"forecast": -0.125})


def test_terms_of_training_break_between_terms_on_a_terminal_and_are_one_line_in_a_log():
    terms = {f"kl_of_part_{i}": i / 7 for i in range(9)}
    whole = validation_line(step(**terms), None)
    assert "\n" not in whole
    for width in (40, 80):
        lines = validation_line(step(**terms), width).splitlines()
        assert max(map(len, lines)) <= width
        assert " ".join(lines).split() == whole.split()
        assert not any(line.split()[-1] in terms for line in lines)  # a name without its value


def test_the_command_that_a_refusal_proposes_runs_as_it_is_copied_from_a_narrow_terminal(
    world, tmp_path
):
    """By a pseudo-terminal of 40 columns; the line after `try: ` goes to a shell."""
    pytest.importorskip("pty")
    model = tmp_path / "model"
    lines = on_a_terminal(
        ["fit", str(world.files[0]), "-o", str(model), "--start", "0.1"], width=40
    )
    (remedy,) = [
        line.strip().removeprefix("try: ") for line in lines if line.strip().startswith("try: ")
    ]
    flags = shlex.split(remedy.partition(", or ")[0])
    done = CliRunner().invoke(
        app,
        [
            "fit",
            str(world.files[0]),
            "-o",
            str(model),
            *flags,
            "--steps",
            "2",
            "--pretrain-steps",
            "2",
        ],
    )
    assert done.exit_code == 0, done.stderr
    assert model.is_dir()


def on_a_terminal(arguments, width) -> list[str]:
    """What a command shows on a terminal of this width: its lines, which the terminal itself would
    fold."""
    script = "import os, pty, sys; os.environ.pop('COLUMNS', None); pty.spawn(sys.argv[1:])"
    shell = f"stty cols {width}; exec {shlex.join([sys.executable, '-m', 'metadyn', *arguments])}"
    done = subprocess.run(
        [sys.executable, "-c", script, "sh", "-c", shell],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.replace("\r\n", "\n").splitlines()


WORKING = """
import time
from metadyn.cli.console import out, show_warnings_as_notes
from metadyn.cli.progress import working
import warnings

show_warnings_as_notes()
with working("annotating"):
    time.sleep(0.4)
    out().print("first.nwb")
    warnings.warn("a unit was left out")
    time.sleep(0.4)
    out().print("second.nwb")
"""


def on_screen(told: str) -> list[str]:
    """The lines of a terminal after this, of which it knows what moves the cursor and what clears a
    line."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[\??\d*(?:;\d+)*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", told):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.startswith("\x1b"):
            row -= int(part[2:-1] or 1) if part[-1] == "A" else 0
            lines[row] = "" if part[-1] == "K" else lines[row]
        else:
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines if line.strip()]


@pytest.mark.parametrize("both", [True, False])
def test_while_a_command_works_a_clock_runs_below_what_it_tells_and_results_go_where_they_are_sent(
    both,
):
    """stderr is a terminal; the standard output is it too, or a pipe, which gets each result and no
    more."""
    os_pty = pytest.importorskip("pty")
    master, slave = os_pty.openpty()
    stdout = slave if both else subprocess.PIPE
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "60"}
    with subprocess.Popen(
        [sys.executable, "-c", WORKING], stderr=slave, stdout=stdout, env=environment
    ) as process:
        os.close(slave)
        shown = b""
        with suppress(OSError):  # which is how Linux says that the other end is closed
            while part := os.read(master, 4096):
                shown += part
        sent = None if both else process.stdout.read().decode().split()
    os.close(master)
    assert process.returncode == 0
    clock = re.findall(r"annotating \S*?(\d+:\d\d:\d\d)", shown.decode())
    assert len(clock) > 3
    results = ["first.nwb", "second.nwb"]
    assert sent == (None if both else results)
    note = "note: a unit was left out"
    assert on_screen(shown.decode()) == ([results[0], note, results[1]] if both else [note])


def test_without_a_terminal_a_command_shows_no_clock():
    done = subprocess.run(
        [sys.executable, "-c", WORKING], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["first.nwb", "second.nwb"]
    assert done.stderr == "note: a unit was left out\n"
