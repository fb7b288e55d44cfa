"""A static objective, as a GPU has it: all steps of a stage are the same operations, and no number
of theirs is waited for.

On the `meta` device tensors have shapes and no numbers: what a GPU would have to be waited for is
an error there.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from metadyn.model.build import build_model
from metadyn.training.execution import batch
from metadyn.training.execution.batch import DeviceTrials, hide
from metadyn.training.execution.step import apply_step
from metadyn.training.initial.initialise import initialise_sessions
from metadyn.training.objective import Objectives
from metadyn.training.task import make_task

META = torch.device("meta")


class Recorded(TorchDispatchMode):
    """What is dispatched: operations, shapes and numbers; refuses what goes from one device to
    another."""

    def __init__(self):
        super().__init__()
        self.record = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result, given = function(*args, **(kwargs or {})), tree_leaves((args, kwargs))
        tensors = [
            each for each in [*given, *tree_leaves(result)] if isinstance(each, torch.Tensor)
        ]
        if {each.device for each in tensors} - {META}:
            raise AssertionError(
                f"{function} of tensors on {[str(each.device) for each in tensors]}"
            )
        told = [tuple(each.shape) if isinstance(each, torch.Tensor) else each for each in given]
        self.record.append(
            (str(function), [each for each in told if isinstance(each, tuple | int | float)])
        )
        return result


def recorded(task, step: int) -> list:
    """A step on the meta device, as it is captured: rate and weight in tensors."""
    numbers = torch.Generator().manual_seed(step)
    kl_weight = torch.empty((), device=META)
    for group in task.optimiser.param_groups:
        group["lr"] = torch.empty((), device=META)
    with Recorded() as mode:
        apply_step(task, step, numbers, kl_weight)
    return mode.record


@pytest.mark.parametrize(
    ("first", "model_options", "options"),
    [
        (1, {}, {"mask_scope": "session"}),
        (5, {}, {"multi_step": 0.5}),
        (5, {"likelihood": "gaussian", "pooling": "trial"}, {"masked": "sample", "tail_bins": 2}),
        (
            5,
            {"conditioning": "linear", "readin_dropout": 0.3, "shared_noise": True},
            {"masking": 0.0},
        ),
    ],
)
def test_steps_of_a_stage_are_the_same_operations_and_none_of_them_waits(
    simulated, small, short, first, model_options, options
):
    """Of pre-training, and of the ELBO behind its first step."""
    sessions, config, training = (
        simulated(),
        small(**model_options),
        short(optimiser="lamb", **options),
    )
    latents = [start.latents for start in initialise_sessions(sessions, config, training)]
    model = build_model(config, [counts.n_units for counts in sessions]).to(META)
    trials = DeviceTrials.of(sessions, META, latents)
    task = make_task(model, trials, trials, config, training, (3, 6))
    assert task.static
    apply_step(task, first, torch.Generator(), 0.0)  # makes the optimiser's state
    one, other = (recorded(task, step) for step in (first + 1, first + 2))
    assert len(one) > 500
    assert one == other


def test_a_step_that_is_not_static_looks_at_its_numbers(simulated, small, short):
    """The test above can fail."""
    sessions, config, training = simulated(), small(), short()
    model = build_model(config, [counts.n_units for counts in sessions]).to(META)
    objectives = Objectives(model, DeviceTrials.of(sessions, META), config, training, (10, 20))
    with pytest.raises(RuntimeError, match="meta"):
        objectives.negative_elbo(1, torch.Generator(), 1.0)


@pytest.mark.parametrize("scope", ["trial", "session"])
@pytest.mark.parametrize("stage", ["pretraining_loss", "negative_elbo"])
@pytest.mark.parametrize("seed", [1, 2])
def test_loss_and_gradients_do_not_depend_on_the_road(simulated, small, short, scope, stage, seed):
    """The same random numbers, as crops of one length draw them; tails and masks are of any."""
    sessions, config = simulated(), small()
    training = short(mask_scope=scope, multi_step=0.5, masking=0.4)
    latents = [start.latents for start in initialise_sessions(sessions, config, training)]
    model = build_model(config, [counts.n_units for counts in sessions])
    trials = DeviceTrials.of(sessions, torch.device("cpu"), latents)

    def gradients(static: bool) -> list[torch.Tensor]:
        objectives = Objectives(model, trials, config, training, (20, 20), static)
        loss, _ = getattr(objectives, stage)(3, torch.Generator().manual_seed(seed), 0.3)
        return [
            loss,
            *torch.autograd.grad(
                loss, model.parameters(), allow_unused=True, materialize_grads=True
            ),
        ]

    torch.testing.assert_close(gradients(True), gradients(False), rtol=1e-4, atol=1e-6)


def test_a_crop_in_a_wider_tensor_is_the_crop_and_nothing_behind_it(simulated):
    trials = DeviceTrials.of(simulated(), torch.device("cpu"))
    wide, crop = (
        trials.batch(4, width, torch.Generator().manual_seed(0), bins)
        for width, bins in ((20, torch.tensor(15)), (15, None))
    )
    assert torch.equal(wide.counts[:, :, :15], crop.counts)
    assert torch.equal(wide.observed[:, :, :15], crop.observed)
    assert torch.equal(wide.length, crop.length)
    assert not wide.observed[:, :, 15:].any()
    assert wide.counts.shape[2] == 20


def test_no_run_of_bins_from_the_dynamics_is_longer_than_was_said(simulated, monkeypatch):
    """Where runs are cut early enough to see it: of masking .4 after the second bin, before a tail
    of 3."""
    monkeypatch.setattr(batch, "RARE", 0.2)
    given = DeviceTrials.of(simulated(), torch.device("cpu")).batch(
        4, 24, torch.Generator().manual_seed(0)
    )
    options = {"tail_bins": 3, "masking": 0.4, "dropout": 0.0}
    cut, whole = (
        hide(given, **options, generator=torch.Generator().manual_seed(1), longest_tail=tail)[1]
        for tail in (3, None)
    )
    assert (cut.longest, whole.longest) == (5, None)
    for row, longer in zip(
        cut.forecast.flatten(0, 1).tolist(), whole.forecast.flatten(0, 1).tolist(), strict=True
    ):
        run = 0
        for time in range(21):
            run = run + 1 if longer[time] else 0
            assert row[time] == (0 < run <= 2)
    assert not torch.equal(cut.forecast, whole.forecast)
