"""What a behaviour series in a real file means: its unit and time base, angles, states, intervals,
events, clocks."""

import subprocess
import sys
import warnings
from itertools import pairwise

import h5py
import numpy as np
import pytest
from pynwb import TimeSeries
from pynwb.behavior import (
    BehavioralEpochs,
    BehavioralEvents,
    CompassDirection,
    Position,
    SpatialSeries,
)
from pynwb.event import EventsTable
from pynwb.misc import AbstractFeatureSeries, AnnotationSeries, IntervalSeries

from metadyn.data.binning import bin_spikes
from metadyn.errors import DataError
from metadyn.nwb.read import read_session
from metadyn.pipeline.describe import describe

TIMES = np.arange(500) / 49.7  # 10 s
STARTS = [0.4, 3.3, 5.1]


@pytest.fixture
def holding(new_nwb, add_trials, save):
    """The path of a file with three trials of 2, 2 and 2 s, and these series in its behaviour
    module."""

    def make(*items):
        spikes = [np.arange(0, 10, 0.1), np.arange(0, 10, 0.07), np.arange(0, 9, 0.3)]
        nwbfile = add_trials(new_nwb(spikes=spikes), STARTS, length=1.7)
        module = nwbfile.create_processing_module("behavior", "what the animal did")
        for item in items:
            module.add(item)
        return save(nwbfile)

    return make


def quietly(make, *args, **options):
    """pynwb's own warnings of what it is asked to write are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(*args, **options)


def overwritten(path, **datasets):
    """The file with other datasets in the series x: pynwb itself refuses to write what does not
    fit."""
    with h5py.File(path, "r+") as file:
        group = next(item for item in _groups(file) if item.name.endswith("/x"))
        for name, values in datasets.items():
            attributes = dict(group[name].attrs)
            del group[name]
            group.create_dataset(name, data=values).attrs.update(attributes)
    return path


def _groups(file):
    found = []
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Group) else None)
    return found


def read(path, name="x"):
    return read_session(path, behavior=name).behavior[name]


def binned(path, name="x", **options):
    """Behaviour (trial, time, channel), and the bins' left edges (trial, time)."""
    counts = bin_spikes(read_session(path, behavior=name), behavior=name, **options)
    left = counts.windows.start[:, None] + np.arange(counts.counts.shape[1]) * counts.bin_width
    return counts.behavior, left


def problem_of(path, name="x"):
    with pytest.raises(DataError) as error:
        read(path, name)
    assert error.value.remedy
    described = describe(path)
    assert described.next_commands  # units and trials go on
    assert any(error.value.problem in problem for problem in described.problems)
    return error.value


# conversion and unit


@pytest.mark.parametrize("rate", [None, 12.5])
def test_the_unit_is_that_of_the_converted_values(holding, rate):
    data = (10 * np.sin(TIMES)).round().astype("i2")
    base = {"timestamps": TIMES} if rate is None else {"rate": rate, "starting_time": 0.7}
    series = read(
        holding(TimeSeries(name="x", data=data, unit="m", conversion=0.01, offset=-3.0, **base))
    )
    expected = [0.01 * int(value) - 3.0 for value in data]
    np.testing.assert_allclose(series.values[:, 0], expected)
    assert series.unit == "m"
    assert series.times[17] == pytest.approx(TIMES[17] if rate is None else 0.7 + 17 / 12.5)


def test_data_that_another_series_holds_are_converted_as_there(new_nwb, save):
    lent = TimeSeries(
        name="lent", data=3 * TIMES, timestamps=TIMES, unit="m", conversion=0.5, offset=2.0
    )
    nwbfile = new_nwb()
    nwbfile.add_acquisition(lent)
    nwbfile.add_acquisition(TimeSeries(name="x", data=lent, timestamps=lent, unit="m"))
    for source in (nwbfile, save(nwbfile)):
        series = read_session(source, behavior="x").behavior["x"]
        np.testing.assert_allclose(series.values[:, 0], 1.5 * TIMES + 2)
        np.testing.assert_allclose(series.times, TIMES)


