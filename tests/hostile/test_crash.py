"""kill -9 at random moments loses nothing; a few of those that `python -m benchmarks.crash`
tries."""

import pytest

from benchmarks.crash import crash, jobs

KILLS = {"fit": 2, "align": 1, "annotate": 1, "package": 1}


@pytest.fixture(scope="module")
def killable(world, tmp_path_factory):
    """The jobs, and the folder of what they read."""
    folder = tmp_path_factory.mktemp("crash")
    return jobs(folder), folder / "given"


@pytest.mark.parametrize("verb", KILLS)
def test_nothing_is_lost_when_it_is_killed_and_the_next_run_succeeds(killable, tried, verb):
    made, sources = killable
    found = crash(made[verb], sources, KILLS[verb])
    tried(f"{KILLS[verb]} kills of {verb}", found)
    assert found["next run succeeded"] == KILLS[verb]
