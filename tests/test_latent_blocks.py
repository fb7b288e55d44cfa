"""Labels of the latent axis against the same written out, and where they come to stand."""

import numpy as np
import pytest

from metadyn.latent_blocks import LatentBlocks

TWO = LatentBlocks(("PMd", "M1"), (1, 2))


def test_blocks_cover_the_axis_in_order_without_gap_or_overlap():
    blocks = LatentBlocks(("a", "b", "c"), (2, 1, 3))
    axis = np.arange(6)
    parts = [axis[blocks.slice_of(name)] for name in blocks.names]
    assert [len(part) for part in parts] == [2, 1, 3]
    np.testing.assert_array_equal(np.concatenate(parts), axis)
    assert list(blocks.labels[blocks.slice_of("c")]) == ["c 0", "c 1", "c 2"]


def test_one_block_is_numbered_as_an_axis_without_labels_is():
    np.testing.assert_array_equal(LatentBlocks.single(4).labels, range(4))
    assert LatentBlocks.single(4).labels.dtype.kind == "i"


@pytest.mark.parametrize(
    ("names", "sizes"), [((), ()), (("a",), (1, 2)), (("a", "a"), (1, 1)), (("a",), (0,))]
)
def test_blocks_that_share_a_name_or_have_no_latent_are_refused(names, sizes):
    with pytest.raises(ValueError, match=r"name|latent"):
        LatentBlocks(names, sizes)


def test_there_is_no_slice_of_an_unknown_block():
    with pytest.raises(ValueError, match="not in tuple"):
        TWO.slice_of("S1")
