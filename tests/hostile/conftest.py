"""The good files that tests of hostile ones begin with."""

import sys

import pytest


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A good derived file, a model folder and the kinds of corruption."""
    if sys.platform != "linux":
        pytest.skip("the limits on memory are those of Linux")
    from tests.hostile.cases import World

    return World.make(tmp_path_factory.mktemp("hostile"))


@pytest.fixture
def tried(record_property):
    """tried(what, counts) → told at the end of the tests' output."""

    def tell(what: str, counts: dict[str, int]) -> None:
        record_property(
            "tried", f"{what}: {', '.join(f'{many} {end}' for end, many in counts.items())}"
        )

    return tell
