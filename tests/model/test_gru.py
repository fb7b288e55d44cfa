"""The fused GRU against torch's, sequence by sequence in double precision; and what happens without
a compiler."""

import os
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn

from metadyn.model.ops import kernels as compiled_kernels
from metadyn.model.ops.gru import GRU
from metadyn.model.ops.kernels import kernels

SIZES = [  # sequences, time, inputs, told, hidden
    (1, 1, 1, 0, 5),
    (1, 12, 8, 1, 16),
    (17, 9, 3, 2, 16),
    (16, 1, 8, 1, 64),
    (33, 30, 8, 1, 64),
    (5, 40, 17, 0, 5),
    (40, 36, 64, 2, 128),
]


@pytest.fixture(scope="module", autouse=True)
def compiled():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kernels() is None:
            pytest.skip("no C++ compiler")


@pytest.fixture
def fresh():
    """The kernel is looked for anew, in the test and after it."""
    kernels.cache_clear()
    yield
    kernels.cache_clear()


def case(sequences, time, inputs, told, hidden):
    torch.manual_seed(0)
    gru = GRU(inputs, told, hidden)
    length = torch.randint(1, time + 1, (sequences,))
    return gru, torch.randn(sequences, time, inputs), torch.randn(sequences, told), length


def by_torch(gru, features, told, length, reverse):
    """Sequence by sequence; forward over all bins, in reverse over the seen ones, and zeros
    behind."""
    states = []
    for x, e, n in zip(features, told, length.tolist(), strict=True):
        x = torch.cat([x, e.expand(len(x), -1)], 1)[None]
        seen = gru(x[:, :n].flip(1))[0].flip(1) if reverse else gru(x)[0]
        states.append(nn.functional.pad(seen, (0, 0, 0, x.shape[1] - seen.shape[1]))[0])
    return torch.stack(states)


def reference(gru) -> nn.GRU:
    other = nn.GRU(gru.input_size, gru.hidden_size, batch_first=True).double()
    other.load_state_dict(gru.state_dict())
    return other


def with_gradients(states, weights, *tensors):
    """States and gradients of their weighted sum, each relative to its largest entry."""
    gradients = torch.autograd.grad((states * weights).sum(), tensors)
    return [states.detach(), *(each for each in gradients if each.numel())]


def differences(one, other) -> list[float]:
    return [
        float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))
        for a, b in zip(one, other, strict=True)
    ]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_states_and_all_gradients_are_those_of_torch(sizes, reverse):
    gru, features, told, length = case(*sizes)
    other, weights = reference(gru), torch.randn(*features.shape[:2], gru.hidden_size)
    single = [x.requires_grad_() for x in (features, told)]
    double = [x.detach().double().requires_grad_() for x in single]
    one = with_gradients(gru(*single, length, reverse), weights, *single, *gru.parameters())
    two = with_gradients(
        by_torch(other, *double, length, reverse), weights, *double, *other.parameters()
    )
    assert max(differences(one, two)) < 1e-5


@pytest.mark.parametrize("reverse", [False, True])
def test_small_and_large_sums_keep_their_relative_precision(reverse):
    """Where tanh is nearly linear, and where all units are saturated. One input, so that no large
    terms cancel."""
    for scale in (1e-6, 1e-3, 1e3, 1e30):
        gru, features, told, length = case(17, 9, 1, 0, 16)
        with torch.no_grad():
            for bias in (gru.bias_ih_l0, gru.bias_hh_l0):
                bias.zero_()
            states = gru(scale * features, told, length, reverse)
            other = by_torch(
                reference(gru), (scale * features).double(), told.double(), length, reverse
            )
        assert max(differences([states], [other])) < 1e-6


def test_bins_behind_the_end_are_not_seen_in_reverse():
    gru, features, told, length = case(33, 30, 8, 1, 64)
    behind = torch.arange(30) >= length[:, None]
    other = features.masked_fill(behind[..., None], torch.nan).requires_grad_()
    states = gru(other, told, length, reverse=True)
    assert torch.equal(states, gru(features, told, length, reverse=True))
    assert (states[behind] == 0).all()
    states.sum().backward()
    assert (other.grad[behind] == 0).all()
    assert all(weight.grad.isfinite().all() for weight in gru.parameters())


