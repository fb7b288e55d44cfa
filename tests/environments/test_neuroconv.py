"""Where NeuroConv is, a conversion writes what `metadyn annotate` writes: the tests of
tests/pipeline/test_neuroconv.py."""

import pytest

from tests.environments.conftest import ROOT

pytestmark = pytest.mark.timeout(1800)  # environments are made
TESTS = ROOT / "tests" / "pipeline" / "test_neuroconv.py"


def test_conversions_end_with_latent_dynamics(environment, wheel_of):
    converter = environment("torch")
    wheel = f"{wheel_of(ROOT)}[neuroconv]"  # not under constraints.txt, which has zarr 3
    converter.run("pip", "install", "--quiet", wheel, "pytest", "pytest-timeout", "beartype")
    said = converter.run("python", "-m", "pytest", TESTS, "-p", "no:cacheprovider")
    assert "4 passed" in said
    print(said)