def test_times_that_a_regular_series_lends_are_its_own(new_nwb):
    lent = TimeSeries(name="lent", data=3 * TIMES, rate=12.5, starting_time=0.3, unit="m")
    nwbfile = new_nwb()
    nwbfile.add_acquisition(lent)
    nwbfile.add_acquisition(TimeSeries(name="x", data=5 * TIMES, timestamps=lent, unit="m"))
    series = read_session(nwbfile, behavior="x").behavior["x"]
    np.testing.assert_allclose(series.times, 0.3 + np.arange(500) / 12.5)
    np.testing.assert_allclose(series.values[:, 0], 5 * TIMES)


def test_features_have_units_of_their_own_and_only_the_angle_among_them_comes_round(holding):
    data = np.column_stack([(200 * TIMES) % 360, 7.3 * TIMES])
    features = AbstractFeatureSeries(
        name="x",
        data=data,
        timestamps=TIMES,
        features=["orientation", "contrast"],
        feature_units=["degrees", "%"],
    )
    path = holding(features)
    series = read(path)
    assert series.unit == "degrees, %"
    assert series.period.tolist() == [360, np.inf]
    values, left = binned(path)
    np.testing.assert_allclose(values[..., 1], 7.3 * (left + 0.01), atol=1e-9)
    np.testing.assert_allclose(
        np.cos(np.deg2rad(values[..., 0])), np.cos(np.deg2rad(200 * (left + 0.01))), atol=1e-9
    )


# angles


def heading(name="x", *, course, unit="radians", **more):
    """A head direction within CompassDirection."""
    own = SpatialSeries(
        name=name, data=course, timestamps=TIMES, reference_frame="north", unit=unit, **more
    )
    return CompassDirection(name="CompassDirection", spatial_series=own)


TURN = 2 * np.pi * 0.83 * TIMES  # radians
ANGLES = {
    "0 to 2 pi": (heading(course=TURN % (2 * np.pi)), 2 * np.pi),
    "minus pi to pi": (heading(course=(TURN + np.pi) % (2 * np.pi) - np.pi), 2 * np.pi),
    "degrees": (heading(course=np.rad2deg(TURN) % 360, unit="degrees"), 360),
    "degrees that are stored, radians by conversion": (
        heading(course=np.rad2deg(TURN) % 360, conversion=np.pi / 180),
        2 * np.pi,
    ),
    "a series in deg, outside CompassDirection": (
        TimeSeries(
            name="x", data=np.rad2deg(TURN) % 360 - 180, offset=180.0, timestamps=TIMES, unit="deg"
        ),
        360,
    ),
    "an angle (rad)": (
        TimeSeries(name="x", data=TURN % (2 * np.pi), timestamps=TIMES, unit="angle (rad)"),
        2 * np.pi,
    ),
}


@pytest.mark.parametrize("kind", ANGLES)
def test_an_angle_of_any_unit_and_range_comes_round(holding, kind):
    item, turn = ANGLES[kind]
    path = quietly(holding, item)
    values, left = binned(path)
    expected = 2 * np.pi * 0.83 * (left + 0.01)
    np.testing.assert_allclose(
        np.exp(2j * np.pi * values[..., 0] / turn), np.exp(1j * expected), atol=1e-9
    )
    np.testing.assert_allclose(binned(path, "velocity:x")[0], 0.83 * turn)
    assert [series.kind for series in describe(path).behavior] == ["angle"]


@pytest.mark.parametrize(
    ("item", "said", "is_"),
    [
        (heading(course=TURN % (2 * np.pi), unit="meters"), "'meters'", "radians"),
        (heading(course=np.rad2deg(TURN) % 360, unit="radians"), "'radians'", "degrees"),
        (
            TimeSeries(name="x", data=TURN % (2 * np.pi) - np.pi, timestamps=TIMES, unit="a.u."),
            "'a.u.'",
            "radians",
        ),
        (
            TimeSeries(name="yaw", data=(25 * np.rad2deg(TURN)) % 360, timestamps=TIMES, unit=""),
            "''",
            "degrees",
        ),  # coarse
    ],
)
def test_an_angle_whose_unit_says_otherwise_is_taken_for_what_it_is_and_that_is_said(
    holding, item, said, is_
):
    path = quietly(holding, item)
    name = "yaw" if item.name == "yaw" else "x"
    with pytest.warns(UserWarning, match=f"comes round as an angle in {is_}, not {said}"):
        series = read(path, name)
    assert series.unit == is_
    assert series.period.tolist() == [2 * np.pi if is_ == "radians" else 360]
    assert any(f"not {said}" in note for note in describe(path).notes)