def test_a_nan_stays_a_nan():
    """Training stops at one, so it must not be clipped away."""
    gru, features, told, length = case(17, 9, 3, 2, 16)
    features[3, 4, 1] = torch.nan
    states = gru(features, told, length)
    assert states[3, 4:].isnan().all()
    assert states[3, :4].isfinite().all()
    assert states[torch.arange(17) != 3].isfinite().all()


@pytest.mark.parametrize("openmp", [True, False], ids=["OpenMP's threads", "threads of its own"])
def test_two_threads_give_what_one_gives(openmp, monkeypatch):
    if openmp and not compiled_kernels.team():
        pytest.skip("this torch has no GOMP_parallel")
    if not openmp:
        monkeypatch.setattr(compiled_kernels, "team", lambda: None)
    gru, features, told, length = case(40, 36, 8, 2, 64)
    results, before = [], torch.get_num_threads()
    for threads in (1, 2, 2):
        torch.set_num_threads(threads)
        states = gru(features, told, length, reverse=True)
        results.append(with_gradients(states, features.sum(-1, keepdim=True), *gru.parameters()))
    torch.set_num_threads(before)
    assert max(differences(results[1], results[0])) < 1e-6
    assert all(torch.equal(a, b) for a, b in zip(results[1], results[2], strict=True))


def test_a_graph_can_be_gone_through_twice():
    gru, features, told, length = case(17, 9, 3, 2, 16)
    states = gru(features, told, length).sum()
    once, twice = (
        torch.autograd.grad(states, gru.weight_hh_l0, retain_graph=True)[0] for _ in range(2)
    )
    assert torch.equal(once, twice)


def test_stored_weights_and_first_values_are_those_of_torchs_gru():
    torch.manual_seed(3)
    ours = GRU(8, 2, 16).state_dict()
    torch.manual_seed(3)
    theirs = nn.GRU(10, 16, batch_first=True).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("compiler", [None, "false"], ids=["none", "one that fails"])
def test_without_a_compiler_the_states_are_the_same_and_one_warning_says_what_helps(
    fresh, monkeypatch, compiler
):
    gru, features, told, length = case(17, 9, 3, 2, 16)
    gru.requires_grad_(False)
    fused = [gru(features, told, length, reverse) for reverse in (False, True)]
    kernels.cache_clear()
    if compiler:
        monkeypatch.setenv("CXX", compiler)
    else:
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", "")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plain = [gru(features, told, length, reverse) for reverse in (False, True)]
    assert [str(each.message).count("g++") for each in caught] == [1]
    assert max(differences(plain, fused)) < 1e-5


def test_a_cache_that_cannot_be_written_costs_only_the_compilation(fresh, monkeypatch, tmp_path):
    gru, features, told, length = case(17, 9, 3, 2, 16)
    cached = gru(features, told, length)
    kernels.cache_clear()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert torch.equal(gru(features, told, length), cached)
    assert kernels() is not None


def test_two_processes_compile_at_the_same_time_and_importing_compiles_nothing(tmp_path):
    script = """
import metadyn.model.build, metadyn.training.fit, os, sys
from metadyn.model.ops.kernels import kernels
assert sys.argv[1] == "use" or not os.path.exists(os.environ["XDG_CACHE_HOME"] + "/ndx-metadyn")
assert sys.argv[1] == "import" or kernels() is not None
"""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-W", "error::UserWarning", "-c", script]
    subprocess.run([*command, "import"], env=environment, check=True)
    both = [subprocess.Popen([*command, "use"], env=environment) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert len(list((tmp_path / "ndx-metadyn").iterdir())) == 1


def test_the_process_keeps_its_smallest_numbers():
    """A library linked for fast mathematics would flush them to zero everywhere."""
    assert kernels() is not None
    assert torch.tensor(1e-39) * torch.tensor(0.5) > 0
