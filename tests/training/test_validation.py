"""Scores that choose the checkpoint, held against plain loops over sessions and units; and which
bins they are of."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm, poisson
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from metadyn.model.build import build_model
from metadyn.model.likelihoods.gaussian import GaussianLikelihood, GaussianObservations
from metadyn.model.likelihoods.poisson import PoissonCounts, PoissonLikelihood
from metadyn.model.ops import chunks
from metadyn.training import validation
from metadyn.training.execution.batch import DeviceTrials
from metadyn.training.execution.host_trials import HostTrials
from metadyn.training.validation import validate

SHAPE = 2, 5, 7, 3  # session, trial, time, unit


def parts(seed: int) -> tuple[np.random.Generator, np.ndarray]:
    """Random numbers, and entries that count: not the last unit of the last session, which is
    padding."""
    rng = np.random.default_rng(seed)
    where = rng.random(SHAPE) < 0.6
    where[1, ..., 2] = False
    return rng, where


def tensors(*arrays):
    return [
        torch.as_tensor(each, dtype=torch.float32 if each.dtype != bool else torch.bool)
        for each in arrays
    ]


def test_gaussian_bits_equal_the_most_likely_densities_of_each_unit_and_ignore_r():
    rng, where = parts(0)
    mean, center = rng.normal(size=SHAPE), rng.normal(size=(2, 1, 1, 3))
    values = mean + 0.5 * rng.normal(size=SHAPE)
    gain = 0.0
    for session, unit in np.ndindex(2, 3):
        chosen = where[session, ..., unit]
        if not chosen.any():
            continue
        y = values[session, ..., unit][chosen]
        for expected, sign in (
            (mean[session, ..., unit][chosen], 1),
            (center[session, 0, 0, unit], -1),
        ):
            gain += sign * norm.logpdf(y, expected, np.sqrt(np.mean((y - expected) ** 2))).sum()
    y, m, c, w = tensors(values, mean, center, where)
    for log_var in (-4.0, 0.0, 3.0):
        told = GaussianObservations(m, torch.full_like(m, log_var))
        bits, number = GaussianLikelihood.gain(y, told, c, w)
        assert np.isclose(bits, gain / np.log(2), rtol=1e-5)
        assert number == where.sum()


def test_spike_bits_equal_scipys_log_probabilities_over_the_spikes():
    rng, where = parts(1)
    rate, center = rng.gamma(2.0, 0.3, SHAPE), rng.gamma(2.0, 0.3, (2, 1, 1, 3))
    counts = rng.poisson(rate)
    gain = (poisson.logpmf(counts, rate) - poisson.logpmf(counts, np.broadcast_to(center, SHAPE)))[
        where
    ].sum()
    y, r, c, w = tensors(counts, np.log(rate), center, where)
    bits, number = PoissonLikelihood.gain(y, PoissonCounts(r), c, w)
    assert np.isclose(bits, gain / np.log(2), rtol=1e-4)
    assert number == counts[where].sum()


@pytest.fixture
def looked_at(simulated, small, short, monkeypatch):
    """Rates told and entries scored, look by look, of the same model and whole windows of 24
    bins."""
    sessions = simulated()
    model = build_model(small(), [counts.n_units for counts in sessions], seed=1)

    def look_at(
        tails: tuple[int, int], first_garbled: int = 24
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        looks = []
        later = np.arange(24)[:, None] >= first_garbled
        garbled = [replace(each, counts=np.where(later, 7, each.counts)) for each in sessions]

        def note(counts, told, mean, where):
            looks.append((told.mean, where))
            return where.sum(), where.sum()

        monkeypatch.setattr(PoissonLikelihood, "gain", staticmethod(note))
        resident = DeviceTrials.of(garbled, torch.device("cpu"))
        validate(model, resident, short(), 24, tails, "mean")
        return looks

    return look_at


def test_by_default_forecasts_of_a_validation_start_from_a_third_and_know_no_more(looked_at):
    (_, hidden), _, _, (rates, ahead) = looked_at((0, 50))
    bins = torch.arange(24)
    assert torch.equal(ahead.any(-1).any(0).any(0), bins >= 8)
    assert hidden.any(-1).any(0).any(0).all()  # hidden entries: of the whole window
    unknowing = looked_at((0, 50), first_garbled=8)[3][0]
    knowing = looked_at((0, 50), first_garbled=7)[3][0]
    assert torch.equal(rates[:, :, 8:], unknowing[:, :, 8:])
    assert not torch.equal(rates[:, :, 8:], knowing[:, :, 8:])


def test_each_score_is_of_its_own_tail(simulated, small, short, monkeypatch):
    """Hidden entries where the context is longest, forecasts where it is shortest; a fifth of the
    context is hidden."""
    sessions, tails, shares = simulated(), [], []

    def gains(model, trials, crop_bins, tail, pooling, generator):
        tails.append(tail)
        hidden, ahead = (1.0, 20.0) if tail == 2 else (3.0, 40.0)
        return torch.tensor([[hidden, 2.0], [ahead, 4.0]])

    inner = validation.hide

    def hide(*given, **options):
        shares.append(options["dropout"])
        return inner(*given, **options)

    monkeypatch.setattr(validation, "hide", hide)
    model = build_model(small(), [counts.n_units for counts in sessions], seed=1)
    trials = DeviceTrials.of(sessions, torch.device("cpu"))
    validate(model, trials, short(), 24, (2, 9), "mean")
    assert shares == [0.2, 0.2]
    monkeypatch.setattr(validation, "batch_gains", gains)
    assert validate(model, trials, short(), 24, (2, 9), "mean") == {
        "hidden_entries": 0.5,
        "forecast": 10.0,
    }
    assert sorted(tails) == [2, 9]


def test_a_tail_of_a_given_length_is_looked_at_once(looked_at):
    (_, hidden), (_, ahead) = looked_at((5, 5))
    bins = torch.arange(24)
    assert torch.equal(hidden.any(-1).any(0).any(0), bins < 19)
    assert torch.equal(ahead.any(-1).any(0).any(0), bins >= 19)


@pytest.fixture
def told(uneven, small, short):
    """validate(…) of a model of sessions of other sizes, `change` made to it before: scores."""

    def scores(change=lambda model: None, sessions=None, tails=(0, 16), **options):
        sessions, config = sessions or uneven(), small(**options)
        model = build_model(config, [counts.n_units for counts in uneven()], seed=1)
        for row, counts in enumerate(uneven()):
            rows = torch.as_tensor(counts.counts[counts.observed].astype(np.float32))
            model.readin.mean[row, : counts.n_units], model.readin.sd[row, : counts.n_units] = (
                rows.mean(0),
                rows.std(0) + 0.1,
            )
        with torch.no_grad():
            change(model)
        return validate(
            model,
            DeviceTrials.of(sessions, torch.device("cpu")),
            short(),
            24,
            tails,
            config.pooling,
        )

    return scores


@pytest.mark.parametrize("likelihood", ["poisson", "gaussian"])
def test_who_says_each_units_mean_rate_has_a_score_of_zero(told, likelihood):
    def knows_the_mean(model):
        model.likelihood.weight.zero_()
        rate = model.readin.mean.clamp(min=1e-6)
        model.likelihood.bias.copy_(rate.log() if likelihood == "poisson" else model.readin.mean)

    assert told(knows_the_mean, likelihood=likelihood) == pytest.approx(
        {"hidden_entries": 0, "forecast": 0}, abs=1e-5
    )


def test_a_score_does_not_depend_on_how_unsure_the_embedding_is(told):
    """It is of the mean of q(e): no number drawn makes one checkpoint better than another."""

    def width(log_var):
        def change(model):
            head = model.embedding_encoder.head
            head.weight[1:], head.bias[1:] = 0.0, log_var

        return change

    assert told(width(-20.0)) == told(width(3.0))


def test_no_trial_counts_twice(uneven, small, short, monkeypatch):
    """A session of fewer trials than another: entries scored are those of its own trials, once
    each."""
    sessions, numbers = uneven(), []

    def note(counts, told, mean, where):
        numbers.append([int(each.sum()) for each in where])
        return where.sum(), where.sum()

    monkeypatch.setattr(PoissonLikelihood, "gain", staticmethod(note))
    model = build_model(small(), [counts.n_units for counts in sessions], seed=1)
    validate(model, DeviceTrials.of(sessions, torch.device("cpu")), short(), 24, (5, 5), "mean")
    for place, counts in enumerate(sessions):
        ahead = 0
        for n_bins, observed in zip(counts.windows.n_bins, counts.observed, strict=True):
            ahead += int(observed[max(n_bins - 5, n_bins // 3) : n_bins].sum())
        assert numbers[1][place] == ahead * counts.n_units


@pytest.mark.parametrize(
    "entries", [1, 300, 700, 1 << 20]
)  # one unit at a time, some, sessions of more than that, all
def test_scores_are_in_bits_per_spike_of_what_the_model_says_behind_the_context(
    uneven, small, short, monkeypatch, entries
):
    """A model that nothing tells about the trial, so that its forecast is known: spike by spike
    with scipy."""
    monkeypatch.setattr(chunks, "CHUNK_ENTRIES", entries)
    sessions = uneven()
    model = build_model(small(), [counts.n_units for counts in sessions], seed=1)
    with torch.no_grad():
        model.dynamics.flow.output.weight.zero_()
        model.dynamics.flow.output.bias[:] = torch.tensor(
            [0.3, -0.2]
        )  # where all forecasts are from the first bin on
        model.readin.mean += 0.4
    found = validate(
        model, DeviceTrials.of(sessions, torch.device("cpu")), short(), 24, (6, 6), "mean"
    )["forecast"]
    gain, spikes = 0.0, 0
    for row, counts in enumerate(sessions):
        weight, bias = (
            each[row, : counts.n_units].numpy(force=True)
            for each in (model.likelihood.weight, model.likelihood.bias)
        )
        rate = np.exp(weight @ [0.3, -0.2] + bias)
        for n_bins, observed, y in zip(
            counts.windows.n_bins, counts.observed, counts.counts, strict=True
        ):
            for t in range(max(n_bins - 6, n_bins // 3), n_bins):
                if observed[t]:
                    gain += (poisson.logpmf(y[t], rate) - poisson.logpmf(y[t], 0.4)).sum() / np.log(
                        2
                    )
                    spikes += y[t].sum()
    assert found == pytest.approx(gain / spikes, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "pooled"),
    [({}, False), ({"link": "softplus"}, False), ({"likelihood": "gaussian"}, False), ({}, True)],
)
def test_a_score_of_some_units_at_a_time_is_that_of_all_at_once(
    uneven, small, short, monkeypatch, options, pooled
):
    sessions, config = uneven(), small(**options)
    model = build_model(config, [counts.n_units for counts in sessions], seed=1)
    cpu = torch.device("cpu")
    trials = HostTrials(sessions, cpu, 2) if pooled else DeviceTrials.of(sessions, cpu)
    model.readin.mean += 0.4

    def scores(entries: int) -> dict[str, float]:
        monkeypatch.setattr(chunks, "CHUNK_ENTRIES", entries)
        return validate(model, trials, short(), 24, (3, 16), config.pooling)

    whole = scores(1 << 20)
    assert abs(whole["hidden_entries"]) > 0.01
    for entries in (1, 200, 500, 1000):
        assert scores(entries) == pytest.approx(whole, rel=1e-4)


class Floats(TorchDispatchMode):
    """Notes the most elements that a tensor of floats had, of all that were made or turned
    inside."""

    most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **kwargs or {})
        made = [
            each
            for each in tree_leaves(out)
            if isinstance(each, Tensor) and each.is_floating_point()
        ]
        sizes = [each.untyped_storage().nbytes() // each.element_size() for each in made]
        self.most = max([self.most, *sizes])
        return out


@pytest.mark.parametrize("likelihood", ["poisson", "gaussian"])
def test_no_array_of_floats_in_a_validation_is_larger_than_a_session(
    simulated, small, short, likelihood
):
    """Counts are bytes; of 3 sessions of 300 units no float array has more entries than one
    session's, of 6 neither."""
    config, most = small(likelihood=likelihood), {}
    for n_sessions in (3, 6):
        sessions = simulated(n_sessions=n_sessions, units=(200, 300), n_trials=12)
        sessions = [replace(each, counts=each.counts.astype(np.uint8)) for each in sessions]
        model = build_model(config, [counts.n_units for counts in sessions], seed=1)
        trials = DeviceTrials.of(sessions, torch.device("cpu"))
        with pytest.MonkeyPatch.context() as patch, Floats() as floats:
            patch.setattr(chunks, "CHUNK_ENTRIES", 50_000)
            validate(model, trials, short(), 24, (0, 16), config.pooling)
        most[n_sessions] = floats.most
    assert most[3] <= 12 * 24 * 300
    assert most[6] <= 12 * 24 * 300
