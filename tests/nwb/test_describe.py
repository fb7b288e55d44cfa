"""What inspect says of a file, and that the commands it proposes work on that file."""

import shlex

import numpy as np
import pytest
from pynwb import TimeSeries

from metadyn.data.binning import bin_spikes
from metadyn.errors import DataError, WindowError, as_flags
from metadyn.nwb.describe import describe
from metadyn.nwb.read import read_session

COMMANDS = {
    "maze": "",
    "human_mtl": "--intervals encoding_table",
    "head_direction": "",
    "alme_17724_fambegin1": "",
    "alme_17769_novel4begin2": "",
    "alme_17894_fambegin1": "",
    "alm_photostim": "--align start_time --n-bins 100",
}


def options_of(command: str) -> dict:
    words = shlex.split(command)
    pairs = [(word[2:].replace("-", "_"), words[i + 1]) for i, word in enumerate(words) if word.startswith("--")]
    return {name: int(value) if value.isdigit() else value for name, value in pairs}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.filterwarnings("ignore:.*where nothing was recorded:UserWarning")  # three photostim trials; not the claim here
def test_the_proposed_command_works_on_every_real_file_that_can_train(real_data, name):
    description = describe(real_data / f"{name}.nwb")
    fit, annotate = description.next_commands
    assert COMMANDS[name] in fit
    assert fit.startswith("metadyn fit ")
    assert annotate.startswith("metadyn annotate model ")
    assert bin_spikes(read_session(real_data / f"{name}.nwb"), **options_of(fit)).n_units >= 2
    assert bool(description.problems) == bool(COMMANDS[name])


@pytest.mark.parametrize(
    ("starts", "stops"),
    [
        ([0, 1, 1.3, 3], [0.5, 1.5, 1.8, 3.5]),  # overlapping rows
        ([0, 1, 2, 3], [1, 2, 3, 90]),  # one wild length
        ([0, 0.5, 2, 3], [np.nan] * 4),  # no ends, and starts closer than the windows first proposed
    ],
)
def test_the_next_command_is_what_the_problem_proposes(new_nwb, save, starts, stops):
    nwbfile = new_nwb(spikes=[np.arange(0, 100, 0.01)] * 2)
    for start, stop in zip(starts, stops, strict=True):
        nwbfile.add_trial(start_time=float(start), stop_time=float(stop))
    path = save(nwbfile)
    description = describe(path)
    options = options_of(description.next_commands[0])
    assert bin_spikes(read_session(path), **options).n_trials == len(starts)
    error = refusal(path)
    assert description.problems == (str(error),)
    while error.options != options:
        error = refusal(path, **error.options)
    assert as_flags(options) in error.remedy


def refusal(path, **options) -> WindowError:
    with pytest.raises(WindowError) as error:
        bin_spikes(read_session(path), **options)
    return error.value


def test_a_file_of_one_unit_without_stop_times_says_both(real_data):
    description = describe(real_data / "alm_nan_stop_times.nwb")
    assert description.n_units == 1
    assert description.next_commands == ()
    assert "no row of 'trials' has a stop_time" in description.problems[0]
    assert "two units at least" in description.problems[1]
    stop_time = next(column for column in description.tables[0].columns if column.name == "stop_time")
    assert stop_time.n_missing == 340
    assert not stop_time.is_event
    assert "not in order" in description.notes[0]


def test_maze_is_described_as_its_readme_says(real_data):
    description = describe(real_data / "maze.nwb")
    assert (description.n_units, description.n_spikes) == (162, 72_033)
    assert description.observed_seconds == pytest.approx(82.5)
    assert [(table.name, table.n_rows) for table in description.tables] == [("trials", 165)]
    assert [(s.path, s.shape, round(s.rate)) for s in description.behavior] == [
        ("behavior/hand_position", (16500, 2), 200),
        ("behavior/hand_velocity", (16500, 2), 200),
    ]


def test_tables_events_rates_and_series_are_those_written(new_nwb, add_trials, save):
    nwbfile = new_nwb(spikes=[np.arange(0, 10, 0.1), np.arange(0, 10, 0.5)])
    add_trials(nwbfile, [1, 2, 3], go_time=[1.1, np.nan, 3.1], choice=["l", "r", "l"])
    nwbfile.add_acquisition(TimeSeries(name="wheel", data=np.zeros(50), rate=25.0, unit="cm"))
    description = describe(save(nwbfile))
    columns = {column.name: column for column in description.tables[0].columns}
    assert (columns["go_time"].n_missing, columns["go_time"].is_event) == (1, True)
    assert not columns["choice"].is_event
    assert "'l' (2)" in columns["choice"].values
    np.testing.assert_allclose(description.rate_quantiles[-1], 100 / 9.9)
    assert [(s.path, s.rate, s.unit) for s in description.behavior] == [("wheel", 25.0, "cm")]
    assert description.runs == ()


def test_runs_of_metadyn_are_named_and_their_results_are_no_behaviour(save):
    from ndx_metadyn.testing.mock import mock_LatentDynamics, mock_NWBFile

    nwbfile = mock_NWBFile()
    run = mock_LatentDynamics(nwbfile)
    description = describe(save(nwbfile))
    assert set(description.runs) == {run.name, run.model.name}
    assert description.behavior == ()
    assert [table.name for table in description.tables] == ["trials"]


def test_a_file_without_units_is_described_with_its_problem(new_nwb, add_trials, save):
    description = describe(save(add_trials(new_nwb(spikes=None), [0.0])))
    assert description.n_units == 0
    assert description.span is None
    assert "holds no units" in description.problems[0]
    assert description.tables[0].name == "trials"
    assert description.next_commands == ()


def test_a_path_with_spaces_is_quoted(new_nwb, add_trials, save):
    path = save(add_trials(new_nwb(), [0.0]), "with space.nwb")
    assert shlex.split(describe(path).next_commands[0])[2] == str(path)


def test_what_is_no_nwb_file_cannot_be_described(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        describe(tmp_path / "absent.nwb")


def test_the_description_says_how_much_is_valid_for_which_units(new_nwb, save):
    spikes = [np.arange(0.05, 100, 0.1), np.arange(0.05, 40, 0.1), np.arange(0.05, 100, 0.2)]
    nwbfile = new_nwb(spikes=spikes, obs_intervals=[[[0, 100]], [[0, 40]], [[0, 100]]])
    nwbfile.add_invalid_time_interval(start_time=30.0, stop_time=50.0)
    nwbfile.add_invalid_time_interval(start_time=95.0, stop_time=120.0)
    description = describe(save(nwbfile))
    assert description.observed_seconds == pytest.approx(75)
    assert description.invalid_seconds == pytest.approx(25, abs=0.1)
    assert [(each.rows, each.seconds) for each in description.units_observed] == [((0, 2), 75.0), ((1,), 30.0)]
    assert any("2 invalid_times" in note and "all units" in note for note in description.notes)


def test_time_beside_invalid_times_alone_ends_with_the_spikes(new_nwb, save):
    nwbfile = new_nwb(spikes=[np.arange(10, 110, 0.1), np.arange(10, 60, 0.1)])
    nwbfile.add_invalid_time_interval(start_time=0.0, stop_time=30.0)
    description = describe(save(nwbfile))
    assert description.observed_seconds == pytest.approx(80, abs=0.2)
    assert description.invalid_seconds == pytest.approx(20, abs=0.2)
    assert description.units_observed == ()
    assert description.rate_quantiles[-1] == pytest.approx(1000 / 80, rel=0.01)
