"""Fits of tiny simulated sessions: better than the mean rate, refusals, what lies on disk,
interruptions and kills."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from metadyn.config import ModelConfig, check_config, load_config
from metadyn.errors import DataError, DeviceError, TrainingError
from metadyn.inference.infer import infer
from metadyn.model.build import build_model
from metadyn.training.calibrate import calibrated
from metadyn.training.execution.checkpoint import load_model, pointed, read_state, save_model
from metadyn.training.execution.loop import Progress
from metadyn.training.fit import fit
from metadyn.training.networks import SEED_SPACING
from metadyn.training.sessions import split_sessions

FILES = {"model.safetensors", "state.safetensors", "config.toml", "metrics.json"}


def weights(trained):
    return trained.module.state_dict()


def assert_equal_weights(one, other):
    for name, value in weights(one).items():
        assert torch.equal(value, weights(other)[name]), name


def test_a_short_fit_forecasts_better_than_the_mean_rate(simulated, small, short):
    """Three cycles of 2 to 5 rad a unit of time, spikes at 15 to 40 Hz: bits per spike above 0 on
    trials not trained on."""
    sessions = simulated(
        parameters=[2.0, 3.5, 5.0], n_trials=24, n_bins=50, units=(15, 20), bin_width=0.05
    )
    reports = []
    fit(
        sessions,
        small(hidden=(16, 16)),
        short(pretrain_steps=80, steps=60, kl_ramp=30, validate_every=70),
        report=reports.append,
    )
    last = [each for each in reports if each.stage == "elbo"][-1]
    scores = last.validation
    assert scores["forecast"] > 0.01
    assert scores["hidden_entries"] > 0.01
    assert {
        "log_likelihood",
        "kl_latent",
        "kl_initial",
        "kl_embedding",
        "weight_change",
        "loss",
    } <= set(last.terms)


@pytest.mark.parametrize("labelled", [False, True])
def test_whatever_a_fit_does_is_reported_session_by_session(simulated, small, short, labelled):
    """Each stage from nothing done to all done, in order: none of what runs before and after the
    steps is silent."""
    said, sessions = [], simulated()[:2]
    if labelled:  # which start together, by a regression and another one
        sessions = [
            replace(each, condition=np.array(["left", "right"])[np.arange(each.n_trials) % 2])
            for each in sessions
        ]
    fit(sessions, small(), short(pretrain_steps=2, steps=2, validate_every=2), report=said.append)
    stages = [(each.stage, each.step, each.steps) for each in said]
    before = [("start", done, 2) for done in range(3)] * (1 + labelled)
    after = [(stage, done, 2) for stage in ("embed", "frame", "calibrate") for done in range(3)]
    assert stages == [*before, ("pretrain", 2, 4), ("elbo", 4, 4), *after]


@pytest.mark.parametrize(
    "options",
    [
        {"likelihood": "gaussian"},
        {"conditioning": "shared"},
        {"conditioning": "linear"},
        {"conditioning": "embedding_input", "residual": True},
        {"pooling": "trial"},
        {"pooling": "product"},
        {"latent_dim": 3},
        {"link": "softplus"},
        {"changed_layers": ("output",), "rank": 2},
        {"shared_noise": True},
        {"detach_embedding": True},
    ],
)
def test_every_variant_trains(simulated, small, short, options):
    trained = fit(simulated(), small(**options), short(pretrain_steps=2, steps=2))
    assert all(torch.isfinite(value).all() for value in weights(trained).values())
    assert infer(trained, simulated()[0])["latent_mean"].notnull().all()


@pytest.mark.parametrize(
    "options",
    [
        {"optimiser": "lamb"},
        {"masked": "sample", "mask_scope": "session", "masked_kl": True},
        {"multi_step": 0.5},
        {"warm_start": False, "pretrain_steps": 0},
    ],
)
def test_every_way_of_training_ends_elsewhere_than_the_usual_one(simulated, small, short, options):
    sessions = simulated()
    trained = fit(
        sessions,
        small(),
        short(**{"pretrain_steps": 2, "steps": 3, "validate_every": 5, **options}),
    )
    plain = fit(sessions, small(), short(**{"pretrain_steps": 2, "steps": 3, "validate_every": 5}))
    different = {
        name
        for name, value in weights(trained).items()
        if not torch.equal(value, weights(plain)[name])
    }
    assert {
        "dynamics.flow.first.weight",
        "log_q",
        "latent_encoder.head.weight",
        "likelihood.weight",
    } <= different
    assert all(torch.isfinite(value).all() for value in weights(trained).values())


def test_without_a_warm_start_only_the_moments_come_from_the_data(simulated, small, short):
    sessions, training = simulated(), short(warm_start=False, pretrain_steps=0, steps=0)
    trained = fit(sessions, small(), training)
    random = build_model(
        small(), [counts.n_units for counts in sessions], seed=training.seed
    ).state_dict()
    assert {
        name for name, value in weights(trained).items() if not torch.equal(value, random[name])
    } == {
        "readin.mean",
        "readin.sd",
    }
    rows = sessions[1].counts.reshape(-1, sessions[1].n_units)
    assert weights(trained)["readin.mean"][1, : rows.shape[1]].numpy() == pytest.approx(
        rows.mean(0), rel=0.2
    )


def test_a_run_with_lamb_and_dropout_interrupted_and_resumed_ends_as_in_one_go(
    tmp_path, simulated, small, short
):
    training = short(pretrain_steps=3, steps=9, optimiser="lamb")
    arguments = {"sessions": simulated(), "config": small(readin_dropout=0.5), "training": training}
    whole = fit(**arguments)
    interrupted_at(8, **arguments, folder=tmp_path)
    assert_equal_weights(whole, fit(**arguments, folder=tmp_path, resume=True))


def test_windows_of_many_lengths_with_gaps_train(simulated, small, short):
    rng = np.random.default_rng(0)
    sessions = []
    for counts in simulated():
        n_bins = rng.integers(1, 25, counts.n_trials)
        inside = np.arange(24) < n_bins[:, None]
        observed = inside & (rng.random(inside.shape) < 0.8)
        values = counts.counts * observed[..., None]
        sessions.append(
            replace(
                counts,
                counts=values,
                observed=observed,
                windows=replace(counts.windows, n_bins=n_bins),
            )
        )
    trained = fit(sessions, small(), short(crop_bins=(6, 40)))
    assert all(torch.isfinite(value).all() for value in weights(trained).values())


def test_two_sessions_of_one_key_are_refused(simulated, small, short):
    with pytest.raises(DataError, match=r"limit-cycle-00(?s:.*)metadyn fit"):
        fit([simulated()[0]] * 2, small(), short())


def test_sessions_that_cannot_train_are_refused(simulated, small, short):
    sessions = simulated()
    with pytest.raises(DataError, match="no session"):
        fit([], small(), short())
    with pytest.raises(DataError, match=r"one window(?s:.*)limit-cycle-00"):
        fit([sessions[0].select([0]), sessions[1]], small(), short())
    with pytest.raises(DataError, match=r"fewer units(?s:.*)1 units, 2 latents(?s:.*)latent_dim"):
        fit([sessions[0].select(units=[0])], small(), short())
    other = replace(sessions[1], windows=replace(sessions[1].windows, bin_width=0.01))
    with pytest.raises(DataError, match="binned differently"):
        fit([sessions[0], other], small(), short())


def test_by_default_there_are_no_more_latents_than_units(simulated, short):
    few = [
        counts.select(units=slice(5 - i)) for i, counts in enumerate(simulated())
    ]  # the smallest last
    trained = fit(few, ModelConfig(), short(pretrain_steps=2, steps=2))
    assert trained.config.latent_dim == 3
    assert infer(trained, few[1])["latent_mean"].shape == (8, 24, 3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error(simulated, small, short):
    with pytest.raises(DeviceError, match="device='cpu'"):
        fit(simulated(), small(), short(), device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
def test_a_fit_on_the_gpu_is_finite_and_infers_as_on_the_cpu(simulated, small, short):
    trained = fit(simulated(), small(), short(), device="cuda")
    assert all(torch.isfinite(value).all() for value in weights(trained).values())
    on_gpu = infer(trained, simulated()[0])
    on_cpu = infer(replace(trained, module=trained.module.cpu()), simulated()[0])
    np.testing.assert_allclose(on_gpu["latent_mean"], on_cpu["latent_mean"], atol=1e-3)


def test_a_checkpoint_is_four_files_and_pointers(tmp_path, simulated, small, short):
    model, training = small(), short()
    trained = fit(
        simulated(), model, training, folder=tmp_path, data={"where": None, "min_rate": 0.5}
    )
    for pointer in ("best", "latest"):
        assert {file.name for file in pointed(tmp_path, pointer).iterdir()} == FILES
    config = load_config(pointed(tmp_path, "latest") / "config.toml")
    assert (config.model, config.training, config.data.min_rate) == (model, training, 0.5)
    state, metrics = read_state(pointed(tmp_path, "latest"))
    assert (int(state["step"]), int(state["seed"]), metrics["step"]) == (12, 0, 12)
    assert [entry["step"] for entry in metrics["history"]] == [4, 8, 12]
    assert not list(tmp_path.glob(".*")), "nothing unfinished is left"
    assert_equal_weights(trained, load_model(tmp_path))
    check_config({"data": trained.data})


def test_a_saved_model_infers_the_same(tmp_path, simulated, small, short):
    trained = fit(simulated(), small(), short(pretrain_steps=2, steps=2))
    back = load_model(save_model(trained, tmp_path / "model"))
    one, other = infer(trained, simulated()[1]), infer(back, simulated()[1])
    assert one.identical(other)


def interrupted_at(step, **arguments):
    """A fit stopped by SIGINT when its report of `step` is due."""

    def report(step_report):
        if step_report.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(**arguments, report=report)


@pytest.mark.parametrize("step", [4, 10, 16])
def test_a_run_interrupted_and_resumed_ends_bit_for_bit_as_in_one_go(
    tmp_path, simulated, small, short, step
):
    """At 4 while pretraining, at 10 between two validations, at 16 in the middle of the ELBO."""
    arguments = {
        "sessions": simulated(),
        "config": small(),
        "training": short(pretrain_steps=6, steps=14),
    }
    whole = fit(**arguments, folder=tmp_path / "whole")
    interrupted_at(step, **arguments, folder=tmp_path / "halves")
    assert pointed(tmp_path / "halves", "latest").name == f"step-{step:06d}"
    torch.manual_seed(9)
    again = fit(**arguments, folder=tmp_path / "halves", resume=True)
    assert_equal_weights(whole, again)
    one, other = (pointed(tmp_path / name, "latest") for name in ("whole", "halves"))
    assert (one / "state.safetensors").read_bytes() == (other / "state.safetensors").read_bytes()
    np.testing.assert_array_equal(whole.shared_latents.latent_sd, again.shared_latents.latent_sd)


def test_an_interrupted_run_leaves_its_best_model_so_far(tmp_path, simulated, small, short):
    arguments = {
        "sessions": simulated(),
        "config": small(),
        "training": short(pretrain_steps=4, steps=40, validate_every=4),
    }
    interrupted_at(36, **arguments, folder=tmp_path)
    state, metrics = read_state(pointed(tmp_path, "latest"))
    best = dict(load_model(tmp_path).module.named_parameters())
    assert metrics["best_step"] > 4
    assert pointed(tmp_path, "best").name == f"step-{metrics['best_step']:06d}"
    for name, value in best.items():
        assert torch.equal(value, state[f"best/{name}"]), name


def test_a_run_of_other_settings_or_sessions_is_not_resumed(tmp_path, simulated, small, short):
    fit(simulated(), small(), short(), folder=tmp_path)
    with pytest.raises(TrainingError, match="other settings or files"):
        fit(simulated(), small(), short(learning_rate=0.1), folder=tmp_path, resume=True)
    others = [replace(counts, session=f"other-{counts.session}") for counts in simulated()]
    with pytest.raises(TrainingError, match="other settings or files"):
        fit(others, small(), short(), folder=tmp_path, resume=True)


def test_a_finished_run_resumed_is_the_same_model(tmp_path, simulated, small, short):
    trained = fit(simulated(), small(), short(), folder=tmp_path)
    assert_equal_weights(trained, fit(simulated(), small(), short(), folder=tmp_path, resume=True))


def test_a_run_killed_in_the_middle_leaves_a_checkpoint_that_resumes(
    tmp_path, simulated, small, short
):
    """kill −9 of a process that writes a checkpoint every step."""
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent("""
        import pickle, sys
        from pathlib import Path
        import torch
        from metadyn.training.fit import fit
        torch.set_num_threads(1)
        fit(**pickle.loads(Path(sys.argv[1]).read_bytes()), folder=Path(sys.argv[2]))
        """)
    )
    training = short(pretrain_steps=3, steps=600, validate_every=1)
    arguments = {"sessions": simulated(), "config": small(), "training": training}
    (tmp_path / "arguments").write_bytes(pickle.dumps(arguments))
    folder = tmp_path / "model"
    process = subprocess.Popen(
        [sys.executable, script, tmp_path / "arguments", folder], stderr=subprocess.PIPE
    )
    wait_for_step(folder, 8, process)
    process.kill()
    process.communicate()
    state, metrics = read_state(pointed(folder, "latest"))
    assert int(state["step"]) == metrics["step"] >= 8
    assert infer(load_model(folder), simulated()[0])["latent_mean"].notnull().all()
    steps = []
    first = metrics["step"]

    def report(step_report):
        steps.extend([step_report.step] * (step_report.stage in ("pretrain", "elbo")))
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(**arguments, folder=folder, resume=True, report=report)
    assert steps == [first + 1, first + 2, first + 3]


def wait_for_step(
    folder: Path, step: int, process: subprocess.Popen, seconds: float = 60.0
) -> None:
    began = time.monotonic()
    while time.monotonic() - began < seconds and process.poll() is None:
        latest = folder / "latest"
        if latest.exists() and int(latest.read_text().removeprefix("step-")) >= step:
            return
        time.sleep(0.02)
    process.kill()
    pytest.fail(process.communicate()[1].decode()[-2000:])


def test_of_several_initial_networks_that_with_the_best_forecasts_after_pretraining_goes_on(
    simulated, small, short, monkeypatch
):
    """Each fitted alone, and the best of them taken, is the second road."""
    sessions, told = simulated(), []
    training = short(pretrain_steps=6, steps=2, validate_every=6, pretrain_inits=3)
    chosen = fit(sessions, small(), training, report=told.append)
    alone = {}
    for seed in (training.seed + SEED_SPACING * place for place in range(3)):
        monkeypatch.setattr(
            "metadyn.training.networks.Initialiser.best_task",
            lambda initial, _, seed=seed: (initial.task(seed), Progress()),
        )
        reports = []
        trained = fit(sessions, small(), training, report=reports.append)
        pretrained = next(
            each.validation["forecast"] for each in reports if each.step == 6 and each.validation
        )
        alone[pretrained] = trained
    assert len(alone) == 3
    assert_equal_weights(chosen, alone[max(alone)])
    assert sum("initial networks" in (each.message or "") for each in told) == 3


def test_the_weights_of_the_best_validation_are_those_that_are_kept(
    tmp_path, uneven, small, short, monkeypatch
):
    """Scores that are given, the best of them in the middle: the weights that were scored then."""
    scores, scored = iter([0.9, 0.1, 0.7, 0.3, 0.5]), []

    def validate(model, *_):
        scored.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"hidden_entries": next(scores), "forecast": 0.0}

    monkeypatch.setattr("metadyn.training.task.validate", validate)
    trained = fit(
        uneven(), small(), short(pretrain_steps=2, steps=8, validate_every=2), folder=tmp_path
    )
    for name, value in weights(trained).items():
        assert torch.equal(value, scored[2][name]), name
    assert not torch.equal(scored[4]["log_q"], scored[2]["log_q"])
    assert_equal_weights(trained, load_model(tmp_path))


@pytest.mark.parametrize("fraction", [0.15, 0.5, 0.99])
def test_trials_that_choose_the_checkpoint_train_nothing(uneven, fraction):
    """Each trial is in one part; the second is the share asked for, with a trial at least in
    both."""
    parts = split_sessions(uneven(), fraction, seed=1)
    for counts, train, held_out in zip(uneven(), parts.train, parts.validation, strict=True):
        both = [*train.windows.trial_row, *held_out.windows.trial_row]
        assert sorted(both) == counts.windows.trial_row.tolist()
        assert held_out.n_trials == min(
            max(1, round(fraction * counts.n_trials)), counts.n_trials - 1
        )
        for part in (train, held_out):
            rows = np.searchsorted(counts.windows.trial_row, part.windows.trial_row)
            np.testing.assert_array_equal(part.counts, counts.counts[rows])
            np.testing.assert_array_equal(part.observed, counts.observed[rows])


def test_a_model_knows_as_trained_on_the_windows_that_did_not_choose_its_checkpoint(
    uneven, small, short
):
    sessions, training = uneven(), short(pretrain_steps=2, steps=2, validation_fraction=0.4)
    trained = fit(sessions, small(), training)
    parts = split_sessions(sessions, 0.4, training.seed)
    for entry, counts, seen, unseen in zip(
        trained.sessions, sessions, parts.train, parts.validation, strict=True
    ):
        assert entry.held_out(unseen).all()
        assert not entry.held_out(seen).any()
        assert entry.held_out(counts).sum() == unseen.n_trials > 0


def test_the_noise_of_forecasts_is_found_on_the_trials_that_chose_the_checkpoint(
    uneven, small, short
):
    """The trials that trained the dynamics would give other factors."""
    sessions, training = uneven(), short(pretrain_steps=2, steps=2, validation_fraction=0.4)
    trained = fit(sessions, small(), training)
    parts = split_sessions(sessions, 0.4, training.seed)
    anew = replace(
        trained, sessions=tuple(replace(each, noise_scale=1.0) for each in trained.sessions)
    )
    found, unseen, seen = (
        [each.noise_scale for each in model.sessions]
        for model in (trained, calibrated(anew, parts.validation), calibrated(anew, parts.train))
    )
    assert found == unseen
    assert found != seen
