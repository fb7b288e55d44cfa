"""kill -9 at random moments loses nothing; 50 kills of each command with `pytest -m long`."""

import pytest

from tests.hostile.kills import crash, jobs

KILLS = {"fit": 2, "align": 1, "annotate": 1, "package": 1}


@pytest.fixture(scope="module")
def killable(world, tmp_path_factory):
    """The jobs, and the folder of what they read."""
    folder = tmp_path_factory.mktemp("crash")
    return jobs(folder), folder / "given"


def check(killable, tried, verb, kills):
    made, sources = killable
    found = crash(made[verb], sources, kills)
    tried(f"{kills} kills of {verb}", found)
    assert found["next run succeeded"] == kills


@pytest.mark.parametrize("verb", KILLS)
def test_nothing_is_lost_when_it_is_killed_and_the_next_run_succeeds(killable, tried, verb):
    check(killable, tried, verb, KILLS[verb])


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("verb", KILLS)
def test_nothing_is_lost_by_fifty_kills(killable, tried, verb):
    check(killable, tried, verb, 50)