def test_a_heading_that_never_passes_the_top_is_an_angle_all_the_same(holding):
    path = holding(heading(course=1.5 + np.sin(TIMES)))
    assert read(path).period.tolist() == [2 * np.pi]
    values, left = binned(path)
    np.testing.assert_allclose(values[..., 0], np.interp(left + 0.01, TIMES, 1.5 + np.sin(TIMES)))


def test_a_heading_that_counts_its_turns_goes_on_counting(holding):
    path = holding(heading(course=TURN))
    series = read(path)
    assert np.isinf(series.period).all()
    values, left = binned(path)
    np.testing.assert_allclose(values[..., 0], 2 * np.pi * 0.83 * (left + 0.01))
    np.testing.assert_allclose(binned(path, "velocity:x")[0], 2 * np.pi * 0.83)


@pytest.mark.parametrize(
    ("data", "unit"),
    [
        (100 + 60 * np.sin(5 * TIMES), "degrees"),  # a knee
        (3 * np.sin(9 * TIMES), "rad/s"),
        (np.where(np.sin(20 * TIMES) > 0, 360.0, 0.0) + 0.1 * np.sin(TIMES), "lux"),  # on and off
        (np.random.default_rng(0).uniform(0, 360, 500), "a.u."),
        (36.5 + np.sin(3 * TIMES), "degrees C"),
        (np.where(np.sin(20 * TIMES) > 0, 170, -170) + 0.1 * np.sin(TIMES), "degrees per second"),
        (np.abs((80 * TIMES) % 200 - 100), "cm"),
    ],
)
def test_what_does_not_come_round_is_no_angle(holding, data, unit):
    path = holding(TimeSeries(name="x", data=data, timestamps=TIMES, unit=unit))
    values, left = binned(path)
    np.testing.assert_allclose(values[..., 0], np.interp(left + 0.01, TIMES, data))
    series = read(path)
    assert series.unit == unit
    assert np.isinf(series.period).all()


def test_the_real_head_direction_is_an_angle_and_turns_as_its_unwrapped_samples_do(real_data):
    path = real_data / "head_direction.nwb"
    session = read_session(path, behavior=("CompassDirection/rz", "velocity:CompassDirection/rz"))
    where = {"start": 0.0, "n_bins": 400}
    counts = bin_spikes(session, behavior="CompassDirection/rz", n_bins=where["n_bins"])
    velocity = bin_spikes(
        session, behavior="velocity:CompassDirection/rz", n_bins=where["n_bins"]
    ).behavior[..., 0]
    with h5py.File(path) as file:
        group = next(item for item in _groups(file) if item.name.endswith("CompassDirection/rz"))
        times, angle = group["timestamps"][:], group["data"][:]
    centres = counts.windows.start[:, None] + (np.arange(400) + 0.5) * 0.02
    whole = np.interp(centres, times, np.unwrap(angle))
    known = np.isfinite(counts.behavior[..., 0])
    assert known.sum() > 20_000
    np.testing.assert_allclose(
        counts.behavior[..., 0][known], whole[known] % (2 * np.pi), atol=1e-6
    )
    speed = (
        np.interp(centres + 0.01, times, np.unwrap(angle))
        - np.interp(centres - 0.01, times, np.unwrap(angle))
    ) / 0.02
    known = np.isfinite(velocity)
    np.testing.assert_allclose(velocity[known], speed[known], atol=1e-6)
    assert np.abs(velocity[known]).max() < 60  # rad/s; a step over the top would be 314


# states, intervals, events


def held_by_hand(times, states, now):
    before = [state for time, state in zip(times, states, strict=True) if time <= now]
    return before[-1] if before else np.nan


