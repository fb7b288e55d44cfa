"""The reference that speed is measured against computes what the package computes."""

import pytest
import torch

from benchmarks.reference import declared_of, from_model, rearranged
from metadyn.config import ModelConfig
from metadyn.model.build import build_model
from metadyn.model.elbo import ElboTerms, Targets, elbo, sample_posterior
from metadyn.model.meta_ssm import Observations
from metadyn.model.ops.per_session import declarations
from metadyn.model.ops.weighted_log_prob import EntryWeights
from metadyn.training.execution.optim import make_optimiser

N_UNITS, TRIALS, BINS = [3, 6, 4], 4, 9
KL_WEIGHT, PENALTY = 0.3, 0.7
SIZES = {
    "latent_dim": 2,
    "embedding_dim": 3,
    "rank": 2,
    "hidden": (5, 7),
    "hyper_hidden": 4,
}  # all differ
WIDTHS = {"readin_hidden": 9, "readin_dim": 6, "embedding_hidden": 8, "latent_hidden": 10}
VARIANTS = [
    {"likelihood": "gaussian"},
    {"likelihood": "gaussian", "detach_embedding": True},
    {"likelihood": "poisson", "readin_dropout": 0.4},
]


def scrambled(config):
    """A model whose weights, moments of counts included, are all random; padding is that of a
    fit."""
    model = build_model(config, N_UNITS, process_noise=0.3, posterior_log_var=-1.0).double()
    generator = torch.Generator().manual_seed(1)
    padding = torch.arange(max(N_UNITS)) >= torch.tensor(N_UNITS)[:, None]
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor += 0.2 * torch.randn(tensor.shape, generator=generator)
        model.readin.weight_in[padding] = 0.0
        model.readin.mean[padding], model.readin.sd[padding] = 0.0, 1.0
    return model


@pytest.fixture
def batch():
    """Whole windows of sessions with different numbers of units, a third of the bins masked, none
    of them a first one."""
    generator = torch.Generator().manual_seed(2)
    units = (torch.arange(max(N_UNITS)) < torch.tensor(N_UNITS)[:, None]).double()[:, None, None]
    shape = (len(N_UNITS), TRIALS, BINS)
    counts = (
        torch.poisson(torch.full((*shape, max(N_UNITS)), 1.5), generator=generator).double() * units
    )
    masked = (torch.rand(shape, generator=generator) < 0.3) & (torch.arange(BINS) > 0)
    everywhere = torch.ones(shape, dtype=torch.bool)
    seen = Observations(counts, everywhere, torch.full(shape[:2], BINS), torch.arange(len(N_UNITS)))
    return seen, Targets(EntryWeights(everywhere.double(), units.bool()), masked)


def both(config, batch):
    """The model and its reference, and the terms of either from the same seed."""
    model, (seen, targets) = scrambled(config), batch
    reference = from_model(model, config, N_UNITS)
    drawn = sample_posterior(
        model, seen, targets, pooling="mean", generator=torch.Generator().manual_seed(3)
    )
    counts = [each[..., :units] for each, units in zip(seen.counts, N_UNITS, strict=True)]
    numbers = reference.random_numbers(TRIALS, BINS, torch.Generator().manual_seed(3))
    return (
        model,
        reference,
        elbo(model, drawn, seen, targets),
        reference.elbo(counts, targets.forecast, numbers),
    )


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_elbo_and_gradients_of_the_reference_are_those_of_the_package(options, batch):
    model, reference, ours, plain = both(ModelConfig(**SIZES, **WIDTHS, **options), batch)
    for name in ElboTerms.__dataclass_fields__:
        torch.testing.assert_close(
            getattr(plain, name).double(), getattr(ours, name), rtol=1e-9, atol=1e-9, msg=name
        )
    ours.loss(KL_WEIGHT, PENALTY).backward()
    plain.loss(KL_WEIGHT, PENALTY).backward()
    expected = rearranged(
        {name: parameter.grad for name, parameter in model.named_parameters()}, N_UNITS
    )
    found = {name: parameter.grad for name, parameter in reference.named_parameters()}
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(
            found[name],
            expected[name],
            rtol=1e-7,
            atol=1e-9,
            msg=lambda text, at=name: f"{at}: {text}",
        )


@pytest.mark.parametrize("optimiser", ["adam", "lamb"])
def test_the_reference_takes_the_step_of_the_package(optimiser, batch):
    """Weight decay and LAMB's layers: declared by modules in one, by names in the other."""
    model, reference, ours, plain = both(
        ModelConfig(**SIZES, **WIDTHS, likelihood="gaussian"), batch
    )
    treated = ((model, ours, declarations(model)), (reference, plain, declared_of(reference)))
    for module, terms, declared in treated:
        terms.loss(KL_WEIGHT, PENALTY).backward()
        make_optimiser(dict(module.named_parameters()), 0.05, 0.1, optimiser, declared).step()
    expected = rearranged(model.state_dict(), N_UNITS)
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(
            value, expected[name], rtol=1e-6, atol=1e-8, msg=lambda text, at=name: f"{at}: {text}"
        )
