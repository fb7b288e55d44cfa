"""The search for placement and embedding: its parts by plain loops and dense matrices, and truth that
it finds again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm

from metadyn.config import ModelConfig
from metadyn.errors import DataError
from metadyn.model.build import build_model
from metadyn.model.dynamics import Transition
from metadyn.model.trained import SharedLatents, TrainedModel
from metadyn.records import SessionEntry, Source, TrialCounts, Windows
from metadyn.training.alignment import placement as search_settings
from metadyn.training.alignment.placement import (
    Candidates,
    find_placement,
    first_candidates,
    laplace_variance,
    orthogonal_maps,
    rank,
)
from metadyn.training.alignment.prior import factor_of, learn_prior, readout_shape
from metadyn.training.alignment.search import Search, latent_part_of_mean
from metadyn.training.initial.initialise import initialise_sessions

N_SESSIONS, N_UNITS, NOISE = 8, 20, 0.05
CONFIG = ModelConfig(
    latent_dim=2,
    embedding_dim=1,
    likelihood="gaussian",
    hidden=(16, 16),
    hyper_hidden=8,
    residual=True,
)


def counts_of(values: np.ndarray) -> TrialCounts:
    n_trials, n_bins, n_units = values.shape
    windows = Windows(
        np.arange(n_trials) * 10.0, np.full(n_trials, n_bins), 0.02, "trials", np.arange(n_trials)
    )
    source = Source(identifier="made")
    return TrialCounts(
        "made", source, values, np.ones((n_trials, n_bins), bool), windows, np.arange(n_units)
    )


@pytest.fixture(scope="module")
def trained() -> TrainedModel:
    """A model whose embedding is the speed of a rotation with a limit cycle, taught by regression
    on that flow."""
    module = build_model(CONFIG, [N_UNITS] * N_SESSIONS, seed=0)
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(module.dynamics.parameters(), 0.01)
    for iteration in range(900):
        optimiser.param_groups[0]["lr"] = 0.01 if iteration < 600 else 0.002
        e, z = (
            torch.randn(32, 1, 1, generator=generator),
            1.2 * torch.randn(32, 1, 24, 2, generator=generator),
        )
        loss = ((module.dynamics(e, torch.zeros(32, 2)).mean(z) - z - flow(z, e)) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 1e-3
    embeddings = np.linspace(-1.5, 1.5, N_SESSIONS)
    with torch.no_grad():
        module.likelihood.weight.normal_(generator=generator)
        module.likelihood.bias.zero_()
    keys = [f"session-{i}" for i in range(N_SESSIONS)]
    entries = [
        SessionEntry(key, N_UNITS, tuple(range(N_UNITS)), Source(identifier=key)) for key in keys
    ]
    entries = [
        replace(each, embedding_mean=(e,), embedding_sd=(0.1,))
        for each, e in zip(entries, embeddings, strict=True)
    ]
    ones = np.ones(2, np.float32)
    shared = SharedLatents(
        ones,
        ones,
        (),
        np.zeros((0, 9, 2), np.float32),
        np.zeros((N_SESSIONS, 2), np.float32),
        0.1 * np.eye(2),
    )
    return TrainedModel(module, CONFIG, 0.02, tuple(entries), shared)


def flow(z: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
    """A step of a circle of radius one, turned round at a speed that grows with e."""
    turned = torch.stack([-z[..., 1], z[..., 0]], -1)
    return (
        0.15 * z * (1 - (z**2).sum(-1, keepdim=True)).clamp(min=-2)
        + 0.15 * (1.2 + 0.6 * e[..., None]) * turned
    )


def recorded(trained: TrainedModel, e: float, n_trials: int, baseline: float = 0.0, seed: int = 1):
    """Latents (trial, time, 2) of the model's own dynamics, their readout, and observations of
    them."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    log_q = torch.full((1, 2), 2 * np.log(NOISE))
    with torch.no_grad():
        transition = trained.module.dynamics(torch.full((1, n_trials, 1), e), log_q)
        path = transition.rollout(torch.randn(1, n_trials, 2, generator=generator), 60, generator)[
            0
        ].numpy()
    weight, bias = rng.normal(0, 1, (N_UNITS, 2)), baseline * rng.normal(0, 1, N_UNITS)
    observed = path @ weight.T + bias + 0.05 * rng.standard_normal((n_trials, 60, N_UNITS))
    return path, weight, counts_of(observed.astype(np.float32))