@pytest.mark.parametrize(
    ("states", "options"),
    [
        (np.array([1, 3, 2, 3, 1, 2, 1], dtype="i1"), {}),
        (np.array([1, 0, 1, 0, 1, 0, 1], dtype=bool), {}),
        (np.array([0.5, 1.7, 0.2, 9.1, 3.3, 0.1, 2.2]), {"continuity": "step"}),
        (np.array([0, 90, 270, 180, 0, 270, 90]), {"conversion": 0.5}),
        (np.array([0, 90, 315, 180, 0, 270, 90]), {"unit": "degrees"}),
    ],
)
def test_what_was_sampled_when_it_changed_holds_until_the_next_sample(holding, states, options):
    times = np.array([0.6, 0.71, 1.9, 3.31, 4.0, 5.2, 6.35])
    path = quietly(
        holding, TimeSeries(name="x", data=states, timestamps=times, **{"unit": "n/a"} | options)
    )
    values, left = binned(path)
    expected = [[held_by_hand(times, states, now) for now in row] for row in left + 0.01]
    np.testing.assert_allclose(values[..., 0], options.get("conversion", 1.0) * np.array(expected))


def test_few_whole_numbers_at_a_steady_rate_are_no_ramps_and_are_not_known_in_a_long_gap(holding):
    data, kept = np.repeat([0, 3, 1, 3, 0], 100).astype(float), np.r_[0:180, 230:500]
    path = holding(TimeSeries(name="x", data=data[kept], timestamps=TIMES[kept], unit="n/a"))
    values, left = binned(path)
    gap = (left + 0.01 > TIMES[179]) & (left + 0.01 < TIMES[230])
    np.testing.assert_array_equal(np.isnan(values[..., 0]), gap)
    assert set(np.unique(values[~gap])) == {0.0, 1.0, 3.0}
    assert [series.kind for series in describe(path).behavior] == ["states"]


def test_few_samples_of_a_whole_numbers_ramp_are_a_line(holding):
    data = np.array([0.0, 2, 4, 5, 7, 8, 6, 3, 1, 0, 2, 4])
    path = holding(TimeSeries(name="x", data=data, rate=1.5, starting_time=0.0, unit="cm"))
    values, left = binned(path)
    np.testing.assert_allclose(values[..., 0], np.interp(left + 0.01, np.arange(12) / 1.5, data))


def test_an_interval_series_is_1_inside_its_intervals_of_each_kind(holding):
    lick = [
        (0.5, 0.9),
        (0.9, 1.1),
        (3.4, 3.9),
        (6.0, 6.5),
    ]  # two that touch, and two that overlap with the other kind
    reward = [(0.7, 1.0), (3.1, 3.6)]
    marks = [(start, 1) for start, _ in lick] + [
        (stop, -1) for _, stop in lick
    ]  # all starts, then all stops
    marks += [(start, 4) for start, _ in reward] + [(stop, -4) for _, stop in reward]
    times, data = np.array(marks).T
    series = quietly(IntervalSeries, name="x", data=data.astype("i1"), timestamps=times)
    path = quietly(holding, BehavioralEpochs(interval_series=series))
    values, left = binned(path)
    for channel, intervals in enumerate((lick, reward)):
        expected = [[any(a <= now < b for a, b in intervals) for now in row] for row in left + 0.01]
        np.testing.assert_array_equal(values[..., channel], expected)


def test_an_interval_series_that_begins_inside_or_has_no_end_says_so(holding):
    series = quietly(
        IntervalSeries, name="x", data=np.array([-2, 2], dtype="i1"), timestamps=[1.9, 5.5]
    )
    path = quietly(holding, series)
    with pytest.warns(UserWarning, match="ends inside an interval"):
        values, left = binned(path)
    np.testing.assert_array_equal(values[..., 0], (left + 0.01 < 1.9) | (left + 0.01 >= 5.5))


def test_an_end_too_many_ends_nothing(holding):
    marks = np.array([1, -1, -1, 1, -1], dtype="i1")
    series = quietly(IntervalSeries, name="x", data=marks, timestamps=[0.5, 1.0, 3.5, 3.7, 5.9])
    values, left = binned(quietly(holding, series))
    now = left + 0.01
    np.testing.assert_array_equal(
        values[..., 0], ((now >= 0.5) & (now < 1.0)) | ((now >= 3.7) & (now < 5.9))
    )


MARKS = np.array([0.41, 0.52, 0.5, 1.2, 4.0, 3.7, 5.15, 5.15, 8.0])  # not in order, two at once
LABELS = ["go", "lick", "go", "go", "lick", "lick", "go", "lick", "go"]


