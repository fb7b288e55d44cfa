"""What a step must compute and move, against what torch counts while a step is taken."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import step
from benchmarks.floor import FLOAT, Peak, Size, floor, measured_peak, moved, operations
from metadyn.config import ModelConfig, TrainingConfig
from metadyn.data.synthetic import as_counts, simulate
from metadyn.model.build import build_model
from metadyn.model.ops import kernels
from metadyn.training.execution.batch import DeviceTrials
from metadyn.training.execution.step import take_step
from metadyn.training.task import make_task

SIZE = Size([40] * 3, trials=8, bins=24, masking=0.2)


@pytest.fixture
def task(monkeypatch):
    """Whole windows of sessions of one number of units, so that nothing is padded; all by torch,
    which counts products."""
    monkeypatch.setattr(kernels, "kernels", lambda: None)
    options = {
        "n_sessions": 3,
        "units": (40, 40),
        "n_trials": 8,
        "n_bins": 24,
        "rate_range": (15.0, 40.0),
        "seed": 0,
    }
    sessions = [as_counts(each) for each in simulate("limit-cycle", **options)]
    training = TrainingConfig(
        pretrain_steps=0,
        tail_bins=0,
        masking=SIZE.masking,
        coordinated_dropout=0.0,
        trials_per_session=8,
    )
    model = build_model(ModelConfig(), SIZE.n_units)
    trials = DeviceTrials.of(sessions, torch.device("cpu"))
    return make_task(model, trials, trials, ModelConfig(), training, (24, 24))


def test_a_step_computes_what_it_must_and_little_more(task):
    with FlopCounterMode(display=False) as counter:
        take_step(task, 0, 1.0)
    must = operations(SIZE, task.module)
    assert must < counter.get_total_flops() < 1.25 * must


def test_a_step_keeps_what_it_must(task):
    """For its backward pass, beside which weights are moved eight times."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss, _ = task.stage(0).objective(0, torch.Generator().manual_seed(0), 1.0)
    weights = FLOAT * sum(each.numel() for each in task.parameters.values())
    must = moved(SIZE, task.module) - 8 * weights - SIZE.entries
    assert loss.requires_grad
    assert 0 < must / 2 < sum(kept.values())


def test_the_floor_is_the_slower_of_computing_and_moving(task):
    computing, moving = (
        floor(SIZE, task.module, peak, 1.0) for peak in (Peak(1e9, 1e15), Peak(1e15, 1e6))
    )
    assert computing["floor_s"] == pytest.approx(operations(SIZE, task.module) / 1e9, abs=1e-7)
    assert moving["floor_s"] == pytest.approx(moved(SIZE, task.module) / 1e6, abs=1e-7)
    assert computing["dependent_steps"] == 2 * (24 + 24 + 13)


def test_the_benchmark_of_steps_tells_how_far_they_are_from_the_floor(monkeypatch):
    cpu, memory = torch.device("cpu"), {"ours": 1.0, "reference": 1.0}
    monkeypatch.setattr(step, "QUICK_REPEATS", 1)
    figures = step.measure("synthetic-2", cpu, True, memory, measured_peak(cpu, lambda: None))
    assert figures["floor"]["gap"] == pytest.approx(
        figures["ours_s"] / figures["floor"]["floor_s"], rel=0.05
    )
    assert figures["floor"]["gap"] > 1
    assert figures["ratio"] > 1