@pytest.mark.parametrize(("e", "n_trials"), [(-0.8, 2), (0.9, 8)])
def test_the_embedding_and_the_map_that_made_a_session_are_found(trained, e, n_trials):
    path, _, counts = recorded(trained, e, n_trials)
    start = initialise_sessions([counts], CONFIG, trained.training)[0]
    placement = find_placement(trained, start, counts)
    assert placement.embedding_mean[0] == pytest.approx(e, abs=0.15)
    found = start.mapped(placement.map, placement.offset).latents.reshape(-1, 2)
    true = path.reshape(-1, 2)
    turn = np.linalg.lstsq(true, found, rcond=None)[
        0
    ]  # a circle looks the same from every side: a turn stays free
    np.testing.assert_allclose(turn.T @ turn, np.eye(2) * (turn**2).sum() / 2, atol=0.1)
    assert np.linalg.det(turn) > 0
    assert ((found - true @ turn) ** 2).sum() / (found**2).sum() < 0.02


def test_more_trials_make_the_embedding_surer_and_its_error_is_of_the_size_it_says(trained):
    errors, sds = {}, {}
    for n_trials in (1, 8):
        placements = []
        for seed in range(3):
            _, _, counts = recorded(trained, 0.3, n_trials, seed=10 + seed)
            placements.append(
                find_placement(
                    trained, initialise_sessions([counts], CONFIG, trained.training)[0], counts
                )
            )
        errors[n_trials] = np.sqrt(
            np.mean([(placement.embedding_mean[0] - 0.3) ** 2 for placement in placements])
        )
        sds[n_trials] = np.mean([placement.embedding_sd[0] for placement in placements])
    assert sds[8] < 0.6 * sds[1]
    assert all(0.2 < errors[n] / sds[n] < 4 for n in errors)


def test_a_session_of_other_baselines_is_placed_where_baselines_are_known_to_differ(trained):
    with torch.no_grad():
        trained.module.likelihood.bias.normal_(0, 2.0, generator=torch.Generator().manual_seed(2))
    try:
        _, _, counts = recorded(trained, 0.5, 8, baseline=2.0)
        start = initialise_sessions([counts], CONFIG, trained.training)[0]
        placement = find_placement(trained, start, counts)
    finally:
        with torch.no_grad():
            trained.module.likelihood.bias.zero_()
    assert placement.embedding_mean[0] == pytest.approx(0.5, abs=0.2)
    found = start.mapped(placement.map, placement.offset).latents.reshape(-1, 2)
    assert np.linalg.norm(found.mean(0)) < 0.3


def test_rollout_errors_are_those_of_a_plain_loop(trained):
    _, _, counts = recorded(trained, 0.2, 3)
    start = initialise_sessions([counts], CONFIG, trained.training)[0]
    search = Search.of(trained, start, counts)
    rng = np.random.default_rng(0)
    maps, shift, e = (
        torch.tensor(rng.normal(0, 1, shape)).float() for shape in ((4, 2, 2), (4, 2), (4, 1))
    )
    trial, first = torch.tensor([0, 2, 1]), torch.tensor([0, 7, 20])
    with torch.no_grad():
        fast = search.errors(maps, shift, e, (trial, first)).numpy()
        for c in range(4):
            transition = trained.module.dynamics(e[c : c + 1, None], torch.zeros(1, 2))
            offset = shift[c] + maps[c] @ search.latent_mean
            total = np.zeros((search.steps, 2))
            for n, t in zip(trial.tolist(), first.tolist(), strict=True):
                z = maps[c] @ search.x[n, t] + offset
                for step in range(search.steps):
                    z = transition.mean(z[None, None, None])[0, 0, 0]
                    x = torch.linalg.solve(maps[c], z - offset)
                    away = (x - search.x[n, t + step + 1]).abs()
                    total[step] += torch.where(away < 1, 0.5 * away**2, away - 0.5).numpy() / 3
            np.testing.assert_allclose(fast[:, c], total, rtol=2e-3, atol=1e-4)


