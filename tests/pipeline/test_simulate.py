"""`metadyn simulate` for each family."""

from metadyn.data.families import FAMILIES
from metadyn.nwb.read import read_session


def test_the_help_has_a_line_for_each_family(run):
    lines = [line.strip() for line in run("simulate", "--help").stdout.splitlines()]
    assert {f"{name}: {family.about}" for name, family in FAMILIES.items()} <= set(lines)


def test_twenty_duffing_sessions_are_the_whole_grid(run, tmp_path):
    made = run("simulate", "duffing", "-o", tmp_path, "--sessions", 20, "--trials", 1, "--bins", 5)
    assert made.exit_code == 0
    trials = [read_session(path).intervals["trials"] for path in made.stdout.split()]
    found = {(each["a"][0], each["b"][0]) for each in trials}
    assert found == {tuple(each.values()) for each in FAMILIES["duffing"].cover(None)}


def test_an_unknown_family_is_told_and_lists_them(run, tmp_path):
    result = run("simulate", "lorenz", "-o", tmp_path / "raw")
    assert result.exit_code == 2
    assert all(name in result.stderr for name in FAMILIES)
    assert not (tmp_path / "raw").exists()
