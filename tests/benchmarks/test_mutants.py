"""The list of mutants fits the code that it speaks of; whether tests notice each, `python -m
benchmarks.mutants` says."""

import sys
from collections import Counter

import pytest

from benchmarks import mutants
from benchmarks.mutants import TREE, Mutant, runner, verdict


def test_every_mutants_text_stands_once_in_its_file_and_the_changed_file_compiles():
    for mutant in mutants.mutants():
        before = (TREE / mutant.file).read_text()
        after = mutant.applied(before)
        assert after != before, mutant.id
        compile(after, mutant.file, "exec")


def test_no_two_mutants_share_a_name_or_a_change():
    listed = mutants.mutants()
    assert max(Counter(each.id for each in listed).values()) == 1
    assert max(Counter((each.file, each.old, each.new) for each in listed).values()) == 1


def test_the_tests_that_must_notice_are_there():
    for mutant in mutants.mutants():
        for test in mutant.tests:
            file, _, name = test.partition("::")
            assert f"def {name}(" in (TREE / file).read_text(), f"{mutant.id}: {test}"


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A tree with a function of one number, a test that sees its sign, and one that sees
    nothing."""
    (tmp_path / "code.py").write_text("def double(x):\n    return 2 * x\n")
    (tmp_path / "test_code.py").write_text(
        "from code import double\n\n\ndef test_sign():\n    assert double(1) > 0\n\n\ndef "
        "test_size():\n    assert double(3)\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # which these tests do without
    return tmp_path


CASES = [
    ("-2 * x", "test_code.py", True, "test_code.py::test_sign"),
    ("-2 * x", "test_code.py::test_size", False, "LIVES"),
    ("-2 * x", "test_code.py::test_that_is_not_there", False, "LIVES"),
    ("2 *", "test_code.py", False, "LIVES"),
    ("2 * x", "test_code.py", False, "LIVES"),
]


def test_a_mutant_is_noticed_where_its_tests_fail_and_by_nothing_else(copy):
    """Not by a test that is not there, and not because the changed file is no Python; one after the
    other, each alone."""
    before = (copy / "code.py").read_text()
    with runner(copy) as run:
        for new, test, killed, said in CASES:
            found, how = verdict(
                run, copy, Mutant("sign", "code.py", "2 * x", new, (test,), "twice is twice")
            )
            assert found == killed, new
            assert said in how
            assert (copy / "code.py").read_text() == before


@pytest.mark.parametrize(("old", "times"), [("3 * x", 0), ("x", 2)])
def test_a_text_that_does_not_stand_exactly_once_is_refused(copy, old, times):
    with pytest.raises(ValueError, match=f"sign(?s:.*){times} times in code.py"):
        verdict(
            lambda tests: (0, ""), copy, Mutant("sign", "code.py", old, "y", ("test_code.py",), "")
        )


def test_the_command_refuses_what_it_does_not_know(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mutants", "no-such-mutant"])
    with pytest.raises(SystemExit):
        mutants.main()
    assert "no-such-mutant" in capsys.readouterr().err
