"""A derived file holds the results and what they rest on, nothing raw, and needs no other file."""

import hashlib
import json
import shutil
from datetime import UTC, datetime

import h5py
import numpy as np
import pytest
from dandi.pynwb_utils import nwb_has_external_links
from hdmf.backends.hdf5 import H5DataIO
from pynwb import NWBHDF5IO, NWBFile, TimeSeries, read_nwb
from pynwb.behavior import SpatialSeries
from pynwb.ecephys import ElectricalSeries
from pynwb.file import Subject

from metadyn.errors import DataError, WriteError
from metadyn.nwb.derive import derive, origin_of, paths_left_out
from metadyn.nwb.write import write_run
from ndx_metadyn.testing.mock import mock_LatentDynamics, mock_NWBFile

RAW = np.frombuffer(b"raw voltage, to stay at home. " * 100, np.uint8).astype(
    np.int16
)  # found again by its bytes
WAVEFORMS = ("units/waveforms", "units/waveforms_index", "units/waveforms_index_index")
PAPER = "https://doi.org/10.48550/arXiv.2410.05454"


def recording() -> NWBFile:
    """A file with raw data, electrodes, behaviour and stimulus, whose trials and units refer to all
    of them."""
    subject = Subject(
        subject_id="mock", species="Macaca mulatta", sex="F", age="P5Y", description="No animal."
    )
    nwbfile = NWBFile(
        "Made-up spikes.",
        "day1",
        datetime(2020, 1, 1, tzinfo=UTC),
        subject=subject,
        related_publications=(PAPER,),
    )
    device = nwbfile.create_device("probe", description="a probe")
    group = nwbfile.create_electrode_group(
        "shank", description="one shank", location="M1", device=device
    )
    for _ in range(3):
        nwbfile.add_electrode(group=group, location="M1")
    electrodes = nwbfile.create_electrode_table_region([0, 1, 2], "all of them")
    raw = H5DataIO(RAW.reshape(-1, 3), chunks=True)
    voltage = ElectricalSeries(
        name="voltage", data=raw, electrodes=electrodes, rate=1000.0, description="raw"
    )
    nwbfile.add_acquisition(voltage)
    nwbfile.add_stimulus(
        TimeSeries(name="light", data=[0.0, 1.0], rate=1.0, unit="V", description="a lamp")
    )
    hand = SpatialSeries(
        name="hand",
        data=np.ones((5, 2)),
        rate=1.0,
        reference_frame="screen",
        description="the hand",
    )
    nwbfile.create_processing_module("behavior", "the hand").add(hand)
    for unit in range(7):
        nwbfile.add_unit(
            spike_times=[0.1, 0.2, 0.3 + unit],
            electrodes=[unit % 3],
            waveforms=[[RAW[:4].astype(float)]] * 3,
        )
    nwbfile.add_trial_column("condition", "which way")
    for start in range(4):
        nwbfile.add_trial(
            start_time=float(start), stop_time=start + 0.5, condition="left", timeseries=[voltage]
        )
    return nwbfile


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """That recording with a run and its model."""
    nwbfile = recording()
    mock_LatentDynamics(nwbfile)
    path = tmp_path_factory.mktemp("annotated") / "day1.nwb"
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return path


@pytest.fixture(scope="module")
def derived(annotated):
    with pytest.warns(
        UserWarning,
        match=r"intervals/trials/timeseries is left out: it refers to acquisition/voltage",
    ):
        return derive(annotated, annotated.parent / "derived" / "day1.nwb")


@pytest.fixture
def both(annotated, derived):
    """The source and the derived file, open."""
    with NWBHDF5IO(annotated, "r") as old, NWBHDF5IO(derived, "r") as new:
        yield old.read(), new.read()


