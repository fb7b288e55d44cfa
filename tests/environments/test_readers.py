"""Without anything of ours: pynwb, h5py and numpy read all that a shared file holds, by the
snippets of docs/readers.md."""

import shutil

import numpy as np
import pytest
from pynwb import read_nwb

from tests.journeys.test_documents import READERS, blocks, run_python

pytestmark = pytest.mark.timeout(1800)  # environments are made
OURS = {"ndx_metadyn", "metadyn", "torch", "safetensors", "xarray"}


def named_by_us(file) -> dict[str, np.ndarray]:
    """The same by our own views, in the environment of the tests."""
    import ndx_metadyn  # noqa: F401  the views are its classes'

    run = read_nwb(file).processing["ecephys"]["LatentDynamics"]
    named = run.to_xarray()
    latents, rates, table = named["LatentSeries"], named["FiringRateSeries"], named["embeddings"]
    read = {"times": latents.time, "latents": latents.latents, "latents_sd": latents.latents_sd}
    read |= {"rates": rates.rates, "rates_sd": rates.rates_sd}
    read |= {"embedding": table.embedding_mean, "embedding_sd": table.embedding_sd}
    return read | {f"tensor {name}": values for name, values in run.model.tensors().items()}


def test_pynwb_h5py_and_numpy_read_everything(environment, lab_a, monkeypatch):
    reader = environment("pynwb", "h5py", "numpy")
    assert not {"ndx-metadyn", "torch", "safetensors", "xarray"} & reader.packages()
    shutil.copy(lab_a.shared, reader.home / "found.nwb")
    monkeypatch.chdir(reader.home)
    bare = [
        block
        for block in blocks(READERS)
        if block.language == "python" and set(block.hidden) >= OURS
    ]
    assert len(bare) == 2  # pynwb, h5py
    expected = named_by_us(lab_a.shared)
    for block in bare:
        kept = reader.home / "kept.npz"
        run_python(block, kept, str(reader.python))
        found = dict(np.load(kept))
        assert set(found) == set(expected)
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)
        kept.unlink()
        print(
            f"{len(found)} arrays read alike, {sum(each.size for each in found.values())} numbers"
        )
