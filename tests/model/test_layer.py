"""The compiled layer against torch's operations in double precision."""

import pytest
import torch

from metadyn.model.ops import kernels as compiled
from metadyn.model.ops import layer as layers
from metadyn.model.ops.layer import layer

SIZES = [  # items, points, in, out
    (1, 1, 1, 1),
    (3, 7, 30, 17),
    (2, 129, 64, 128),
    (1, 1000, 128, 60),
    (5, 256, 8, 2),
    (4, 0, 3, 5),
]


@pytest.fixture(scope="module", autouse=True)
def a_compiler():
    if compiled.kernels() is None:
        pytest.skip("no C++ compiler")


@pytest.fixture(autouse=True)
def by_the_kernel(monkeypatch):
    """However few points there are."""
    monkeypatch.setattr(layers, "ROWS", 1)


def case(items, points, inputs, outputs, weights, biases):
    torch.manual_seed(0)
    shapes = (items, points, inputs), (weights, inputs, outputs), (biases, outputs)
    return [torch.randn(shape).requires_grad_() for shape in shapes]


def plain(x, weight, bias, tanh):
    """Item by item."""
    weight, bias = (
        each if len(each) == len(x) else each.expand(len(x), *each.shape[1:])
        for each in (weight, bias)
    )
    rows = [a @ w + b for a, w, b in zip(x, weight, bias, strict=True)]
    return torch.stack(rows).tanh() if tanh else torch.stack(rows)


def differences(one, other):
    pairs = [(a.detach(), b.detach()) for a, b in zip(one, other, strict=True) if b.numel()]
    return [float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in pairs]


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("tanh", [False, True])
@pytest.mark.parametrize("shared", ["nothing", "weight", "bias", "both"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_values_and_all_gradients_are_those_of_torch(sizes, shared, tanh, threads):
    items, before = sizes[0], torch.get_num_threads()
    given = case(
        *sizes,
        1 if shared in ("weight", "both") else items,
        1 if shared in ("bias", "both") else items,
    )
    double = [each.detach().double().requires_grad_() for each in given]
    torch.set_num_threads(threads)
    out, expected = layer(*given, tanh), plain(*double, tanh)
    factors = torch.randn(out.shape)
    found = [out, *torch.autograd.grad((out * factors).sum(), given)]
    torch.set_num_threads(before)
    expected = [expected, *torch.autograd.grad((expected * factors).sum(), double)]
    assert max(differences(found, expected), default=0) < 1e-5
    elsewhere = layer(*double, tanh)  # the kernel takes no doubles
    for one, other in zip(
        [elsewhere, *torch.autograd.grad((elsewhere * factors).sum(), double)],
        expected,
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_a_gradient_has_a_gradient():
    given = case(3, 20, 4, 5, 1, 1)
    double = [each.detach().double().requires_grad_() for each in given]

    def penalty(function, tensors):
        gradients = torch.autograd.grad(
            (function(*tensors, True) ** 2).sum(), tensors, create_graph=True
        )
        return torch.autograd.grad(sum((each**2).sum() for each in gradients), tensors)

    assert max(differences(penalty(layer, given), penalty(plain, double))) < 1e-4


def test_inputs_that_lie_anywhere_in_memory_are_taken_as_they_are_meant():
    x, weight, bias = case(6, 40, 8, 12, 6, 6)
    turned = (
        x.detach().mT.contiguous().mT,
        weight.detach().mT.contiguous().mT,
        torch.stack([bias.detach(), bias.detach()], -1)[..., 0],
    )
    torch.testing.assert_close(
        layer(*turned, True), plain(x, weight, bias, True).detach(), rtol=1e-5, atol=1e-5
    )


def test_a_nan_stays_a_nan_in_its_row():
    x, weight, bias = case(2, 9, 3, 4, 2, 2)
    x = x.detach()
    x[1, 4, 0] = torch.nan
    out = layer(x, weight, bias, True)
    assert out[1, 4].isnan().all()
    assert out.isnan().sum() == 4


def test_the_same_threads_give_the_same_bits():
    x, weight, bias = case(1, 3000, 30, 40, 1, 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    once, again = (
        torch.autograd.grad(layer(x, weight, bias, True).sum(), (x, weight, bias)) for _ in range(2)
    )
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