def events_of(kind):
    if kind == "AnnotationSeries":
        return AnnotationSeries(name="x", data=LABELS, timestamps=MARKS)
    if kind == "TimeSeries of text":
        return TimeSeries(name="x", data=LABELS, timestamps=MARKS, unit="n/a")
    if kind == "BehavioralEvents of codes":
        codes = TimeSeries(
            name="x",
            data=[["go", "lick"].index(label) for label in LABELS],
            timestamps=MARKS,
            unit="n/a",
        )
        return BehavioralEvents(time_series=codes)
    if kind == "instantaneous":
        return TimeSeries(
            name="x",
            data=np.linspace(0, 1, 9),
            timestamps=MARKS,
            unit="ml",
            continuity="instantaneous",
        )
    return TimeSeries(
        name="x", data=np.ones(9), timestamps=MARKS, unit="n/a"
    )  # ones at uneven times


@pytest.mark.parametrize(
    ("kind", "by_label"),
    [
        ("AnnotationSeries", True),
        ("TimeSeries of text", True),
        ("BehavioralEvents of codes", True),
        ("instantaneous", False),
        ("ones", False),
    ],
)
def test_events_are_counted_in_bins_one_column_a_label(holding, kind, by_label):
    path = quietly(holding, quietly(events_of, kind))
    values, left = binned(path, bin_width=0.1)
    kinds = (
        [[label == each for label in LABELS] for each in ("go", "lick")]
        if by_label
        else [[True] * 9]
    )
    for channel, of_kind in enumerate(kinds):
        expected = [
            [(of_kind & (a - 1e-9 <= MARKS) & (a + 0.1 - 1e-9 > MARKS)).sum() for a in row]
            for row in left
        ]
        np.testing.assert_allclose(values[..., channel] * 0.1, expected)
    assert values.shape[-1] == len(kinds)
    summary = describe(path).behavior[0]
    assert (summary.kind, summary.unit) == ("events", "events/s")


def test_a_table_of_events_is_behaviour(new_nwb, add_trials, save):
    nwbfile = add_trials(new_nwb(spikes=[np.arange(0, 10, 0.1)] * 2), STARTS, length=1.7)
    table = EventsTable(name="licks", description="licks")
    for time in MARKS:
        table.add_event(timestamp=time)
    nwbfile.add_events_table(table)
    path = save(nwbfile)
    values, left = binned(path, "licks", bin_width=0.1)
    expected = [
        [((a - 1e-9 <= MARKS) & (a + 0.1 - 1e-9 > MARKS)).sum() for a in row] for row in left
    ]
    np.testing.assert_allclose(values[..., 0] * 0.1, expected)
    assert [(series.path, series.shape) for series in describe(path).behavior] == [("licks", (9,))]


NDX_EVENTS = """
import sys
from datetime import UTC, datetime
import numpy as np
from pynwb import NWBFile, NWBHDF5IO, get_class, load_namespaces
from pynwb.spec import NWBAttributeSpec, NWBDatasetSpec, NWBGroupSpec, NWBNamespaceBuilder
folder = sys.argv[1]
text = dict(doc="text", dtype="text")
unit = NWBAttributeSpec(name="unit", value="seconds", **text)
labels = NWBAttributeSpec(name="labels", shape=(None,), dims=("label",), **text)
event = dict(doc="one an event", dims=("event",), shape=(None,))
times = NWBDatasetSpec(name="timestamps", dtype="float64", attributes=[unit], **event)
codes = NWBDatasetSpec(name="data", dtype="uint8", attributes=[labels], **event)
group = dict(doc="events", attributes=[NWBAttributeSpec(name="description", **text)])
namespace = NWBNamespaceBuilder("events", "ndx-events", version="0.2.0", author="lab", contact="lab")
namespace.include_type("NWBDataInterface", namespace="core")
for name, parent, data in (("Events", "NWBDataInterface", [times]), ("LabeledEvents", "Events", [codes])):
    own = NWBGroupSpec(neurodata_type_def=name, neurodata_type_inc=parent, datasets=data, **group)
    namespace.add_spec("ndx-events.extensions.yaml", own)
namespace.export("ndx-events.namespace.yaml", outdir=folder)
load_namespaces(folder + "/ndx-events.namespace.yaml")
nwbfile = NWBFile("events", "events", datetime(2024, 1, 1, tzinfo=UTC))
for step in (0.1, 0.23, 0.3):
    nwbfile.add_unit(spike_times=np.arange(0, 10, step))
nwbfile.add_trial(start_time=0.4, stop_time=6.4)
marks = [0.41, 0.52, 0.5, 3.7, 5.15]
ttl = dict(data=np.array([1, 0, 1, 7, 0], dtype="u1"), data__labels=["a", "b"])
nwbfile.add_acquisition(get_class("LabeledEvents", "ndx-events")(name="ttl", description="d", timestamps=marks, **ttl))
nwbfile.add_acquisition(get_class("Events", "ndx-events")(name="lick", description="d", timestamps=marks))
with NWBHDF5IO(folder + "/events.nwb", "w") as io:
    io.write(nwbfile)
"""


