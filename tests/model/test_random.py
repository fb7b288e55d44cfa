"""Entries chosen by chance against the random numbers that choose them."""

import pytest
import torch

from metadyn.model.ops import random as numbers
from metadyn.model.ops.random import SessionGenerator, bernoulli

SHAPE = (3, 4, 50, 7)


@pytest.mark.parametrize("at_once", [1, 100, 1 << 16])
@pytest.mark.parametrize("place", [None, [2, 4]])
def test_entries_are_those_whose_number_is_below_the_share(at_once, place, monkeypatch):
    """However many numbers are drawn at a time; of five sessions two may be here."""
    monkeypatch.setattr(numbers, "AT_ONCE", at_once)
    whole, generator = (
        torch.rand(
            3 if place is None else 5, *SHAPE[1:], generator=torch.Generator().manual_seed(4)
        ),
        SessionGenerator(),
    )
    if place is not None:
        generator.place, generator.among = torch.tensor(place), 5
    chosen = bernoulli(
        0.3,
        SHAPE if place is None else (2, *SHAPE[1:]),
        generator.manual_seed(4),
        torch.device("cpu"),
    )
    assert torch.equal(chosen, (whole if place is None else whole[place]) < 0.3)


def test_the_generator_goes_on_where_the_numbers_end():
    one, other = SessionGenerator().manual_seed(1), SessionGenerator().manual_seed(1)
    bernoulli(0.5, SHAPE, one, torch.device("cpu")), torch.rand(SHAPE, generator=other)
    assert torch.equal(torch.rand(3, generator=one), torch.rand(3, generator=other))
