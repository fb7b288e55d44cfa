"""Real recordings: a derived file has nothing that `dandi validate` refuses and that its source did
not bring."""

import pytest

from metadyn.data.binning import bin_spikes
from metadyn.nwb.derive import paths_left_out
from metadyn.nwb.read import read_session
from metadyn.nwb.write import write_run
from metadyn.sharing.dandiset import package
from metadyn.sharing.findings import findings

OPTIONS = {"maze": {}, "human_mtl": {"intervals": "encoding_table"}}
PATHS = {
    "maze": "sub-Jenkins/sub-Jenkins_ses-mc-maze-large-subset_desc-metadyn_ecephys.nwb",
    "human_mtl": "sub-4/sub-4_ses-4_desc-metadyn_ecephys.nwb",
}


@pytest.mark.filterwarnings("ignore")  # the human recording makes pynwb warn
def test_dandi_validate_takes_the_derived_files_of_real_recordings(
    real_data, tmp_path, made, dandi_validate
):
    """The human one it does not take as it is: its first writer cached a schema in part."""
    derived = []
    for name, options in OPTIONS.items():
        source = real_data / f"{name}.nwb"
        counts = bin_spikes(read_session(source), **options)
        windows = counts.windows
        result = made.posterior(
            windows.start,
            windows.n_bins,
            counts.unit_rows[:5],
            rows=windows.trial_row,
            table=windows.table,
        )
        target = tmp_path / "derived" / source.name
        derived.append(
            write_run(
                source,
                target,
                result,
                model=made.model_file(units=result.unit.values),
                derived=True,
            )
        )
        assert paths_left_out(target) == []
    written = package(derived, tmp_path / "dandiset")
    assert [str(path.relative_to(tmp_path / "dandiset")) for path in written] == list(
        PATHS.values()
    )
    code, said = dandi_validate(tmp_path / "dandiset")
    assert code == 0, said
    assert not [each for each in findings(tmp_path / "dandiset") if each.blocks]