def test_rollouts_go_to_the_bins_behind_their_first_of_all_windows_end_to_end(trained, monkeypatch):
    _, _, counts = recorded(trained, 0.2, 3)
    search = Search.of(trained, initialise_sessions([counts], CONFIG, trained.training)[0], counts)
    trial, first = torch.tensor([0, 2, 1]), torch.tensor([4, 0, 9])
    asked, mean = [], Transition.mean

    def noting(transition, z, bins=None):
        asked.append(bins)
        return mean(transition, z, bins)

    monkeypatch.setattr(Transition, "mean", noting)
    search.errors(
        torch.eye(2).expand(4, 2, 2), torch.zeros(4, 2), torch.zeros(4, 1), (trial, first)
    )
    assert len(asked) == search.steps
    for step, bins in enumerate(asked, start=1):
        expected = [counts.counts.shape[1] * t + f + step for t, f in ((0, 4), (2, 0), (1, 9))]
        assert torch.equal(bins, torch.tensor(expected).expand(4, 1, 3))


@pytest.fixture(scope="module")
def uneven_model() -> TrainedModel:
    """A model with readouts, baselines, centres and spreads that differ, and known embeddings that
    are not evenly spread; its dynamics are as they were made, which is enough where no truth is to
    be found."""
    rng, n_units = np.random.default_rng(5), [4, 20, 9, 13, 20, 7, 11, 16]
    module = build_model(CONFIG, n_units, seed=0)
    with torch.no_grad():
        module.dynamics.flow.output.weight.mul_(0.3)
        module.likelihood.weight.normal_(generator=torch.Generator().manual_seed(1))
        module.likelihood.bias.normal_(0.4, 0.6, generator=torch.Generator().manual_seed(2))
    entries = tuple(
        SessionEntry(
            f"session-{n}",
            n,
            tuple(range(n)),
            Source(),
            embedding_mean=(float(e),),
            embedding_sd=(0.1,),
        )
        for n, e in zip(n_units, rng.normal(size=8), strict=True)
    )
    spread, latent_sd = np.array([[0.5, 0.1], [0.1, 0.3]]), np.array([0.7, 1.9])
    shared = SharedLatents(
        latent_sd, np.ones(2), (), np.zeros((0, 9, 2), np.float32), rng.normal(size=(8, 2)), spread
    )
    return TrainedModel(module, CONFIG, 0.02, entries, shared)


