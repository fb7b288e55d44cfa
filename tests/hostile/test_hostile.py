"""Whatever a file holds, a command ends with a result or a message, harms no other file and runs nothing (benchmarks.hostile)."""

import pytest

from benchmarks.hostile.run import try_kind
from benchmarks.hostile.verbs import VERBS
from benchmarks.hostile.ward import Ward

CASES = {
    "bytes cut or flipped": 100,
    "headers of safetensors": 100,
    "settings of models": 100,
    "shapes that lie": 100,
    "claims of 1e9 rows": 100,
    "links": 100,
    "NaN and inf": 100,
    "rows out of range": 100,
    "names": 100,
    "links in place of the target": 100,
    "two processes at once": 10,
}


@pytest.mark.parametrize("kind", CASES)
def test_no_case_of_a_kind_ends_without_a_result_or_a_message(world, tried, kind):
    ends, faults = try_kind(world.kinds[kind], world, CASES[kind])
    tried(f"{sum(ends.values())} cases of {kind}", ends)
    assert not faults, "\n\n".join(faults[:3])
    assert sum(ends.values()) >= CASES[kind]
