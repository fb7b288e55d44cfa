"""Whatever a file holds, a command ends with a result or a message, harms no other file and runs
nothing.

Few cases of each kind, and most of them met by what is quick; `python -m benchmarks.hostile` tries
more than 100 of each.
"""

import pytest

from benchmarks.hostile.run import try_kind

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


@pytest.mark.parametrize("name", CASES)
def test_no_case_of_a_kind_ends_without_a_result_or_a_message(world, tried, name):
    kind = world.kinds[name]
    quick = tuple(verb for verb in kind.verbs if verb in QUICK)
    ends, faults = try_kind(kind, world, CASES[name], quick if len(quick) > 2 else kind.verbs)
    tried(f"{sum(ends.values())} cases of {name}", ends)
    assert not faults, "\n\n".join(faults[:3])
    assert sum(ends.values()) == CASES[name]


def test_every_kind_is_tried(world):
    assert set(world.kinds) == set(CASES)