@pytest.mark.parametrize("known", [8, 5])
def test_the_prior_is_mean_and_covariance_of_what_sessions_showed_and_one_more(uneven_model, known):
    """Feature by feature: embedding, log diagonal and lower entry over that of its column, mean
    latent. Sessions that were aligned later know no centre, and count for the usual readout
    alone."""
    shared = replace(
        uneven_model.shared_latents, centers=uneven_model.shared_latents.centers[:known]
    )
    model = replace(uneven_model, shared_latents=shared)
    prior, rows, shapes, baselines = learn_prior(model, 3), [], [], []
    for row, entry in enumerate(model.sessions):
        weight = model.module.likelihood.weight[row, : entry.n_units].detach().double().numpy()
        factor = np.linalg.cholesky(weight.T @ weight / entry.n_units + 1e-4 * np.eye(2))
        shapes.append([np.log(factor[0, 0]), np.log(factor[1, 1]), factor[1, 0] / factor[0, 0]])
        baselines += model.module.likelihood.bias[row, : entry.n_units].tolist()
        if row < known:
            rows.append([*entry.embedding_mean, *shapes[-1], *shared.centers[row]])
    new, sd = (
        np.array([0, *np.mean(shapes, 0), 0, 0]),
        np.array([1, 0.3, 0.3, 0.3, 0.3 * 0.7, 0.3 * 1.9]),
    )
    mean = (np.sum(rows, 0) + new) / (known + 1)
    covariance = np.zeros((6, 6))
    for i in range(6):
        for j in range(6):
            scatter = sum((each[i] - mean[i]) * (each[j] - mean[j]) for each in rows)
            covariance[i, j] = (
                scatter + sd[i] ** 2 if i == j else scatter * known / (known + 6)
            ) / (known + 1)
    covariance[4:, 4:] += shared.trial_spread / 3
    np.testing.assert_allclose(prior.mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(prior.covariance, covariance, rtol=1e-4, atol=1e-5)
    assert prior.baseline_mean == pytest.approx(np.mean(baselines), rel=1e-5)
    assert prior.baseline_var == pytest.approx(np.var(baselines) + 1e-4, rel=1e-4)


def searched(model, n_trials=3):
    """A search with gaps, and some candidates and rollouts of it."""
    _, _, counts = recorded(model, 0.2, n_trials)
    observed = np.random.default_rng(1).random(counts.observed.shape) < 0.8
    search = Search.of(
        model,
        initialise_sessions([counts], CONFIG, model.training)[0],
        replace(counts, observed=observed),
    )
    rng = np.random.default_rng(0)
    parts = tuple(
        torch.tensor(rng.normal(0, 1, shape)).float() for shape in ((3, 2, 2), (3, 2), (3, 1))
    )
    return search, parts, (torch.tensor([0, 2, 1]), torch.tensor([0, 7, 20]))


def test_the_loss_is_a_negative_log_posterior_of_misfit_features_and_baselines(uneven_model):
    """Without their constants: densities by scipy, and errors of unknown size, as many as rollouts
    fit into the data."""
    search, parts, where = searched(uneven_model)
    with torch.no_grad():
        found = search.loss(*parts, where).double().numpy()
        errors = search.errors(*parts, where).mean((0, -1)).double().numpy()
        prior, weight, bias = (
            search.prior,
            search.weight.double().numpy(),
            search.bias.double().numpy(),
        )
        expected = []
        for (maps, shift, embedding), error in zip(
            zip(*(part.double().numpy() for part in parts), strict=True), errors, strict=True
        ):
            readout, offset = (
                weight @ np.linalg.inv(maps),
                shift + maps @ search.latent_mean.double().numpy(),
            )
            shape = readout_shape(torch.tensor(readout).float()).double().numpy()
            fit = multivariate_normal(prior.mean, prior.covariance).logpdf(
                [*embedding, *shape, *offset]
            )
            plane = (
                weight @ np.linalg.inv(np.linalg.cholesky(weight.T @ weight)).T
            )  # orthonormal in the plane of the readout
            baseline = plane.T @ (bias - prior.baseline_mean - readout @ offset)
            usual = norm.logpdf(baseline, 0, prior.baseline_var**0.5).sum()
            misfit = 0.5 * float(search.observed.sum()) * 2 / search.steps * np.log(error + 1e-8)
            expected.append(misfit - fit - usual)
    constant = 0.5 * np.linalg.slogdet(2 * np.pi * prior.covariance)[1] + np.log(
        2 * np.pi * prior.baseline_var
    )
    np.testing.assert_allclose(found, np.array(expected) - constant, rtol=1e-3, atol=0.02)


def test_errors_of_rollouts_count_where_start_and_end_were_observed(uneven_model):
    """Whatever the latents are elsewhere."""
    search, parts, _ = searched(uneven_model)
    where = search.random_origins(200, torch.Generator().manual_seed(0))
    garbled = replace(search, x=torch.where(search.observed[..., None], search.x, 30.0))
    with torch.no_grad():
        torch.testing.assert_close(search.errors(*parts, where), garbled.errors(*parts, where))


def test_rollouts_over_all_data_start_every_quarter_of_their_length_in_every_trial(uneven_model):
    search, _, _ = searched(uneven_model)
    trial, first = search.all_origins()
    starts = list(range(0, 60 - search.steps, search.steps // 4))
    assert list(zip(trial.tolist(), first.tolist(), strict=True)) == [
        (n, t) for n in range(3) for t in starts
    ]
    assert (first + search.steps < 60).all()
    trial, first = search.random_origins(5000, torch.Generator().manual_seed(0))
    assert set(trial.tolist()) == {0, 1, 2}
    assert set(first.tolist()) == set(range(60 - search.steps))


def test_the_variance_of_the_embedding_is_that_of_the_curvature_by_differences(uneven_model):
    """The inverse of a Hessian by differences of the loss, map and shift free too; no direction is
    less sure than SD 1."""
    search, _, _ = searched(uneven_model)
    best = Candidates(
        torch.tensor([[[1.5, 0.6], [-0.9, 1.1]]]),
        torch.tensor([[0.4, -0.2]]),
        torch.tensor([[1.3]]),
    )
    where = search.all_origins()
    flat = np.concatenate([part.flatten().numpy() for part in best])

    def gradient(values):
        values = torch.tensor(values).float().requires_grad_()
        parts = (values[:4].view(1, 2, 2), values[4:6][None], values[6:][None])
        return torch.autograd.grad(search.loss(*parts, where).sum(), values)[0].double().numpy()

    step = 2e-3
    hessian = np.stack(
        [(gradient(flat + step * e) - gradient(flat - step * e)) / (2 * step) for e in np.eye(7)]
    )
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    expected = vectors @ np.diag(1 / np.maximum(values, 1)) @ vectors.T
    np.testing.assert_allclose(laplace_variance(search, best), [expected[6, 6]], rtol=0.05)


def test_the_first_maps_give_the_readout_its_usual_shape(uneven_model):
    _, _, counts = recorded(uneven_model, 0.2, 3)
    start = initialise_sessions([counts], CONFIG, uneven_model.training)[0]
    search = Search.of(uneven_model, start, counts)
    maps, shifts, embeddings = first_candidates(search, start, 0)
    usual = search.prior.mean[1:4]
    shapes = readout_shape(search.weight @ torch.linalg.inv(maps))
    np.testing.assert_allclose(shapes, np.tile(usual, (len(maps), 1)), atol=1e-2)
    np.testing.assert_allclose(shifts, np.tile(search.prior.mean[4:], (len(maps), 1)), rtol=1e-5)
    many = np.concatenate([first_candidates(search, start, seed)[2].numpy() for seed in range(60)])
    assert many.std() == pytest.approx(search.prior.covariance[0, 0] ** 0.5, rel=0.15)
    assert len(np.unique(embeddings)) == len(maps)


def test_the_embedding_is_as_unsure_as_its_curvature_says_and_as_other_candidates_differ(
    uneven_model, monkeypatch
):
    """Each candidate beside the best by its probability; of what the search ranked last."""
    _, _, counts = recorded(uneven_model, 0.2, 2)
    start, seen = initialise_sessions([counts], CONFIG, uneven_model.training)[0], []
    inner = search_settings.rank

    def noted(search, parts):
        loss, order = inner(search, parts)
        loss = loss.min() + 0.05 * (loss - loss.min())  # near enough for all to be probable
        seen.append((search, parts, loss))
        return loss, order

    monkeypatch.setattr(search_settings, "rank", noted)
    monkeypatch.setattr(search_settings, "ITERATIONS", 9)
    found = find_placement(uneven_model, start, counts)
    (_, tried, _), (search, parts, loss) = seen
    assert (len(tried[0]), len(parts[0])) == (16, 6)
    best = int(loss.argmin())
    probability = np.exp(-(loss - loss.min()).numpy())
    e = parts[2][:, 0].numpy()
    between = (probability / probability.sum() * (e - e[best]) ** 2).sum()
    of_curvature = laplace_variance(search, parts.select(slice(best, best + 1)))
    assert between > 0.1 * float(of_curvature)
    np.testing.assert_allclose(found.embedding_sd**2, between + of_curvature.numpy(), rtol=1e-4)
    np.testing.assert_allclose(found.embedding_mean, e[[best]], rtol=1e-6)
    np.testing.assert_allclose(found.map, parts[0][best], rtol=1e-6)
    np.testing.assert_allclose(
        found.offset, parts[1][best] + parts[0][best] @ search.latent_mean, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("bins", "steps"), [([60, 60, 60], 30), ([20, 60, 21], 10), ([3, 2, 2], 1)]
)
def test_rollouts_of_a_search_are_as_long_as_half_the_median_window_up_to_30_bins(
    uneven_model, bins, steps
):
    _, _, counts = recorded(uneven_model, 0.2, 3)
    start = initialise_sessions([counts], CONFIG, uneven_model.training)[0]
    ragged = replace(counts, windows=replace(counts.windows, n_bins=np.array(bins)))
    assert Search.of(uneven_model, start, ragged).steps == steps


def test_candidates_are_ranked_by_their_loss_over_all_rollouts_and_what_is_no_map_is_last(
    uneven_model,
):
    search, parts, _ = searched(uneven_model)
    parts = Candidates(
        torch.cat([torch.zeros(1, 2, 2), parts[0]]),
        *(torch.cat([part[:1], part]) for part in parts[1:]),
    )
    loss, order = rank(search, parts)
    where = search.all_origins()
    with torch.no_grad():
        expected = [
            float(search.loss(*(part[row : row + 1] for part in parts), where)) for row in (1, 2, 3)
        ]
    assert order.tolist() == [*(1 + np.argsort(expected)).tolist(), 0]
    np.testing.assert_allclose(loss[1:], expected, rtol=1e-4)


def test_a_candidate_that_is_no_map_is_told_and_changes_nothing_for_the_others(trained):
    _, _, counts = recorded(trained, 0.3, 2)
    search = Search.of(trained, initialise_sessions([counts], CONFIG, trained.training)[0], counts)
    where = search.random_origins(20, torch.Generator().manual_seed(0))
    maps, shift, embedding = (
        torch.eye(2).repeat(3, 1, 1),
        torch.zeros(3, 2),
        torch.tensor([[0.1], [0.2], [0.3]]),
    )
    maps[1] = 0.0
    parts = [part.clone().requires_grad_() for part in (maps, shift, embedding)]
    loss = search.loss(*parts, where)
    alone = search.loss(maps[::2], shift[::2], embedding[::2], where)
    torch.testing.assert_close(loss[::2], alone)
    assert loss[1].isnan()
    gradient = torch.autograd.grad(loss.sum(), parts)
    of_alone = torch.autograd.grad(search.loss(*parts, where)[::2].sum(), parts)
    for both, own in zip(gradient, of_alone, strict=True):
        torch.testing.assert_close(both[::2], own[::2])


def test_readout_shape_knows_no_rotation_among_units_and_gives_back_its_factor():
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 1, (30, 3))
    turned = orthogonal_maps(30, 1, rng)[0] @ weight
    one, other = (readout_shape(torch.tensor(each).float()).numpy() for each in (weight, turned))
    np.testing.assert_allclose(one, other, atol=1e-5)
    factor = factor_of(one, 3)
    np.testing.assert_allclose(factor @ factor.T, weight.T @ weight / 30, atol=1e-3)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_maps_that_are_tried_are_orthogonal_and_hold_mirror_images(dim):
    maps = orthogonal_maps(dim, 12, np.random.default_rng(0))
    np.testing.assert_allclose(maps @ maps.mT, np.broadcast_to(np.eye(dim), maps.shape), atol=1e-9)
    assert {-1, 1} == set(np.round(np.linalg.det(maps)).astype(int))


def test_the_mean_of_a_session_belongs_to_its_latents_where_baselines_are_alike_and_to_baselines_where_not(
    trained,
):
    _, _, counts = recorded(trained, 0.2, 1)
    start = initialise_sessions([counts], CONFIG, trained.training)[0]
    prior = learn_prior(trained, 1)
    alike = start.latents + latent_part_of_mean(start, replace(prior, baseline_var=1e-9))
    uncentred = counts.counts @ np.linalg.pinv(start.weight).T
    np.testing.assert_allclose(alike, uncentred, atol=1e-4)
    assert np.abs(latent_part_of_mean(start, replace(prior, baseline_var=1e9))).max() < 1e-6


def test_windows_of_one_bin_are_refused(trained):
    _, _, counts = recorded(trained, 0.2, 2)
    short = replace(counts, counts=counts.counts[:, :1], observed=counts.observed[:, :1])
    short = replace(short, windows=replace(short.windows, n_bins=np.ones(2, int)))
    with pytest.raises(DataError, match="one bin"):
        find_placement(trained, initialise_sessions([short], CONFIG, trained.training)[0], short)
