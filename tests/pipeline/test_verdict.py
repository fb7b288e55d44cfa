"""The line that fit, align and score end in: what a model loses to, by how much, and a command that
keeps the rest."""

import shlex
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import metadyn
from metadyn.inference.encoding import trial_embeddings
from metadyn.inference.scores import PREDICTORS
from metadyn.pipeline import verdict
from metadyn.pipeline.inputs import Recording
from metadyn.records import SessionEntry

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
    assert verdict.findings([scores()]) == {}
    said = verdict.line(
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
    assert verdict.findings([level]) == {}
    assert "behind no baseline: " in verdict.summary([level])
    assert verdict.summary([level]).endswith("decoded behaviour 0.000 r² (level with the mean)")
    ahead = scores("day1", behavior_r2=[0.5, 0, NAN, 0.4, 0.3])
    assert "decoded behaviour 0.250 r² (level with the mean: day2)" in verdict.summary(
        [ahead, level]
    )
    assert "level" not in verdict.summary([ahead])


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
    assert verdict.findings([scores(behavior_r2=values)]) == {
        "decoded behaviour": f"decoded behaviour {said}"
    }
    assert verdict.findings([scores(behavior_r2=[0.7, 0, NAN, 0.705, 0.1])]) == {}, (
        "within the margin"
    )
    assert verdict.findings([scores(behavior_r2=[NAN] * 5)]) == {}, "not measured"


def test_forecasts_below_the_mean_rate_come_first_and_name_the_worst_of_several_sessions():
    worst = scores(
        "day3",
        forecast_bits_per_spike=[-0.5, 0, 0.1, NAN, NAN],
        bits_per_spike=[0.05, 0, 0.1, NAN, NAN],
    )
    bad = scores("day2", forecast_bits_per_spike=[-0.1, 0, 0.1, NAN, NAN])
    found = verdict.findings([scores(), bad, worst, scores("day4")])
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
    assert verdict.findings([scores(**gaussian)]) == {
        "forecasts": "forecasts behind the last value (0.100 against 0.400 r²)"
    }


def test_an_embedding_has_collapsed_when_sessions_differ_no_more_than_trials_of_one(world):
    """SD between sessions of what is stored, and root of the mean variance over trials, by a
    loop."""
    trained = metadyn.load_model(world.model)
    counts = [metadyn.bin_spikes(metadyn.read_session(path)) for path in world.files[:2]]
    variance = [trial_embeddings(trained, each).mean[0].numpy().var(0) for each in counts]
    within = np.sqrt(sum(variance) / 2)
    for factor, expected in ((0.9, True), (1.1, False)):
        apart = tuple(
            (factor * np.sqrt(2) * within).tolist()
        )  # two values so far apart have an SD of factor · within
        entries = (replace(trained.sessions[0], embedding_mean=(0.0,) * len(apart)),)
        entries += (replace(trained.sessions[1], embedding_mean=apart),)
        assert verdict.collapsed(replace(trained, sessions=entries), counts) is expected
    alone = replace(trained, sessions=trained.sessions[:1])
    assert not verdict.collapsed(alone, counts[:1])


def test_the_command_of_a_verdict_keeps_every_setting_but_those_it_changes(run, world, tmp_path):
    """Settings of all kinds: pairs, words, switches, text with spaces; and what is run by it ends
    in them."""
    options = "--hidden 4 5 --changed-layers input --changed-layers output --residual --latent-hidden 4 --readin-hidden 4"
    options += " --where 'start_time < 90' --min-rate 0.5 --latent-dim 2 --no-warm-start --distil-steps 0 --steps 3"
    assert (
        run("fit", *world.files[:2], "-o", tmp_path / "my model", *shlex.split(options)).exit_code
        == 0
    )
    first = metadyn.load_model(tmp_path / "my model")
    files = [str(path) for path in world.files[:2]]
    command = verdict.fit_command(
        first, files, [str(tmp_path / "my model")], {"steps": 2, "latent_dim": 3}
    )
    assert run(*shlex.split(command.removeprefix("metadyn "))).exit_code == 0, command
    again = metadyn.load_model(tmp_path / "my model-2")
    assert again.config == first.config.model_copy(update={"latent_dim": 3})
    assert again.training == first.training.model_copy(update={"steps": 2})
    assert (again.data, again.bin_width) == (first.data, first.bin_width)


def test_recordings_of_a_verdict_are_those_given_and_their_neighbours_or_none(world, tmp_path):
    trained = metadyn.load_model(world.model)
    assert verdict.recordings_of(trained, world.files[1]) == [str(path) for path in world.files[:2]]
    alone = tmp_path / world.files[0].name
    alone.write_bytes(world.files[0].read_bytes())
    assert verdict.recordings_of(trained, alone) == []
    assert verdict.recordings_of(trained, metadyn.read_session(alone)) == []
    for folder in ("raw", "annotated", "zeroed"):
        (tmp_path / folder).mkdir()
        for file in world.files[:2]:
            (tmp_path / folder / file.name).touch()
    meant = [str(tmp_path / "raw" / file.name) for file in world.files[:2]]
    assert verdict.recordings_of(trained, meant[1]) == meant, (
        "files of the same names elsewhere are not those beside it"
    )


def test_what_was_given_is_shown_as_it_was_given(world, tmp_path):
    given = [str(world.files[0]), world.files[1], Recording(world.files[1], "day 2")]
    assert verdict.as_arguments(given) == [
        str(world.files[0]),
        str(world.files[1]),
        f"day 2={world.files[1]}",
    ]
    assert verdict.as_arguments(metadyn.read_session(world.files[0])) == []
    (tmp_path / "m-2").mkdir()
    assert verdict.beside(str(tmp_path / "m")) == str(tmp_path / "m-3")


def test_a_verdict_on_validation_windows_meets_none_that_is_kept_for_tests(world):
    trained = metadyn.load_model(world.model)
    counts = metadyn.bin_spikes(metadyn.read_session(world.files[0]))
    entry = SessionEntry.of(counts.select(slice(4)), counts.select(slice(4, 6)))
    assert counts.n_trials > 6
    few = verdict.few_windows(
        replace(trained, sessions=(entry, *trained.sessions[1:])), counts, "validation"
    )
    np.testing.assert_array_equal(few.windows.start, counts.windows.start[4:6])