def datasets(path):
    """Every dataset of a file but the schemas, by path."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return {name: value for name, value in found.items() if not name.startswith("specifications")}


def test_what_is_kept_is_as_it_was_and_what_is_left_out_is_raw_or_refers_to_it(annotated, derived):
    before, after = datasets(annotated), datasets(derived)
    assert after.keys() <= before.keys()
    gone = {name for name in before if name not in after}
    raw = {
        name
        for name in gone
        if name.startswith(("acquisition/", "stimulus/", "processing/behavior/"))
    }
    assert gone - raw == {
        *WAVEFORMS,
        *("intervals/trials/timeseries", "intervals/trials/timeseries_index"),
    }
    own = {"identifier", "file_create_date", "processing/ecephys/LatentDynamics/parameters"}
    for name in after.keys() - own:
        if (
            h5py.check_ref_dtype(np.asarray(before[name]).dtype) is None
            and not np.asarray(before[name]).dtype.names
        ):
            np.testing.assert_array_equal(before[name], after[name], err_msg=name)


def test_references_lead_to_the_same_objects(both):
    old, new = both
    for nwbfile in (old, new):
        run = nwbfile.processing["ecephys"]["LatentDynamics"]
        assert run.units.table is nwbfile.units
        assert run.embeddings["trial"].table is nwbfile.trials
        assert run.model is nwbfile.processing["ecephys"]["LatentDynamicsModel"]
        assert nwbfile.units["electrodes"].target.table is nwbfile.electrodes
        assert nwbfile.electrodes["group"][1] is nwbfile.electrode_groups["shank"]
        assert nwbfile.electrode_groups["shank"].device is nwbfile.devices["probe"]
    ours, theirs = (
        each.processing["ecephys"]["LatentDynamics"].embeddings["timeseries"][2][0]
        for each in (new, old)
    )
    assert (ours.idx_start, ours.count, ours.timeseries.name) == (
        theirs.idx_start,
        theirs.count,
        theirs.timeseries.name,
    )
    np.testing.assert_array_equal(ours.data, theirs.data)


def test_a_process_without_this_package_reads_the_run(derived, read_without_us):
    assert read_without_us(derived)["n_windows"] == 4


def test_no_byte_of_the_raw_data_is_in_the_file(annotated, derived):
    assert RAW.tobytes()[:500] in annotated.read_bytes()
    assert RAW.tobytes()[:500] not in derived.read_bytes()
    assert paths_left_out(annotated) == [
        "acquisition/voltage",
        "processing/behavior",
        "stimulus/presentation/light",
        *WAVEFORMS,
    ]


def test_a_table_names_the_columns_that_it_has(both):
    _, nwbfile = both
    assert nwbfile.trials.colnames == ("start_time", "stop_time", "condition")
    assert nwbfile.units.colnames == ("spike_times", "electrodes")


def test_the_file_has_an_identity_of_its_own_and_its_objects_keep_theirs(both):
    old, new = both
    assert new.identifier != old.identifier
    assert new.object_id != old.object_id
    kept = [
        lambda file: file.units,
        lambda file: file.trials,
        lambda file: file.subject,
        lambda file: file.electrodes,
    ]
    kept.append(lambda file: file.processing["ecephys"]["LatentDynamics"])
    assert [get(new).object_id for get in kept] == [get(old).object_id for get in kept]
    assert list(new.related_publications) == [PAPER]


def test_the_run_says_from_what_it_was_derived(annotated, derived, both):
    digest = f"sha256:{hashlib.sha256(annotated.read_bytes()).hexdigest()}"
    run = both[1].processing["ecephys"]["LatentDynamics"]
    said = json.loads(run.parameters)
    assert said["derived_from"] == origin_of(derived)
    assert said["bin_width"] == 0.05  # what was there before
    assert origin_of(derived)["digest"] == digest
    assert origin_of(derived)["identifier"] == "day1"
    assert run.source_uri == "day1.nwb"


def test_nothing_is_wrong_with_it_that_was_not_wrong_with_its_source(
    annotated, derived, assert_no_new_fault
):
    assert_no_new_fault(derived, annotated)


@pytest.fixture
def plain(tmp_path):
    """An annotated file without raw data."""
    nwbfile = mock_NWBFile()
    mock_LatentDynamics(nwbfile)
    with NWBHDF5IO(tmp_path / "plain.nwb", "w") as io:
        io.write(nwbfile)
    return tmp_path / "plain.nwb"


def test_what_a_link_to_another_file_means_is_in_the_file(plain, tmp_path):
    with h5py.File(plain, "r+") as file, h5py.File(tmp_path / "elsewhere.h5", "w") as other:
        file.copy("units/spike_times", other, "times")
        times = file["units/spike_times"][()]
        del file["units/spike_times"]
        file["units/spike_times"] = h5py.ExternalLink("elsewhere.h5", "times")
        file["units/spike_times_index"].attrs["target"] = h5py.Reference()
    assert nwb_has_external_links(plain)
    written = derive(plain, tmp_path / "derived" / "whole.nwb")
    assert not nwb_has_external_links(written)
    with h5py.File(written) as file:
        np.testing.assert_array_equal(file["units/spike_times"], times)
    (tmp_path / "elsewhere.h5").unlink()
    with pytest.raises(DataError, match=r"elsewhere\.h5:times"):
        derive(plain, tmp_path / "derived" / "lost.nwb")
    assert not (tmp_path / "derived" / "lost.nwb").exists()


def test_the_recording_may_be_named_instead_of_its_annotated_copy(plain, annotated, tmp_path):
    uri = "https://api.dandiarchive.org/api/assets/0/"
    with h5py.File(plain, "r+") as file:
        file["identifier"][()] = "day1"
    with pytest.warns(UserWarning, match="is left out"):
        written = derive(annotated, tmp_path / "derived.nwb", recording=plain, uri=uri)
    digest = f"sha256:{hashlib.sha256(plain.read_bytes()).hexdigest()}"
    assert (origin_of(written)["uri"], origin_of(written)["digest"]) == (uri, digest)
    with h5py.File(plain, "r+") as file:
        file["identifier"][()] = "another day"
    with pytest.raises(DataError, match="another day"):
        derive(annotated, tmp_path / "another.nwb", recording=plain)


def test_the_source_is_never_replaced_and_a_file_in_the_way_stays(
    plain, annotated, tmp_path, source, result
):
    before = {path: path.read_bytes() for path in (plain, annotated, source)}
    with pytest.raises(WriteError, match="overwrite=True"):
        derive(plain, annotated)
    with pytest.raises(WriteError, match="source's place"):
        derive(plain, plain, overwrite=True)
    with pytest.raises(WriteError, match="source's place"):
        write_run(source, source, result, derived=True)
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain.nwb", "raw"]


def test_a_file_without_a_run_is_told_to_be_annotated(source, tmp_path):
    with pytest.raises(DataError, match="metadyn annotate"):
        derive(source, tmp_path / "out.nwb")


def test_of_each_cached_schema_the_newest_by_number_stays(annotated, tmp_path):
    """hdmf would read the last in the order of letters, 0.9.0."""
    source = shutil.copy(annotated, tmp_path / "day1.nwb")
    with h5py.File(source, "r+") as file:
        schemas = file["specifications"]
        for version in ("0.9.0", "0.10.0"):
            schemas.copy(schemas["ndx-metadyn/0.1.0"], schemas["ndx-metadyn"], name=version)
        others = {name: list(schemas[name]) for name in schemas if name != "ndx-metadyn"}
    assert all(len(versions) == 1 for versions in others.values())
    with pytest.warns(UserWarning, match="is left out"):
        written = derive(source, tmp_path / "derived.nwb")
    with h5py.File(written, "r") as file:
        kept = {name: list(file["specifications"][name]) for name in file["specifications"]}
    assert kept == others | {"ndx-metadyn": ["0.10.0"]}


def test_a_run_is_written_into_a_derived_copy_of_a_recording(source, result, tmp_path):
    """`SimulatedLatents` of the recording are no result; the digest is that of the recording."""
    target = write_run(source, tmp_path / "slim.nwb", result, derived=True)
    module = read_nwb(target).processing["ecephys"]
    assert set(module.data_interfaces) == {"LatentDynamics"}
    assert (
        origin_of(target)["digest"] == f"sha256:{hashlib.sha256(source.read_bytes()).hexdigest()}"
    )
    assert "SimulatedLatents" in read_nwb(source).processing["ecephys"].data_interfaces