def test_events_of_ndx_events_are_counted_without_that_package(tmp_path):
    subprocess.run([sys.executable, "-W", "ignore", "-c", NDX_EVENTS, str(tmp_path)], check=True)
    marks, codes = np.array([0.41, 0.52, 0.5, 3.7, 5.15]), np.array([1, 0, 1, 7, 0])
    for name, kinds in (("ttl", (0, 1, 7)), ("lick", (None,))):
        values, left = binned(tmp_path / "events.nwb", name, bin_width=0.1)
        for channel, kind in enumerate(kinds):
            own = marks[(codes == kind) | (kind is None)]
            expected = [((own >= a - 1e-9) & (own < a + 0.1 - 1e-9)).sum() for a in left[0]]
            np.testing.assert_allclose(values[0, :, channel] * 0.1, expected)


def test_free_text_is_refused_by_name(holding):
    notes = quietly(
        AnnotationSeries,
        name="x",
        data=[f"note {i}" for i in range(30)],
        timestamps=np.arange(30.0),
    )
    error = problem_of(quietly(holding, notes))
    assert "free text" in error.problem
    assert "30 different texts" in error.found


def test_text_at_a_steady_rate_is_a_state_a_label(holding):
    data = ["run"] * 60 + ["rest"] * 40
    path = holding(TimeSeries(name="x", data=data, rate=12.0, starting_time=0.0, unit="n/a"))
    values, left = binned(path)
    running = left + 0.01 < 59.5 / 12
    known = np.isfinite(values[..., 0])
    np.testing.assert_array_equal(values[known][:, 1], running[known])
    np.testing.assert_array_equal(values[known][:, 0], ~running[known])


# clocks and shapes


def test_a_clock_that_jumps_back_into_what_it_counted_is_refused_with_the_place(holding):
    for times, place in (
        (np.r_[TIMES[:300], TIMES[:200]], "sample 300, from 6.0161 s to 0 s"),
        (np.r_[TIMES[:200], TIMES[:300] + 1.0], "sample 200, from 4.00402 s to 1 s"),
        (TIMES[np.r_[:250, 251, 250, 252:500]], "sample 251, from 5.05030 s to 5.03018 s"),
    ):
        error = problem_of(
            holding(TimeSeries(name="x", data=np.sin(7 * times), timestamps=times, unit="m"))
        )
        assert "jumps back" in error.problem
        numbers = [float(word) for word in place.replace(",", " ").split() if word[0].isdigit()]
        found = [
            float(word) for word in error.found.replace(",", " ").split()[1:] if word[0].isdigit()
        ]
        np.testing.assert_allclose(found, numbers, rtol=1e-4)


def test_parts_stored_out_of_order_are_put_in_order_with_a_word(holding):
    order = np.r_[300:500, 0:120, 120:300]
    path = holding(
        TimeSeries(name="x", data=np.sin(3 * TIMES)[order], timestamps=TIMES[order], unit="m")
    )
    with pytest.warns(UserWarning, match="2 parts out of order"):
        series = read(path)
    np.testing.assert_array_equal(series.times, TIMES)
    np.testing.assert_array_equal(series.values[:, 0], np.sin(3 * TIMES))


