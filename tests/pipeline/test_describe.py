"""What inspect says of a file, and that the commands it proposes work on that file."""

import shlex

import numpy as np
import pytest
from pynwb import NWBHDF5IO, TimeSeries

from metadyn.cli.commands.inspect import show_description
from metadyn.data.binning import bin_spikes
from metadyn.errors import DataError, WindowError, as_keywords
from metadyn.nwb.read import read_session
from metadyn.pipeline.describe import describe

COMMANDS = {
    "maze": "--condition condition",
    "human_mtl": "--intervals encoding_table --condition stimCategory",
    "head_direction": "",
    "alme_17724_fambegin1": "",
    "alme_17769_novel4begin2": "",
    "alme_17894_fambegin1": "",
    "alm_photostim": "--align start_time --n-bins 100 --condition type",
}
WITHOUT_PROBLEM = (
    "maze",
    "head_direction",
    "alme_17724_fambegin1",
    "alme_17769_novel4begin2",
    "alme_17894_fambegin1",
)


def options_of(command: str) -> dict:
    words = shlex.split(command)
    pairs = [
        (word[2:].replace("-", "_"), words[i + 1])
        for i, word in enumerate(words)
        if word.startswith("--")
    ]
    numbers = {"n_bins": int, "start": float}
    return {name: numbers.get(name, str)(value) for name, value in pairs}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.filterwarnings(
    "ignore:.*where nothing was recorded:UserWarning"
)  # three photostim trials; not the claim here
def test_the_proposed_command_works_on_every_real_file_that_can_train(real_data, name):
    description = describe(real_data / f"{name}.nwb")
    fit, annotate = description.next_commands
    assert COMMANDS[name] in fit
    assert fit.startswith("metadyn fit ")
    assert annotate.startswith("metadyn annotate model ")
    assert bin_spikes(read_session(real_data / f"{name}.nwb"), **options_of(fit)).n_units >= 2
    assert bool(description.problems) != (name in WITHOUT_PROBLEM)


