"""Alignment: the new session gets weights of its own, and nothing that was there before changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metadyn.config import AlignConfig
from metadyn.errors import DataError, ModelFileError
from metadyn.inference.forecast import forecast, sample_context
from metadyn.inference.infer import infer
from metadyn.training.alignment import placement as search_settings
from metadyn.training.alignment.align import align, choose_steps
from metadyn.training.alignment.initialise import analytic_init
from metadyn.training.calibrate import FORECAST_SAMPLES, surprise
from metadyn.training.execution.checkpoint import load_model, save_model
from metadyn.training.fit import fit
from metadyn.training.initial.conditions import init_by_regression

SPECIFIC = ("readin.", "likelihood.", "log_q")
STEPS = AlignConfig(steps=3)


@pytest.fixture(autouse=True, scope="module")
def short_search():
    """A search that is over soon: these tests ask what alignment changes, not how well it places a
    session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_settings, "ITERATIONS", 6)
        patch.setattr(search_settings, "N_CANDIDATES", 4)
        yield


@pytest.fixture(scope="module")
def sessions(simulated):
    """Two to train on and a third of more units than both."""
    return [
        *simulated(n_sessions=2, units=(5, 8)),
        *simulated(parameters=[2.5], units=(11, 11), seed=5),
    ]


@pytest.fixture(scope="module")
def trained(sessions, small, short):
    return fit(sessions[:2], small(), short())


@pytest.fixture(scope="module")
def new(sessions):
    return sessions[2].select(session="new")


def test_what_sessions_share_is_bit_for_bit_the_same(trained, new):
    before = {name: value.clone() for name, value in trained.module.state_dict().items()}
    after = align(trained, new, STEPS).module.state_dict()
    for name, value in before.items():
        assert torch.equal(trained.module.state_dict()[name], value), (
            f"{name} of the model given has changed"
        )
        if not name.startswith(SPECIFIC):
            assert torch.equal(after[name], value), name


def test_the_weights_of_old_sessions_are_bit_for_bit_the_same(trained, new):
    after = align(trained, new, STEPS).module.state_dict()
    for name, value in trained.module.state_dict().items():
        if name.startswith(SPECIFIC):
            assert torch.equal(after[name][tuple(slice(size) for size in value.shape)], value), name


def test_old_sessions_infer_as_before(trained, new, sessions):
    extended = align(trained, new, STEPS)
    for counts in sessions[:2]:
        before, after = infer(trained, counts), infer(extended, counts)
        for name in before:
            np.testing.assert_allclose(
                after[name], before[name], rtol=1e-5, atol=1e-6, err_msg=name
            )


@pytest.mark.parametrize("trials", [1, 2, 8])
def test_a_new_session_is_inferred_and_forecast_from_few_trials(trained, new, trials):
    extended = align(trained, new.select(slice(trials)), STEPS)
    assert [entry.key for entry in extended.sessions] == ["limit-cycle-00", "limit-cycle-01", "new"]
    assert infer(extended, new)["rate_mean"].shape == (8, 24, 11)
    assert infer(extended, new)["rate_mean"].notnull().all()
    assert forecast(extended, new, context=10, steps=5)["rate_mean"].notnull().all()


def test_a_session_of_fewer_units_is_aligned(trained, new):
    extended = align(trained, new.select(units=slice(3)), STEPS)
    assert infer(extended, new.select(units=slice(3)))["rate_mean"].notnull().all()


def test_steps_train_the_new_session_alone(trained, new):
    none, some = (
        align(trained, new, AlignConfig(steps=steps)).module.state_dict() for steps in (0, 4)
    )
    changed = {name for name in none if not torch.equal(none[name], some[name])}
    assert changed
    assert all(name.startswith(SPECIFIC) for name in changed)
    for name in changed:
        assert torch.equal(none[name][:2], some[name][:2]), name


