"""Steps as CUDA graphs: they are the steps, none waits for the GPU, and a run survives NaN, a stop,
and a step that cannot be captured. `pytest -m gpu` runs what needs a GPU."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from metadyn.model.build import build_model
from metadyn.model.ops.weighted_log_prob import EntryWeights
from metadyn.training.execution.batch import DeviceTrials
from metadyn.training.execution.capture import WARM_UP, CapturedSteps, stepper
from metadyn.training.execution.loop import Progress, read_metrics, run
from metadyn.training.execution.step import take_step
from metadyn.training.fit import fit
from metadyn.training.initial.initialise import initialise_sessions
from metadyn.training.task import make_task

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use"),
]


@pytest.fixture
def made(simulated, small, short):
    """made(options) → a task on the GPU: 10 steps of pre-training, 30 of the ELBO; the same at each
    call."""

    def make(**options):
        training = short(**{"pretrain_steps": 10, "steps": 30, "validate_every": 20, **options})
        sessions, config = simulated(), small()
        latents = [start.latents for start in initialise_sessions(sessions, config, training)]
        model = build_model(config, [counts.n_units for counts in sessions], seed=0).to("cuda")
        trials = DeviceTrials.of(sessions, torch.device("cuda"), latents)
        return make_task(model, trials, trials, config, training, (12, 20))

    return make


def weights(parameters) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().cpu() for parameter in parameters])


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Within 1 % of their norm, as sums on a GPU are in no fixed order; a step of other random
    numbers moves them further."""
    return bool((one - other).norm() < 0.01 * other.norm())


@pytest.mark.parametrize("optimiser", ["adam", "lamb"])
def test_captured_steps_are_the_steps(made, optimiser):
    """Crops, tails, masks and noise of each step are those of its seed; rate and KL weight change
    from step to step."""
    plain, captured = (
        made(optimiser=optimiser, multi_step=0.5),
        made(optimiser=optimiser, multi_step=0.5),
    )
    take, losses = stepper(captured), []
    for step in range(10 + 2 * WARM_UP + 4):
        losses.append(
            [float(told["loss"]) for told in (take_step(plain, step, 0.5), take(step, 0.5))]
        )
    assert isinstance(take, CapturedSteps)
    assert all(graph is not None for graph in take.graphs.values())
    assert set(take.graphs) == {"pretrain", "elbo"}
    np.testing.assert_allclose(*np.transpose(losses), rtol=5e-3)
    assert same(weights(captured.parameters.values()), weights(plain.parameters.values()))
    assert len({loss for _, loss in losses}) == len(losses)


def test_no_step_waits_for_the_gpu(made):
    task = made()
    take, told = stepper(task), []
    for step in range(WARM_UP + 1):
        take(step, 1.0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        told = [take(step, 1.0) for step in range(WARM_UP + 1, 10)]
        told += [take_step(task, 11, 1.0)]  # one that is not captured
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert read_metrics(told[:-1])[1] is None


def test_a_run_goes_back_where_its_weights_are_no_numbers_and_ends_well(made):
    task, reports = made(), []

    def report(step_report):
        reports.append(step_report)
        if step_report.step == 30 and len(reports) == 3:
            with torch.no_grad():
                task.parameters["log_q"].fill_(float("nan"))

    progress = run(task, Progress(), report=report, save=lambda _: None)
    messages = [each.message for each in reports if each.message]
    assert len(messages) == 1
    assert "step 30: back to step 20" in messages[0]
    assert (progress.step, progress.step_size) == (40, 0.5)
    assert torch.isfinite(weights(task.parameters.values())).all()


def test_a_run_in_two_halves_is_one_run(simulated, small, short, tmp_path):
    options = {
        "sessions": simulated(),
        "config": small(),
        "training": short(pretrain_steps=10, steps=30),
        "device": "cuda",
    }
    whole = fit(**options)

    def stop(report):
        if report.step == 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(**options, folder=tmp_path, report=stop)
    again = fit(**options, folder=tmp_path, resume=True)
    assert same(weights(again.module.parameters()), weights(whole.module.parameters()))


def test_a_step_that_cannot_be_captured_says_why_and_is_taken(made):
    whole, task = made(), made()

    def waiting(inner):
        def objective(step, generator, kl_weight):
            loss, terms = inner(step, generator, kl_weight)
            return loss + 0 * loss.item(), terms

        return objective

    stages = [replace(stage, objective=waiting(stage.objective)) for stage in task.stages]
    task = replace(task, stages=tuple(stages))
    take, plain = stepper(task), stepper(whole)
    for step in range(WARM_UP):
        take(step, 1.0), plain(step, 1.0)
    with pytest.warns(UserWarning, match="not captured in a CUDA graph"):
        take(WARM_UP, 1.0)
    plain(WARM_UP, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(WARM_UP + 1, WARM_UP + 4):
            take(step, 1.0), plain(step, 1.0)
    assert same(weights(task.parameters.values()), weights(whole.parameters.values()))


def test_gradients_on_the_gpu_are_those_of_the_cpu_within_the_rounding_of_tf32(simulated, small):
    """Of products over units, and of the GRUs (docs/decisions/tf32.md); relative to the largest of
    each parameter."""
    sessions, config = simulated(n_bins=40, units=(30, 40)), small()
    found = []
    for device in ("cpu", "cuda"):
        model = build_model(config, [counts.n_units for counts in sessions], seed=0).to(device)
        trials = DeviceTrials.of(sessions, torch.device(device))
        counts, observed = trials.counts.float(), trials.observed
        features = model.readin(counts, trials.session)
        z = model.latents(features, features.new_zeros(*features.shape[:2], 1), trials.n_bins).mean
        weight = EntryWeights(observed.float(), trials.units[:, None, None])
        (model.likelihood.score(z, trials.session, counts, weight) / weight.sum()).backward()
        found.append(
            {
                name: each.grad.cpu()
                for name, each in model.named_parameters()
                if each.grad is not None
            }
        )
    assert len(found[0]) > 10
    for name, expected in found[0].items():
        assert (found[1][name] - expected).abs().max() <= 0.02 * expected.abs().max(), name
