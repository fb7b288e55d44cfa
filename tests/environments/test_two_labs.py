"""Two environments, two checkouts: lab B aligns to the file that lab A shared as well as to A's
checkpoint itself."""

import json

import numpy as np
import pytest

from tests.environments.conftest import CONTEXT, ROOT, STEPS, done

pytestmark = pytest.mark.timeout(1800)  # environments are made
SCORE = """
import json, sys
import metadyn
scores = metadyn.score(sys.argv[1], sys.argv[2], context=int(sys.argv[3]), steps=int(sys.argv[4]))
print(json.dumps({name: scores[name].sel(predictor="model").values.tolist() for name in scores.data_vars}))
print(metadyn.__file__)
"""


@pytest.fixture(scope="module")
def lab_b(environment, wheel_of, tmp_path_factory):
    """Another checkout, and an environment of the wheel built from it."""
    checkout = tmp_path_factory.mktemp("lab_b") / "checkout"
    done("git", "clone", "--quiet", ROOT, checkout)
    return environment("torch", f"{wheel_of(checkout)}[model]")


def test_lab_b_forecasts_as_well_from_the_file_as_from_the_checkpoint(lab_a, lab_b):
    lab_b.run(
        "metadyn",
        "simulate",
        "limit-cycle",
        "-o",
        "mine",
        "--sessions",
        1,
        "--trials",
        32,
        "--bins",
        80,
        "--seed",
        9,
    )
    (mine,) = lab_b.home.glob("mine/*/*.nwb")
    scores = {}
    for name, source in (("file", lab_a.shared), ("checkpoint", lab_a.model)):
        lab_b.run("metadyn", "align", source, mine, "-o", name, "--trials", 8)
        told, where = lab_b.run("python", "-c", SCORE, name, mine, CONTEXT, STEPS).splitlines()
        assert str(lab_b.home / ".venv") in where
        scores[name] = json.loads(told)
        bits, last = scores[name]["forecast_bits_per_spike"], scores[name]["forecast_r2"][-1]
        print(
            f"from the {name}: forecast {bits} bits/spike, r² {last} at {STEPS} bins ahead, 24 "
            "held-out trials"
        )
    assert scores["file"]["forecast_bits_per_spike"] > 0.1  # above the mean rate, which is at 0
    for name, values in scores["checkpoint"].items():
        np.testing.assert_allclose(scores["file"][name], values, rtol=1e-5, atol=1e-6, err_msg=name)