def test_without_steps_given_validation_chooses(trained, new):
    extended = align(trained, new, AlignConfig(max_steps=3))
    assert infer(extended, new)["latent_mean"].notnull().all()


@pytest.mark.parametrize(
    ("scores", "best"),
    [([0.1, 0.3, 0.9, 0.2], 50), ([0.5, 0.3, 0.2, 0.4], 0), ([0.1, 0.2, 0.3, 0.4], 75)],
)
def test_as_many_steps_are_taken_as_score_best_on_trials_kept_aside_which_may_be_none(
    trained, new, monkeypatch, scores, best
):
    """The start and every 25 steps are scored, on a quarter of the trials that trained nothing."""
    given, seen = iter(scores), []

    def validate(model, trials, *_):
        seen.append(trials.n_trials.tolist())
        return {"hidden_entries": 0.0, "forecast": next(given)}

    monkeypatch.setattr("metadyn.training.task.validate", validate)
    training = trained.training.model_copy(
        update={
            "pretrain_steps": 0,
            "kl_ramp": 0,
            "validate_every": 25,
            "steps": 75,
            "learning_rate": 0.003,
        }
    )
    assert choose_steps(trained, new, training, lambda _: None) == best
    assert seen == [[2]] * 4  # of 8 trials
    assert choose_steps(trained, new.select(slice(3)), training, lambda _: None) == 0


def test_a_larger_session_makes_room_in_which_the_others_padding_means_nothing(trained, new):
    extended = align(trained, new, AlignConfig(steps=0)).module.state_dict()
    old = trained.module.state_dict()
    for row, units in enumerate((5, 8)):
        units = int((old["readin.mean"][row] != 0).sum())
        for name in ("readin.mean", "readin.weight_in", "likelihood.weight", "likelihood.bias"):
            assert torch.equal(extended[name][row, :units], old[name][row, :units]), name
            assert not extended[name][row, old[name].shape[1] :].any(), name
        assert (extended["readin.sd"][row, units:] == 1).all()


def test_alignment_takes_the_rate_that_it_was_given(trained, new):
    """Adam's first step moves a bias by the rate."""
    before, after = (
        align(trained, new, AlignConfig(steps=n, learning_rate=0.02)).module.state_dict()
        for n in (0, 1)
    )
    moved = (after["likelihood.bias"][2] - before["likelihood.bias"][2]).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.02), rtol=1e-2, atol=0)


def test_alignment_goes_on_the_elbo_at_once_with_the_full_weight_of_its_kl_terms(
    trained, new, monkeypatch
):
    """Whatever schedule the model was trained with: it ramped, pretrained and may have used LAMB."""
    tasks = []
    monkeypatch.setattr(
        "metadyn.training.alignment.align.run", lambda task, progress, **_: tasks.append(task)
    )
    of_lamb = replace(
        trained,
        training=trained.training.model_copy(update={"optimiser": "lamb", "kl_weight": 0.37}),
    )
    align(of_lamb, new, AlignConfig(steps=7, learning_rate=0.02, seed=3))
    (task,) = tasks
    assert [task.kl_weight(step) for step in (0, 6)] == [0.37, 0.37]
    assert {task.stage(step).name for step in range(7)} == {"elbo"}
    assert (task.steps, task.learning_rate(0), task.seed) == (7, 0.02, 3)
    assert type(task.optimiser) is torch.optim.AdamW


def test_an_aligned_model_is_saved_and_loaded(tmp_path, trained, new):
    extended = align(trained, new, STEPS)
    back = load_model(save_model(extended, tmp_path))
    assert infer(back, new).identical(infer(extended, new))
    assert back.sessions == extended.sessions


