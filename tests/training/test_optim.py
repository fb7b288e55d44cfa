"""LAMB against its formula written out, and against what its ratio of norms promises."""

import numpy as np
import pytest
import torch
from torch import nn

from metadyn.model.build import build_model
from metadyn.model.ops.per_session import declarations
from metadyn.training.execution.optim import Lamb, make_optimiser


def moved(weight, gradients, **options):
    """A weight after steps along some gradients."""
    parameter = nn.Parameter(torch.tensor(weight, dtype=torch.float64))
    optimiser = Lamb([{"params": [parameter], **options}], lr=0.1)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimiser.step()
    return parameter.detach().numpy()


def test_two_steps_of_lamb_are_those_of_its_algorithm():
    """You et al., algorithm 2, with moments and corrections in numpy."""
    rng = np.random.default_rng(0)
    weight, gradients = rng.normal(size=(3, 4)), rng.normal(size=(2, 3, 4))
    expected, first, second = weight.copy(), 0.0, 0.0
    for t, gradient in enumerate(gradients, start=1):
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        update = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-6) + 0.05 * expected
        expected = expected - 0.1 * np.linalg.norm(expected) / np.linalg.norm(update) * update
    np.testing.assert_allclose(moved(weight, gradients, weight_decay=0.05), expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_a_step_grows_with_the_weights_and_not_with_the_gradient(scale):
    rng = np.random.default_rng(1)
    signs = rng.choice([-1, 1], (3, 4))
    weight, gradients = (
        rng.normal(size=(3, 4)),
        [signs * rng.uniform(1, 2, (3, 4))],
    )  # far above LAMB's ε of 1e-6
    np.testing.assert_allclose(
        moved(scale * weight, gradients), scale * moved(weight, gradients), rtol=1e-9
    )
    np.testing.assert_allclose(
        moved(weight, [scale * gradients[0]]), moved(weight, gradients), rtol=1e-3
    )


def test_stacked_rows_are_layers_of_their_own_and_none_is_adam():
    rng = np.random.default_rng(2)
    weight, gradients = (
        rng.normal(size=(3, 4, 5)) * np.array([1, 10, 0])[:, None, None],
        rng.normal(size=(2, 3, 4, 5)),
    )
    rows = [moved(weight[row], gradients[:, row], weight_decay=0.1) for row in range(3)]
    np.testing.assert_allclose(
        moved(weight, gradients, weight_decay=0.1, layers="stacked"), rows, rtol=1e-12
    )
    assert not np.allclose(moved(weight, gradients, weight_decay=0.1), rows)
    parameter = nn.Parameter(torch.tensor(weight))
    adam = torch.optim.AdamW([parameter], lr=0.1, weight_decay=0.0, eps=1e-6)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        adam.step()
    np.testing.assert_allclose(
        moved(weight, gradients, layers="none"), parameter.detach(), rtol=1e-9
    )


@pytest.mark.parametrize("kind", ["adam", "lamb"])
def test_readouts_noise_priors_and_biases_are_spared_from_decay(small, kind):
    """With no gradient but zero, only decay moves a weight."""
    model = build_model(small(), [4, 6])
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimiser = make_optimiser(dict(model.named_parameters()), 0.1, 0.05, kind, declarations(model))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    still = {
        name for name, parameter in model.named_parameters() if torch.equal(before[name], parameter)
    }
    spared = ("likelihood.", "log_q", "initial.")
    assert still == {name for name in before if name.startswith(spared) or "bias" in name}


def test_padding_of_a_small_session_is_no_part_of_its_layer(small):
    one, two = (
        build_model(small(), [4]).readin.weight_in,
        build_model(small(), [4, 9]).readin.weight_in,
    )
    assert not two[0, 4:].any()
    assert two[0, :4].all()
    assert one.shape[1] == 4