def test_samples_that_share_a_time_are_counted_and_the_first_is_kept_of_a_state_the_last(holding):
    times, data = np.repeat(TIMES, 2)[:-1], np.arange(999) * 0.37
    state_times, states = [0.5, 1.7, 1.7, 2.0, 6.6], np.array([0, 1, 2, 1, 0])
    path = holding(
        TimeSeries(name="x", data=data, timestamps=times, unit="m"),
        TimeSeries(name="state", data=states, timestamps=state_times, unit="n/a"),
    )
    with pytest.warns(UserWarning, match="499 samples of x share a time; the first is kept"):
        np.testing.assert_allclose(read(path).values[:, 0], data[::2])
    with pytest.warns(UserWarning, match="1 samples of state share a time; the last is kept"):
        assert read(path, "state").values[:, 0].tolist() == [0, 2, 1, 0]


def test_samples_without_a_time_or_a_value_are_left_out_with_their_times(holding):
    times, data = TIMES.copy(), np.column_stack([np.sin(TIMES), np.cos(TIMES), TIMES])
    times[[3, 77, 200]] = np.nan, np.inf, np.nan
    data[[10, 250]], data[300:310, 1], data[4, 0] = np.nan, np.nan, np.inf
    path = holding(TimeSeries(name="x", data=data, timestamps=times, unit="m"))
    with pytest.warns(UserWarning, match="3 samples of x without a usable time"):
        series = read(path)
    kept = [i for i in range(500) if i not in (3, 77, 200, 10, 250)]
    for k, i in enumerate(kept):
        assert series.times[k] == TIMES[i]
        np.testing.assert_array_equal(
            series.values[k], [x if np.isfinite(x) else np.nan for x in data[i]]
        )


@pytest.mark.parametrize("shape", [(3, 500), (1, 500), (7, 500)])
def test_data_stored_by_channel_are_turned_where_the_times_say_so(holding, shape):
    data = np.random.default_rng(0).normal(size=shape)
    path = overwritten(
        holding(TimeSeries(name="x", data=TIMES, timestamps=TIMES, unit="m")), data=data
    )
    with pytest.warns(UserWarning, match=r"stored as \(channel, sample\)"):
        np.testing.assert_array_equal(read(path).values, data.T)


def test_square_data_are_taken_as_the_schema_has_them(holding):
    data = np.random.default_rng(0).normal(size=(40, 40))
    path = holding(TimeSeries(name="x", data=data, timestamps=TIMES[:40], unit="m"))
    np.testing.assert_array_equal(read(path).values, data)


def test_a_place_of_more_than_three_coordinates_at_a_rate_is_turned(holding):
    data = np.random.default_rng(0).normal(size=(2, 500))
    place = quietly(
        SpatialSeries, name="x", data=data, rate=50.0, starting_time=0.1, reference_frame="arena"
    )
    path = quietly(holding, Position(spatial_series=place))
    with pytest.warns(UserWarning, match="turned"):
        series = read(path)
    np.testing.assert_array_equal(series.values, data.T)
    np.testing.assert_allclose(series.times, 0.1 + np.arange(500) / 50)


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ({"timestamps": TIMES[:499]}, ("(499,)", "(500,)")),
        ({"timestamps": np.r_[TIMES, 11.0]}, ("(501,)", "(500,)")),
        ({"timestamps": TIMES[:250], "data": np.ones((500, 2))}, ("(250,)", "(500, 2)")),
        ({"timestamps": np.r_[0.5, np.full(499, np.nan)]}, ("500 samples, 1 with a finite time",)),
        ({"data": np.full((500, 2), np.nan)}, ("0 with a finite value",)),
    ],
)
@pytest.mark.filterwarnings("ignore:.*without a usable time:UserWarning")
def test_times_that_do_not_fit_the_data_are_named_with_what_was_found(holding, stored, said):
    path = overwritten(
        holding(TimeSeries(name="x", data=np.sin(TIMES), timestamps=TIMES, unit="m")), **stored
    )
    error = problem_of(path)
    for each in said:
        assert each in error.found