def test_alignment_is_the_same_for_the_same_seed(trained, new):
    one, other = (align(trained, new, STEPS).module.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "options",
    [
        {"likelihood": "gaussian"},
        {"conditioning": "shared"},
        {"conditioning": "linear"},
        {"conditioning": "embedding_input", "residual": True},
        {"pooling": "product"},
        {"latent_dim": 1},
        {"latent_dim": 3},
        {"link": "softplus"},
        {"changed_layers": ("output",)},
        {"shared_noise": True},
    ],
)
def test_every_variant_aligns(sessions, new, small, short, options):
    extended = align(
        fit(sessions[:2], small(**options), short(pretrain_steps=2, steps=2)), new, STEPS
    )
    assert infer(extended, new)["rate_mean"].notnull().all()


def test_a_known_key_is_refused(trained, sessions):
    with pytest.raises(ModelFileError, match=r"limit-cycle-00(?s:.*)NAME=FILE"):
        align(trained, sessions[0], STEPS)


def test_other_bins_are_refused(trained, new):
    with pytest.raises(DataError, match=r"other bins(?s:.*)0\.01(?s:.*)0\.02"):
        align(trained, replace(new, windows=replace(new.windows, bin_width=0.01)), STEPS)


def test_condition_labels_place_a_new_session_in_the_frame(sessions, new, small, short):
    """Labels shared with the training sessions: the readout is a regression on their mean
    latents."""
    labelled = [
        replace(counts, condition=np.array(["left", "right"] * 4))
        for counts in [*sessions[:2], new]
    ]
    trained = fit(labelled[:2], small(), short())
    assert trained.shared_latents.labels == ("left", "right")
    assert trained.shared_latents.latents.shape == (2, 24, 2)
    extended = align(trained, labelled[2], STEPS)
    assert infer(extended, labelled[2])["rate_mean"].notnull().all()
    frame = trained.shared_latents
    expected = init_by_regression(
        frame.latents,
        list(frame.labels),
        labelled[2],
        frame.weight_var,
        trained.training.smoothing_bins,
    )
    at_start = align(trained, labelled[2], AlignConfig(steps=0)).module.likelihood
    np.testing.assert_allclose(at_start.weight[2].detach(), expected.weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(at_start.bias[2].detach(), expected.bias, rtol=1e-4, atol=1e-5)
    strangers = replace(labelled[2], condition=np.array(["up", "down"] * 4))
    with pytest.warns(
        UserWarning,
        match="none of the labels 'down', 'up'; it knows 'left', 'right'; it is placed by a search",
    ):
        aligned = align(trained, strangers, STEPS)
    assert infer(aligned, strangers)["rate_mean"].notnull().all()


def test_with_labels_and_a_softplus_the_first_rates_are_on_average_those_of_the_units(
    sessions, small, short
):
    """The mean of softplus(C z + D) over z ~ N(0, I), by sampling, beside the mean counts."""
    labels = np.array(["left", "right"] * 4)
    labelled = [replace(counts, condition=labels) for counts in sessions]
    trained = fit(labelled[:2], small(link="softplus"), short())
    init, placement = analytic_init(trained, labelled[2], lambda _: None)
    assert placement is None
    states = np.random.default_rng(0).normal(size=(20_000, 2))
    rates = np.logaddexp(0, states @ init.weight.T + init.bias).mean(0)
    np.testing.assert_allclose(rates, init.mean, rtol=0.03)


def test_labels_that_the_model_does_not_know_are_said_and_their_windows_place_nothing(
    sessions, new, small, short
):
    """Alignment as with these windows' labels empty is the second road."""
    labels = np.array(["left", "right"] * 4)
    trained = fit(
        [replace(counts, condition=labels) for counts in sessions[:2]],
        small(),
        short(pretrain_steps=1, steps=1),
    )
    partly, empty = (
        replace(new, condition=np.where(np.arange(8) < 3, other, labels)) for other in ("up", "")
    )
    with pytest.warns(
        UserWarning,
        match="does not know its labels 'up' .it knows 'left', 'right'.; their windows take no "
        "part",
    ):
        one = align(trained, partly, AlignConfig(steps=0)).module.state_dict()
    other = align(trained, empty, AlignConfig(steps=0)).module.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_model_whose_conditions_differ_in_length_is_kept_and_aligns_windows_of_any_length(
    tmp_path, sessions, new, small, short
):
    """Conditions of 24 and 10 bins: behind these the frame of the second is not known, also when
    loaded."""
    labels = np.array(["long", "short"] * 4)

    def uneven(counts, longest=24):
        n_bins = np.where(labels == "long", longest, 10)
        observed = np.arange(24) < n_bins[:, None]
        windows = replace(counts.windows, n_bins=n_bins)
        return replace(
            counts,
            counts=counts.counts * observed[..., None],
            observed=observed,
            windows=windows,
            condition=labels,
        )

    trained = fit(
        [uneven(counts) for counts in sessions[:2]], small(), short(pretrain_steps=1, steps=1)
    )
    back = load_model(save_model(trained, tmp_path))
    for model in (trained, back):
        assert np.isfinite(model.shared_latents.latents).all(-1).sum(1).tolist() == [24, 10]
    np.testing.assert_array_equal(
        back.shared_latents.latents, trained.shared_latents.latents.astype(np.float32)
    )
    for longest in (24, 15):
        aligned = align(back, uneven(new, longest), AlignConfig(steps=0))
        assert infer(aligned, uneven(new, longest))["rate_mean"].notnull().any()


def test_a_gaussian_session_is_not_placed_by_a_regression_of_spikes(sessions, new, small, short):
    """The regression on a frame is Poisson's; with a Gaussian likelihood labels leave the start as
    it is without them."""
    labelled = [
        replace(counts, condition=np.array(["left", "right"] * 4))
        for counts in [*sessions[:2], new]
    ]
    trained = fit(labelled[:2], small(likelihood="gaussian"), short(pretrain_steps=2, steps=2))
    with_labels, without = (
        align(trained, counts, AlignConfig(steps=0)).module.state_dict()
        for counts in (labelled[2], new)
    )
    assert all(torch.equal(with_labels[name], without[name]) for name in without)


def test_a_new_session_keeps_the_embedding_that_its_search_found_and_is_conditioned_by_it(
    trained, new
):
    extended = align(trained, new.select(slice(4)), STEPS)
    entry, inferred = extended.sessions[-1], infer(extended, new)
    np.testing.assert_allclose(inferred["session_embedding_mean"], entry.embedding_mean, rtol=1e-6)
    np.testing.assert_allclose(
        inferred["embedding_mean"], np.tile(entry.embedding_mean, (8, 1)), rtol=1e-6
    )
    assert not np.allclose(inferred["trial_embedding_mean"].mean("trial"), entry.embedding_mean)


def test_shared_process_noise_stays_as_it_was(sessions, new, small, short):
    trained = fit(sessions[:2], small(shared_noise=True), short(pretrain_steps=2, steps=2))
    assert torch.equal(align(trained, new, STEPS).module.log_q, trained.module.log_q)


def test_the_noise_of_forecasts_is_the_sessions_own_from_four_trials_on_and_the_others_mean_below(
    trained, new
):
    """The least surprising of a row of factors, each tried on the trials themselves, is the second
    road."""
    assert len({entry.noise_scale for entry in trained.sessions}) == 2
    few = align(trained, new.select(slice(3)), STEPS)
    first, second, third = (entry.noise_scale for entry in few.sessions)
    assert third == pytest.approx((first * second) ** 0.5)
    aligned = align(trained, new, STEPS)
    drawn = sample_context(aligned, new, 8, FORECAST_SAMPLES, seed=0)
    factors = 2.0 ** np.arange(-4, 2.25, 0.5)
    least = factors[np.argmin([surprise(aligned, new, drawn, 8, 16, factor) for factor in factors])]
    assert abs(np.log2(aligned.sessions[2].noise_scale / least)) <= 0.5
    assert [entry.noise_scale for entry in aligned.sessions[:2]] == [first, second]
