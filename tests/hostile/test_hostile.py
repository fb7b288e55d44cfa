"""Whatever a file holds, a command ends with a result or a message, harms no other file and runs
nothing.

Few cases of each kind, and most of them met by what is quick; `pytest -m long tests/hostile` tries
more than 100 of each with every command and reader.
"""

import pytest

from tests.hostile.cases import try_corruption

QUICK = ("inspect", "infer", "model", "readers", "checks", "fit", "resume")
CASES = {
    "bytes cut or flipped": 30,
    "headers of safetensors": 30,
    "settings of models": 20,
    "shapes that lie": 20,
    "claims of 1e9 rows": 20,
    "links": 20,
    "NaN and inf": 20,
    "rows out of range": 20,
    "names": 20,
    "links in place of the target": 6,
    "two processes at once": 2,
}


def check(world, tried, name, cases, verbs):
    ends, faults = try_corruption(world.corruptions[name], world, cases, verbs)
    tried(f"{sum(ends.values())} cases of {name}", ends)
    assert not faults, "\n\n".join(faults[:3])
    assert sum(ends.values()) == cases


@pytest.mark.parametrize("name", CASES)
def test_no_case_of_a_kind_ends_without_a_result_or_a_message(world, tried, name):
    verbs = world.corruptions[name].verbs
    quick = tuple(verb for verb in verbs if verb in QUICK)
    check(world, tried, name, CASES[name], quick if len(quick) > 2 else verbs)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", CASES)
def test_more_than_a_hundred_cases_of_each_kind_with_every_reader(world, tried, name):
    check(world, tried, name, 120, world.corruptions[name].verbs)


def test_every_kind_is_tried(world):
    assert set(world.corruptions) == set(CASES)
