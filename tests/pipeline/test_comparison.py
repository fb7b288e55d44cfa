"""A model beside its baselines in words: what it loses to, by how much and where."""

import pytest
import xarray as xr

from metadyn.inference.scores import PREDICTORS
from metadyn.pipeline import verdict
from metadyn.pipeline.comparison import baselines_ahead, summary

NAN = float("nan")


def scores(session="day1", windows="test", **values) -> xr.Dataset:
    """Scores of a session: values of the predictors in their order, by the variable's name."""
    usual = {
        "forecast_bits_per_spike": [0.2, 0, 0.1, NAN, NAN],
        "bits_per_spike": [0.3, 0, 0.1, NAN, NAN],
    }
    variables = {name: ("predictor", of_each) for name, of_each in {**usual, **values}.items()}
    return xr.Dataset(
        variables, {"predictor": PREDICTORS}, {"session": session, "windows": windows}
    )


def test_a_model_that_is_ahead_everywhere_is_said_to_be_with_its_scores():
    assert baselines_ahead([scores()]) == {}
    said = verdict.as_line(
        "test windows",
        {},
        [scores(), scores(bits_per_spike=[0.5, 0, 0.1, NAN, NAN])],
        "metadyn annotate …",
    )
    assert (
        "ahead of every baseline: forecasts 0.200 bits per spike, hidden entries 0.400 bits per "
        "spike" in said
    )
    assert said.endswith("; next: metadyn annotate …")


def test_what_is_level_with_a_baseline_is_not_said_to_be_ahead_of_it():
    level = scores("day2", behavior_r2=[0.0004, 0, NAN, -0.0002, -0.1])
    assert baselines_ahead([level]) == {}
    assert "behind no baseline: " in summary([level])
    assert summary([level]).endswith("decoded behaviour 0.000 r² (level with the mean)")
    ahead = scores("day1", behavior_r2=[0.5, 0, NAN, 0.4, 0.3])
    assert "decoded behaviour 0.250 r² (level with the mean: day2)" in summary([ahead, level])
    assert "level" not in summary([ahead])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            [-0.001, 0, NAN, 0.173, 0.012],
            "below smoothed spikes (-0.001 against 0.173 r²)",
        ),  # a hair below the mean
        ([0.692, 0, NAN, 0.768, 0.7], "behind smoothed spikes (0.692 against 0.768 r²)"),
        ([0.1, 0, NAN, 0.2, 0.3], "behind principal components (0.100 against 0.300 r²)"),
        ([-0.2, 0, NAN, 0.2, 0.3], "below the mean (-0.200 against 0.000 r²)"),
    ],
)
def test_behaviour_that_spikes_decode_better_is_said_with_both_scores(values, said):
    assert baselines_ahead([scores(behavior_r2=values)]) == {
        "decoded behaviour": f"decoded behaviour {said}"
    }
    assert baselines_ahead([scores(behavior_r2=[0.7, 0, NAN, 0.705, 0.1])]) == {}, (
        "within the margin"
    )
    assert baselines_ahead([scores(behavior_r2=[NAN] * 5)]) == {}, "not measured"


def test_forecasts_below_the_mean_rate_come_first_and_name_the_worst_of_several_sessions():
    worst = scores(
        "day3",
        forecast_bits_per_spike=[-0.5, 0, 0.1, NAN, NAN],
        bits_per_spike=[0.05, 0, 0.1, NAN, NAN],
    )
    bad = scores("day2", forecast_bits_per_spike=[-0.1, 0, 0.1, NAN, NAN])
    found = baselines_ahead([scores(), bad, worst, scores("day4")])
    assert list(found) == ["forecasts", "hidden entries"]
    assert found["forecasts"].startswith(
        "forecasts below the mean rate (-0.500 against 0.000 bits per spike"
    )
    assert "worst of 2 in 4 sessions: day3)" in found["forecasts"]
    assert "behind the last value (0.050 against 0.100" in found["hidden entries"]


def test_where_counts_have_no_bits_r2_is_what_is_compared():
    gaussian = {name: [NAN] * 5 for name in ("forecast_bits_per_spike", "bits_per_spike")}
    gaussian |= {
        "forecast_r2": [0.1, 0, 0.4, NAN, NAN],
        "reconstruction_r2": [0.5, 0, 0.4, NAN, NAN],
    }
    assert baselines_ahead([scores(**gaussian)]) == {
        "forecasts": "forecasts behind the last value (0.100 against 0.400 r²)"
    }