@pytest.mark.parametrize(
    ("data", "base", "said"),
    [
        (np.random.default_rng(0).normal(size=(4, 500)), {"rate": 50.0}, ("(4, 500)", "50 Hz")),
        (np.sin(TIMES), {"rate": 0.0}, ("rate 0",)),
        (np.sin(TIMES), {"rate": np.nan}, ("rate nan",)),
        (np.sin(TIMES), {"rate": 10.0, "starting_time": np.nan}, ("starting_time nan",)),
    ],
)
def test_a_rate_that_gives_no_times_is_named_with_what_was_found(holding, data, base, said):
    error = problem_of(quietly(holding, quietly(TimeSeries, name="x", data=data, unit="m", **base)))
    for each in said:
        assert each in error.found


def test_a_series_with_no_time_in_common_with_the_spikes_is_said_to_be_so(holding):
    path = holding(TimeSeries(name="x", data=np.sin(TIMES), timestamps=1.7e9 + TIMES, unit="m"))
    assert any("no time in common" in problem for problem in describe(path).problems)


def test_one_bad_series_is_a_line_in_inspect_and_the_others_are_read(holding):
    path = holding(
        TimeSeries(name="x", data=np.sin(TIMES), timestamps=TIMES, unit="m"),
        TimeSeries(name="damaged", data=np.sin(TIMES), timestamps=TIMES, unit="m"),
        TimeSeries(name="mute", data=np.full(500, np.nan), timestamps=TIMES, unit="m"),
    )
    with h5py.File(path, "r+") as file:  # data that cannot be read any more
        group = file["processing/behavior/damaged"]
        attributes = dict(group["data"].attrs)
        del group["data"]
        chunked = group.create_dataset(
            "data", shape=(500,), dtype=float, chunks=(500,), compression="gzip"
        )
        chunked.attrs.update(attributes)
        chunked.id.write_direct_chunk((0,), b"not gzip at all")
    described = describe(path)
    assert [series.path.rsplit("/", 1)[-1] for series in described.behavior if series.problem] == [
        "damaged",
        "mute",
    ]
    assert len(described.problems) == 2
    np.testing.assert_allclose(
        binned(path)[0][..., 0], np.interp(binned(path)[1] + 0.01, TIMES, np.sin(TIMES))
    )


# values that tell nothing


def test_channels_that_stay_as_they_are_or_are_never_known_are_named(holding):
    data = np.column_stack([np.sin(TIMES), np.full(500, 2.5), np.full(500, np.nan)])
    path = holding(
        TimeSeries(name="x", data=data, timestamps=TIMES, unit="m"),
        TimeSeries(name="lever", data=np.zeros(500), rate=50.0, unit="m"),
    )
    notes = " ".join(describe(path).notes)
    for said in ("x channel 2 is NaN throughout", "x channel 1 is constant", "lever is constant"):
        assert said in notes
    with pytest.warns(UserWarning, match="channel"):
        values, left = binned(path)
    np.testing.assert_allclose(values[..., 0], np.interp(left + 0.01, TIMES, np.sin(TIMES)))
    np.testing.assert_allclose(values[..., 1], 2.5)
    assert np.isnan(values[..., 2]).all()


def test_one_lost_marker_of_three_hides_its_own_place_and_velocity_alone(holding):
    data = np.column_stack([np.sin(TIMES), np.cos(TIMES), 3 * TIMES])
    data[200:300, 1] = np.nan  # 4.02 to 6.02 s
    path = holding(TimeSeries(name="x", data=data, timestamps=TIMES, unit="m"))
    for name in ("x", "velocity:x"):
        values, left = binned(path, name)
        lost = (left + 0.02 > TIMES[199]) & (left < TIMES[300])
        assert lost.any()
        assert np.isfinite(values[..., [0, 2]]).all()
        assert np.isfinite(values[~lost]).all()
        assert np.isnan(values[(left > TIMES[199]) & (left + 0.02 < TIMES[300])][:, 1]).all()


def test_dropped_frames_leave_a_hole_no_wider_than_they_are(holding):
    kept = np.r_[0:180, 184:300, 420:500]
    path = holding(TimeSeries(name="x", data=np.sin(TIMES[kept]), timestamps=TIMES[kept], unit="m"))
    values, left = binned(path)
    hole = (left + 0.01 > TIMES[299]) & (left + 0.01 < TIMES[420])
    np.testing.assert_array_equal(np.isnan(values[..., 0]), hole)
    bounds = list(pairwise(TIMES[kept]))
    assert sum(b - a > 0.1 for a, b in bounds) == 2  # one of them is short enough to be bridged
