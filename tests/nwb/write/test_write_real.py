"""Real recordings: nothing is wrong with the annotated copy that was not wrong with the source
under the same call."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pynwb
import pytest

from metadyn.data.binning import bin_spikes
from metadyn.nwb.read import read_session
from metadyn.nwb.upgrade import upgrade_indexes
from metadyn.nwb.write import write_run

OPTIONS = {
    "maze": {},
    "human_mtl": {"intervals": "encoding_table"},
    "alm_photostim": {"align": "start_time", "n_bins": 50},
    "head_direction": {},
    "alme_17894_fambegin1": {},
    "alme_17724_fambegin1": {},
    "alme_17769_novel4begin2": {},
}


@pytest.mark.filterwarnings(
    "ignore"
)  # these files make pynwb and the inspector warn; each of their own
@pytest.mark.parametrize("name", OPTIONS)
def test_the_copy_has_no_error_and_no_message_that_its_source_lacks(
    real_data, tmp_path, made, assert_no_new_fault, name
):
    source = real_data / f"{name}.nwb"
    counts = bin_spikes(read_session(source), **OPTIONS[name])
    windows = counts.windows
    result = made.posterior(
        windows.start,
        windows.n_bins,
        counts.unit_rows,
        rows=windows.trial_row,
        table=windows.table or "",
    )
    target = write_run(
        source, tmp_path / "out.nwb", result, model=made.model_file(units=result.unit.values)
    )
    assert_no_new_fault(target, source)
    run = pynwb.read_nwb(target).processing["ecephys"]["LatentDynamics"]
    assert len(run.embeddings) == counts.n_trials
    assert run.latent_series["LatentSeries"].data.shape == (windows.n_bins.sum(), 2)


@pytest.mark.filterwarnings("ignore")
def test_an_old_files_indexes_keep_their_values_when_they_are_mended(real_data, tmp_path):
    source = real_data / "alm_photostim.nwb"
    copy = Path(shutil.copy(source, tmp_path))
    renewed = upgrade_indexes(copy)
    assert set(renewed) == {"units/spike_times_index", "units/electrodes_index"}
    assert upgrade_indexes(copy) == []
    with h5py.File(source) as old, h5py.File(copy) as new:
        for name in renewed:
            np.testing.assert_array_equal(old[name], new[name])
            assert old[name].attrs["object_id"] == new[name].attrs["object_id"]
            assert new[new[name].attrs["target"]].name == old[old[name].attrs["target"]].name


def test_an_index_of_an_index_still_points_to_it(tmp_path):
    with h5py.File(tmp_path / "ragged.h5", "w") as file:
        file["values"] = np.arange(4.0)
        for name, target, data in (
            ("values_index", "values", [2, 4]),
            ("values_index_index", "values_index", [2]),
        ):
            file[name] = np.array(data, dtype="i4")
            file[name].attrs.update({"neurodata_type": "VectorIndex", "target": file[target].ref})
    assert len(upgrade_indexes(tmp_path / "ragged.h5")) == 2
    with h5py.File(tmp_path / "ragged.h5") as file:
        outer = file["values_index_index"]
        assert file[outer.attrs["target"]] == file["values_index"]
        assert file[file["values_index"].attrs["target"]] == file["values"]