@pytest.mark.parametrize(
    ("starts", "stops"),
    [
        ([0, 1, 1.3, 3], [0.5, 1.5, 1.8, 3.5]),  # overlapping rows
        ([0, 1, 2, 3], [1, 2, 3, 90]),  # one wild length
        (
            [0, 0.5, 2, 3],
            [np.nan] * 4,
        ),  # no ends, and starts closer than the windows first proposed
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
    assert as_keywords(options) in error.remedy


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
    stop_time = next(
        column for column in description.tables[0].columns if column.name == "stop_time"
    )
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


def test_a_folder_is_refused_with_the_name_of_a_file_in_it(new_nwb, add_trials, save, tmp_path):
    folder = tmp_path / "two words"
    folder.mkdir()
    inside = save(add_trials(new_nwb(), [0.0, 2.0])).rename(folder / "one day.nwb")
    with pytest.raises(DataError, match="not an NWB file") as error:
        describe(folder)
    assert shlex.split(error.value.remedy) == [str(inside)]
    inside.unlink()
    with pytest.raises(DataError, match=r"without an .nwb file"):
        describe(folder)


def test_the_description_says_how_much_is_valid_for_which_units(new_nwb, save):
    spikes = [np.arange(0.05, 100, 0.1), np.arange(0.05, 40, 0.1), np.arange(0.05, 100, 0.2)]
    nwbfile = new_nwb(spikes=spikes, obs_intervals=[[[0, 100]], [[0, 40]], [[0, 100]]])
    nwbfile.add_invalid_time_interval(start_time=30.0, stop_time=50.0)
    nwbfile.add_invalid_time_interval(start_time=95.0, stop_time=120.0)
    description = describe(save(nwbfile))
    assert description.observed_seconds == pytest.approx(75)
    assert description.invalid_seconds == pytest.approx(25, abs=0.1)
    assert [(each.rows, each.seconds) for each in description.units_observed] == [
        ((0, 2), 75.0),
        ((1,), 30.0),
    ]
    assert any("2 invalid_times" in note and "all units" in note for note in description.notes)


def test_time_beside_invalid_times_alone_ends_with_the_spikes(new_nwb, save):
    nwbfile = new_nwb(spikes=[np.arange(10, 110, 0.1), np.arange(10, 60, 0.1)])
    nwbfile.add_invalid_time_interval(start_time=0.0, stop_time=30.0)
    description = describe(save(nwbfile))
    assert description.observed_seconds == pytest.approx(80, abs=0.2)
    assert description.invalid_seconds == pytest.approx(20, abs=0.2)
    assert description.units_observed == ()
    assert description.rate_quantiles[-1] == pytest.approx(800 / 80, rel=0.01), (
        "spikes of the invalid 20 s are none"
    )


def test_rates_are_of_the_time_in_which_each_unit_was_observed(new_nwb, save):
    spikes = [np.arange(0.05, 90, 0.1), np.arange(0.05, 90, 0.1), np.arange(0.05, 90, 0.3)]
    nwbfile = new_nwb(spikes=spikes, obs_intervals=[[[0, 30], [60, 75]], [[0, 90]], [[0, 90]]])
    nwbfile.add_invalid_time_interval(start_time=10.0, stop_time=20.0)
    slow, _, middle, _, fast = describe(save(nwbfile)).rate_quantiles
    assert (slow, middle, fast) == (
        pytest.approx(10 / 3, rel=0.02),
        pytest.approx(10, rel=0.01),
        pytest.approx(10, rel=0.01),
    )


@pytest.fixture
def reaching(new_nwb, save):
    """A centre-out session as of Perich et al.: 40 trials of uneven length, failed ones without
    movement onset; two areas."""
    rng = np.random.default_rng(3)
    nwbfile = new_nwb(spikes=None)
    device = nwbfile.create_device("array")
    for area in ("M1", "PMd"):
        nwbfile.add_electrode(
            location=area, group=nwbfile.create_electrode_group(area, "array", area, device)
        )
    nwbfile.add_unit_column("quality", "by the curator")
    for i in range(7):
        spikes = np.sort(rng.uniform(0, 200, 1500))
        nwbfile.add_unit(
            spike_times=spikes, quality="mua" if i in (1, 4) else "good", electrodes=[i % 3 % 2]
        )
    for name in (
        "result",
        "target_id",
        "target_direction",
        "target_on_time",
        "go_cue_time",
        "move_onset_time",
    ):
        nwbfile.add_trial_column(name, name)
    start = 1.37
    for i in range(40):
        length, failed = rng.uniform(2.2, 3.5), i % 5 == 4
        times = {
            "target_on_time": start + 0.3,
            "go_cue_time": start + 0.9,
            "move_onset_time": np.nan if failed else start + 1.2,
        }
        target = {
            "target_id": i % 8,
            "target_direction": np.pi / 4 * (i % 8),
            "result": "F" if failed else "R",
        }
        nwbfile.add_trial(start_time=start, stop_time=start + length, **times, **target)
        start += length + 0.4
    return save(nwbfile)


@pytest.mark.filterwarnings("ignore:8 of 40 rows of trials lack a time:UserWarning")
def test_the_next_command_names_event_condition_and_good_units_of_a_reaching_task(reaching):
    description = describe(reaching)
    fit = description.next_commands[0]
    assert (
        "--align move_onset_time --start -0.2 --n-bins 60 --condition target_direction --units "
        "\"quality == 'good'\"" in fit
    )
    with pytest.warns(UserWarning, match="8 of 40 rows of trials lack a time"):
        counts = bin_spikes(read_session(reaching), **options_of(fit))
    assert counts.unit_rows.tolist() == [0, 2, 3, 5, 6]
    assert counts.n_trials == 32
    assert len(set(counts.condition)) == 8
    assert any("8 of 40 rows" in note for note in description.notes)
    with NWBHDF5IO(reaching, "r") as io:
        nwbfile = io.read()
        areas = [nwbfile.units["electrodes"][unit].location.iloc[0] for unit in range(7)]
        lengths = nwbfile.trials["stop_time"][:] - nwbfile.trials["start_time"][:]
    assert dict(description.areas) == {area: areas.count(area) for area in ("M1", "PMd")}
    np.testing.assert_allclose(description.tables[0].seconds, np.quantile(lengths, [0, 0.5, 1]))


def shown(path, capsys, monkeypatch, columns="80"):
    monkeypatch.setenv("COLUMNS", columns)
    show_description(describe(path))
    return capsys.readouterr().out


def test_what_is_shown_of_a_reaching_task_fits_80_columns_but_for_the_commands(
    reaching, capsys, monkeypatch
):
    lines = shown(reaching, capsys, monkeypatch).splitlines()
    long = [
        line
        for line in lines
        if len(line.rstrip()) > 80
        and not line.startswith("  metadyn")
        and str(reaching) not in line
    ]
    assert not long
    assert (
        "units by location: M1 (4), PMd (3)" in lines
        or "units by location: M1 (5), PMd (2)" in lines
    )


QUIET = {
    "one value": ["go"] * 12,
    "all different": [f"picture {i}" for i in range(12)],
    "one trial of a kind": ["go"] * 11 + ["stop"],
    "mostly missing": ["go"] * 3 + ["stop"] * 2 + [""] * 7,
}


@pytest.mark.parametrize("kind", QUIET)
def test_a_column_that_divides_nothing_is_not_proposed_as_condition(
    new_nwb, add_trials, save, kind
):
    starts = 2.0 * np.arange(12)
    columns = {
        "stimulus": QUIET[kind],
        "response": ["l", "r"] * 6,
        "reaction_time": starts,
        "block": [1, 2] * 6,
    }
    path = save(
        add_trials(new_nwb([np.arange(0, 30, 0.05)] * 3, label=["good"] * 3), starts, **columns)
    )
    assert describe(path).next_commands[0] == f"metadyn fit {path} -o model"


CURATED = {
    "KS label": ["good", "mua", "good", "noise"],
    "group": ["Good", "MUA", "Good", ""],
    "class": ["SU", "SU", "MU", "SU"],
}


@pytest.mark.parametrize("name", CURATED)
def test_units_that_a_curator_calls_good_are_proposed_whatever_the_column(
    new_nwb, add_trials, save, name
):
    path = save(
        add_trials(new_nwb([np.arange(0, 30, 0.05)] * 4, **{name: CURATED[name]}), [0, 2, 5, 9])
    )
    options = options_of(describe(path).next_commands[0])
    good = [i for i, value in enumerate(CURATED[name]) if value.lower() in ("good", "su")]
    assert bin_spikes(read_session(path), **options).unit_rows.tolist() == good


@pytest.mark.parametrize(
    "values", [["good", "mua", "mua", "mua"], ["good"] * 4, ["goodness", "bad", "goodness", "bad"]]
)
def test_no_units_are_proposed_where_fewer_than_two_or_all_are_good(
    new_nwb, add_trials, save, values
):
    path = save(add_trials(new_nwb([np.arange(0, 30, 0.05)] * 4, label=values), [0, 2, 5, 9]))
    assert "--units" not in describe(path).next_commands[0]


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_events_that_count_from_their_rows_are_said_and_proposed_as_they_are_meant(
    new_nwb, add_trials, save, scale
):
    starts = np.array([1.0, 4.5, 7.0, 12.0, 15.5, 19.0])
    onsets = np.array([0.4, 0.52, 0.46, 0.6, 0.44, 0.5])
    nwbfile = add_trials(
        new_nwb([np.arange(0, 30, 0.05)] * 2), starts, 1.6, movement_onset_time=scale * onsets
    )
    path = save(nwbfile)
    description = describe(path)
    fit, meant = description.next_commands[0], description.tables[0].columns[2].meant
    counts = bin_spikes(read_session(path), **options_of(fit))
    assert options_of(fit)["align"] == meant
    np.testing.assert_allclose(counts.windows.start, starts + onsets - 0.2, atol=1e-6)
    assert any(
        "movement_onset_time; inside with e.g. align='start_time + " in note
        for note in description.notes
    )
