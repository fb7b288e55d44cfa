"""The good files of the tests of hostile ones, and the count of what was tried, at the end of the tests' output."""

import sys
from collections import Counter

import pytest

TRIED: dict[str, Counter] = {}


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A good derived file, a model folder and the kinds of harm (benchmarks.hostile)."""
    if sys.platform != "linux":
        pytest.skip("the limits on memory are those of Linux")
    from benchmarks.hostile.run import World

    return World.make(tmp_path_factory.mktemp("hostile"))


@pytest.fixture
def tried():
    """tried(name, counts) → told in the summary."""
    return lambda name, counts: TRIED.setdefault(name, Counter()).update(counts)


def pytest_terminal_summary(terminalreporter):
    if TRIED:
        terminalreporter.section("hostile files and kills")
    for name, counts in TRIED.items():
        ends = ", ".join(f"{number} {word}" for word, number in counts.items())
        terminalreporter.write_line(f"{name}: {ends}")
