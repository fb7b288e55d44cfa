"""Trials through the encoders: the same in chunks, hidden and lost entries are not seen, other data are
refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metadyn.errors import DataError, ModelFileError
from metadyn.inference import encoding
from metadyn.inference.encoding import observations
from metadyn.inference.infer import infer
from metadyn.model.readin import SHARE_OFFSET


@pytest.mark.parametrize("pooling", ["mean", "trial", "product"])
def test_chunks_give_the_same_as_all_at_once(monkeypatch, trained, counts, pooling):
    model, data = trained(pooling=pooling), counts()
    whole = infer(model, data)
    monkeypatch.setattr(encoding, "CHUNK_BINS", 45)  # two trials of twenty bins at a time
    in_parts = infer(model, data)
    for name in whole:
        np.testing.assert_allclose(in_parts[name], whole[name], rtol=1e-5, atol=1e-6, err_msg=name)


def lossy(data):
    """Units 1 and 3 lost from the middle of each window on, and some bins of all."""
    entries = np.repeat(data.observed[..., None], data.n_units, -1)
    entries[:, 8:, [1, 3]] = False
    return replace(data, counts=data.counts * entries, unit_observed=entries)


def test_an_entry_that_is_missing_is_one_that_is_hidden(trained, counts):
    """Lost units are to the encoders as hidden ones, but that the rest of each bin stands for
    all."""
    model, data = trained(), lossy(counts(ragged=False))
    seen = observations(model.module, data, 1, slice(0, 2))
    whole = observations(
        model.module, replace(data, unit_observed=None), 1, slice(0, 2), visible=data.unit_observed
    )
    assert torch.equal(seen.visible.entries, whole.visible.entries)
    share = (data.unit_observed[:2].mean(-1) + SHARE_OFFSET) / (1 + SHARE_OFFSET)
    np.testing.assert_allclose(seen.visible.share[0], share, rtol=1e-6)
    both = observations(
        model.module, data, 1, slice(0, 2), visible=np.arange(5) < np.full((6, 20, 1), 4)
    )
    assert not both.visible.entries[..., 4].any()
    np.testing.assert_allclose(both.visible.share[0], 0.8 * share, rtol=1e-6)


def test_an_unknown_session_other_units_or_other_bins_are_refused(trained, counts):
    model, data = trained(), counts()
    with pytest.raises(ModelFileError, match=r"'c'(?s:.*)a, b"):
        infer(model, data.select(session="c"))
    with pytest.raises(DataError, match="4 units, not 5"):
        infer(model, data.select(units=slice(4)))
    with pytest.raises(DataError, match=r"0\.01 s, not 0\.05 s"):
        infer(model, replace(data, windows=replace(data.windows, bin_width=0.01)))
