"""Condition labels of interval tables as files have them: numbers are compared as numbers, text as
text, missing is missing."""

from datetime import UTC, datetime

import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile

from metadyn.data.binning import bin_spikes, label_of
from metadyn.nwb.read import read_session


@pytest.fixture
def labels(make_session, make_trials):
    """labels(values) → those of trials whose column `target` holds the values."""

    def make(values):
        spikes = [np.arange(0, len(values), 0.05), np.arange(0.01, len(values), 0.1)]
        session = make_session(spikes, make_trials(np.arange(len(values)), target=values))
        return bin_spikes(session, condition="target").condition.tolist()

    return make


@pytest.mark.parametrize(
    "values",
    [
        np.array([1, 2, 3], np.int8),
        np.array([1, 2, 3], np.uint64),
        np.array([1.0, 2.0, 3.0]),
        np.array([1.0, 2.0, 3.0], np.float32),
        np.array(["1", " 2", "3 "], object),
        np.array([1, "2", 3.0], object),
    ],
    ids=lambda values: str(values.dtype),
)
def test_equal_numbers_are_one_label_whatever_type_they_are_stored_as(labels, values):
    assert labels(values) == ["1", "2", "3"]


@pytest.mark.parametrize("missing", [np.nan, None, "", "  ", "nan", "NaN"])
def test_what_is_missing_is_no_condition(labels, missing):
    assert labels(np.array(["left", missing, "right", missing], object)) == [
        "left",
        "",
        "right",
        "",
    ]


def test_a_truth_value_is_the_number_that_other_files_keep_it_as(labels):
    assert (
        labels(np.array([True, False, True]))
        == labels(np.array([1.0, 0.0, 1.0]))
        == ["1", "0", "1"]
    )


def test_text_is_compared_as_it_stands(labels):
    assert labels(np.array(["1.1", "1.10", "001", "Left", "left"], object)) == [
        "1.1",
        "1.10",
        "001",
        "Left",
        "left",
    ]


def test_two_numbers_have_one_label_if_and_only_if_float32_holds_them_as_one():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 10.0**k, 200) for k in range(-5, 7)])
    near = values * (1 + rng.choice([0.0, 1e-16, 1e-9, 1e-6, 1e-3], len(values)))
    for one, other in zip(values, near, strict=True):
        assert (label_of(one) == label_of(other)) == (np.float32(one) == np.float32(other)), (
            one,
            other,
        )
    assert label_of(-0.0) == label_of(0)


def test_integers_that_float32_cannot_tell_apart_are_told_apart():
    assert label_of(20230501) != label_of(20230502)
    assert label_of(2.0**24 + 1) == label_of(2**24 + 1) == "16777217"
    assert label_of(np.int64(2**60 + 1)) == str(2**60 + 1)


def file_of(path, directions, **options):
    nwbfile = NWBFile(
        session_description="labels",
        identifier=path.stem,
        session_start_time=datetime(2024, 1, 2, tzinfo=UTC),
    )
    nwbfile.add_trial_column("direction", "direction of the reach", **options)
    for row, direction in enumerate(directions):
        nwbfile.add_trial(start_time=float(row), stop_time=row + 0.5, direction=direction)
    for phase in (0.0, 0.01, 0.02):
        nwbfile.add_unit(spike_times=np.arange(phase, len(directions), 0.07))
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return path


def test_angles_of_files_of_single_and_double_precision_are_the_same_conditions(tmp_path):
    angles = np.arctan2(np.sin(np.arange(8) * np.pi / 4), np.cos(np.arange(8) * np.pi / 4))
    double = file_of(tmp_path / "double.nwb", angles)
    single = file_of(tmp_path / "single.nwb", angles.astype(np.float32))
    again = file_of(tmp_path / "again.nwb", angles * (1 + 3e-16))
    one, *others = (
        bin_spikes(read_session(path), condition="direction").condition.tolist()
        for path in (double, single, again)
    )
    assert len(set(one)) == 8
    assert others == [one, one]


def test_a_label_is_that_of_the_windows_own_row(tmp_path):
    session = read_session(file_of(tmp_path / "rows.nwb", [3, 1, 2, 1, 3]))
    counts = bin_spikes(session, condition="direction", where="direction != 1", max_bins=10)
    assert counts.windows.trial_row.tolist() == [0, 0, 0, 2, 2, 2, 4, 4, 4]
    assert counts.condition.tolist() == ["3"] * 3 + ["2"] * 3 + ["3"] * 3
    assert counts.condition_name == "direction"
