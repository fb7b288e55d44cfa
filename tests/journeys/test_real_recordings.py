"""Every real recording goes the whole way, or ends in a message that a person can act on."""

import re
import warnings

import numpy as np
import pynapple
import pynwb
import pytest

import metadyn

MUST_TRAIN = {
    "maze": (),
    "human_mtl": ("--intervals", "encoding_table"),
    "head_direction": (),
    "alme_17894_fambegin1": (),
    "alme_17724_fambegin1": (),
    "alme_17769_novel4begin2": (),
}
MUST_EXPLAIN = ("alm_nan_stop_times", "alm_photostim")
RUN = "LatentDynamics"

# These files make pynwb and the inspector warn, each for reasons of its own; what matters here is
# that we add none.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def sources_stay_as_they_are(real_data, untouched):
    """Whatever the tests of this module do, no byte of a source changes."""
    before = untouched(real_data)
    yield
    assert untouched(real_data) == before


def shown_by_pynapple(path):
    """Latents, rates and embeddings as pynapple finds them, without a plugin."""
    file = pynapple.NWBFile(str(path))
    names = [
        name
        for name in file.keys()  # noqa: SIM118  no mapping
        if name.split("/")[-1] in ("LatentSeries", "FiringRateSeries", "embeddings")
    ]
    shown = {name.split("/")[-1]: file[name] for name in names}
    file.close()
    return shown


def test_every_recording_is_in_one_of_the_lists(real_data):
    assert {path.stem for path in real_data.glob("*.nwb")} == {*MUST_TRAIN, *MUST_EXPLAIN}


@pytest.mark.parametrize("name", [*MUST_TRAIN, *MUST_EXPLAIN])
def test_inspect_counts_units_and_spikes_as_the_file_has_them(real_data, run, name):
    path = real_data / f"{name}.nwb"
    units = pynwb.read_nwb(path).units
    said = run.worked("inspect", path)
    assert f"{len(units)} units, {len(units.spike_times_index.target.data)} spikes" in said
    assert ("metadyn fit" in said) == (name != "alm_nan_stop_times")
    assert ("problems:" in said) == (name in ("human_mtl", *MUST_EXPLAIN))


@pytest.mark.parametrize("name", MUST_TRAIN)
def test_the_way_there_and_back(
    real_data, run, tmp_path, assert_no_new_fault, read_without_us, name
):
    source = real_data / f"{name}.nwb"
    run.worked("fit", source, "-o", tmp_path / "model", *run.haste, *MUST_TRAIN[name])
    target = run.worked(
        "annotate", tmp_path / "model", source, "-o", tmp_path / "annotated"
    ).strip()
    assert_no_new_fault(target, source)

    inferred = metadyn.infer(tmp_path / "model", source)
    in_order = np.argsort(inferred.start_time.values, kind="stable")
    found = read_without_us(target, "ignore")
    n_bins, n_latents, n_units = (
        int(inferred.n_bins.sum()),
        inferred.sizes["latent"],
        inferred.sizes["unit"],
    )
    assert (found["latents"], found["rates"]) == ([n_bins, n_latents], [n_bins, n_units])
    np.testing.assert_array_equal(found["start_times"], inferred.start_time.values[in_order])
    totals = inferred.latent_mean.astype(float).sum(("time", "latent"))[in_order][[0, 1, -1]]
    np.testing.assert_allclose(found["window_totals"], totals, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["embedding"], inferred.session_embedding_mean, rtol=1e-6)
    assert found["digest"] == metadyn.load_model(tmp_path / "model").file().digest

    shown = shown_by_pynapple(target)
    assert shown["LatentSeries"].shape == (n_bins, n_latents)
    assert shown["FiringRateSeries"].shape == (n_bins, n_units)
    assert len(shown["embeddings"]) == inferred.sizes["trial"]
    assert "embedding_mean" in shown["embeddings"].metadata_columns


def test_a_recording_without_stop_times_says_what_to_do_and_then_what_it_lacks(
    real_data, run, tmp_path
):
    source = real_data / "alm_nan_stop_times.nwb"
    said = run.refused("fit", source, "-o", tmp_path / "model", *run.haste)
    assert "340 of 340 rows" in said
    said = run.refused("fit", source, "-o", tmp_path / "model", *run.haste, *window_proposed(said))
    assert "two units at least" in said
    assert "1 of 1 units" in said
    assert not (tmp_path / "model").exists()


def test_trials_of_wild_lengths_run_with_the_window_that_the_message_proposes(
    real_data, run, tmp_path, assert_no_new_fault, read_without_us
):
    source = real_data / "alm_photostim.nwb"
    said = run.refused("fit", source, "-o", tmp_path / "model", *run.haste)
    assert "the longest 1177 s" in said
    run.worked("fit", source, "-o", tmp_path / "model", *run.haste, *window_proposed(said))
    target = run.worked(
        "annotate", tmp_path / "model", source, "-o", tmp_path / "annotated"
    ).strip()
    assert_no_new_fault(target, source)
    assert read_without_us(target, "ignore")["n_windows"] == 409


def window_proposed(said: str) -> list[str]:
    """The options of the remedy in a message, e.g. --align start_time --n-bins 50."""
    return re.search(r"--align \w+ --n-bins \d+", said).group().split()


def test_several_recordings_train_one_model_and_are_annotated_together(
    real_data, run, tmp_path, untouched
):
    rats = sorted(real_data.glob("alme_*.nwb"))
    run.worked("fit", *rats, "-o", tmp_path / "model", *run.haste)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = run.worked(
            "annotate", tmp_path / "model", *rats, "-o", tmp_path / "annotated"
        ).split()
    assert sorted(untouched(tmp_path / "annotated")) == [rat.name for rat in rats]
    embeddings = {
        name: pynwb.read_nwb(name).processing["ecephys"][RUN].embeddings["embedding_mean"][0]
        for name in written
    }
    assert len({tuple(np.round(each, 6)) for each in embeddings.values()}) == 3
