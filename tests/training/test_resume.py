"""What a checkpoint keeps of a run comes back as it was, of parts of a run that the next steps do
not show."""

import copy

import pytest
import torch

from metadyn.model.build import build_model
from metadyn.model.trained import TrainedModel
from metadyn.records import SessionEntry
from metadyn.training.alignment.shared_latents import shared_latents_of
from metadyn.training.execution.batch import DeviceTrials
from metadyn.training.execution.checkpoint import load_model, pointed
from metadyn.training.execution.loop import Progress
from metadyn.training.execution.optim import optimiser_state
from metadyn.training.execution.resume import checkpointer, finish, put_best, resumed
from metadyn.training.execution.run_record import RunRecord
from metadyn.training.execution.step import take_step
from metadyn.training.task import make_task


@pytest.fixture
def run(uneven, small, short):
    """run() → a task of uneven sessions and the model that it trains."""

    def make():
        sessions, config, training = uneven(), small(), short()
        model = build_model(config, [counts.n_units for counts in sessions], seed=1)
        latents = [
            torch.randn(
                *counts.observed.shape, 2, generator=torch.Generator().manual_seed(0)
            ).numpy()
            for counts in sessions
        ]
        trials = DeviceTrials.of(sessions, torch.device("cpu"), latents)
        shared = shared_latents_of(
            sessions, latents, [model.likelihood.weight[row].detach().numpy() for row in range(3)]
        )
        entries = tuple(SessionEntry.of(counts) for counts in sessions)
        task = make_task(model, trials, trials, config, training, (10, 24))
        return task, TrainedModel(model, config, 0.02, entries, shared, training)

    return make


def weights_of(task):
    return {name: parameter.detach().clone() for name, parameter in task.parameters.items()}


@pytest.mark.parametrize("validated", [True, False])
def test_a_run_goes_on_with_the_step_size_the_best_and_the_history_that_it_had(
    run, tmp_path, validated
):
    """After a step back with half the step size; and before anything was validated."""
    task, trained = run()
    best = weights_of(task)
    take_step(task, 0, 1.0)
    take_step(task, 5, 0.25)
    known = {"best_score": 0.37, "best_step": 4, "best": best} if validated else {}
    history = [{"step": 4, "loss": 1.5, "forecast": 0.37}]
    progress = Progress(step=6, step_size=0.25, history=history, **known)
    checkpointer(task, trained, tmp_path, RunRecord({}, {}))(copy.deepcopy(progress))
    now, state = weights_of(task), optimiser_state(task.optimiser, task.parameters)
    other, _ = run()
    back = resumed(other, tmp_path)
    assert (back.step, back.step_size, back.best_score, back.best_step) == (
        6,
        0.25,
        progress.best_score,
        progress.best_step,
    )
    assert back.history == history
    assert back.best.keys() == progress.best.keys()
    for found, kept in ((back.best, progress.best), (weights_of(other), now)):
        assert all(torch.equal(found[name], value) for name, value in kept.items())
    again = optimiser_state(other.optimiser, other.parameters)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], value) for name, value in state.items())


def test_best_names_the_last_checkpoint_that_was_the_best_and_latest_the_last(run, tmp_path):
    """What the model is after the last step is not what it was at its best; a finished run is named
    by its best step."""
    task, trained = run()
    save, best = checkpointer(task, trained, tmp_path, RunRecord({}, {})), {}
    for step, best_step in ((2, 2), (4, 4), (6, 4), (8, 4)):
        take_step(task, 4 + step, 1.0)
        best = weights_of(task) if best_step == step else best
        save(Progress(step=step, best_score=1.0, best_step=best_step, best=best))
    assert (pointed(tmp_path, "best").name, pointed(tmp_path, "latest").name) == (
        "step-000004",
        "step-000008",
    )
    loaded = load_model(tmp_path).module.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in best.items())
    progress = Progress(step=8, best_score=1.0, best_step=4, best=best)
    put_best(task, progress)
    finish(trained, tmp_path, RunRecord({}, {}), progress)
    assert (pointed(tmp_path, "best").name, pointed(tmp_path, "latest").name) == (
        "step-000004-best",
        "step-000008",
    )
    loaded = load_model(tmp_path).module.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in best.items())
