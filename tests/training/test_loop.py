"""The training loop on a problem with a known answer: schedules, decay, the guard against NaN,
Ctrl-C."""

import os
import signal
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from metadyn.errors import TrainingError
from metadyn.model.build import build_model
from metadyn.model.ops.per_session import declarations
from metadyn.training.execution.loop import Progress, run, take_snapshot
from metadyn.training.execution.optim import make_optimiser, optimiser_state, restore_optimiser
from metadyn.training.execution.schedules import cosine, ramp
from metadyn.training.execution.step import Stage, Task


def bowl(steps=40, every=5, broken=lambda step, visit: False, static=False):
    """A task with its minimum at 3, whose loss is NaN where `broken(step, visits so far)` says
    so."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    visits = {}

    def objective(step, generator, kl_weight):
        visits[step] = visits.get(step, 0) + 1
        loss = ((module.weight - 3) ** 2).sum() + 0.01 * torch.randn((), generator=generator)
        return (loss * float("nan") if broken(step, visits[step]) else loss), {
            "term": torch.tensor(float(step))
        }

    def stage(name, first, n_steps, **options):
        return Stage(
            name=name,
            steps=n_steps,
            objective=lambda step, *given: objective(first + step, *given),
            learning_rate=lambda step: 0.1,
            kl_weight=lambda step: 1.0,
            **options,
        )

    parameters = dict(module.named_parameters())
    return Task(
        module=module,
        parameters=parameters,
        optimiser=make_optimiser(parameters, 0.1, 0.0),
        stages=(
            stage("pretrain", 0, min(steps, 10), chooses_best=False),
            stage("elbo", 10, max(steps - 10, 0)),
        ),
        validate=lambda: {"score": -float((module.weight.detach() - 3) ** 2)},
        clip=1e9,
        every=every,
        seed=0,
        static=static,
    )


def with_objectives(task, wrap):
    """The same task, `wrap` around the objective of each stage."""
    stages = [replace(stage, objective=wrap(stage.objective)) for stage in task.stages]
    return replace(task, stages=tuple(stages))


def test_a_run_reports_and_saves_at_its_intervals():
    task, reports, saved = bowl(), [], []
    progress = run(
        task, Progress(), report=reports.append, save=lambda progress: saved.append(progress.step)
    )
    assert saved == list(range(5, 41, 5))
    assert [each.step for each in reports] == list(range(5, 41, 5))
    assert [each.stage for each in reports] == ["pretrain"] * 2 + ["elbo"] * 6
    assert reports[-1].seconds_left == 0
    assert progress.step == 40
    assert [entry["step"] for entry in progress.history] == saved


def test_the_best_weights_are_kept_and_none_of_the_first_stage():
    scores = iter([9.0, 8.0, 1.0, 3.0, 2.0, 0.0, 0.5, 0.1])
    task, seen = bowl(), []
    task = replace(
        task,
        validate=lambda: (
            seen.append(task.module.weight.detach().clone()) or {"score": next(scores)}
        ),
    )
    progress = run(task, Progress(), report=lambda _: None, save=lambda _: None)
    assert (progress.best_step, progress.best_score) == (20, 3.0)
    assert torch.equal(progress.best["weight"], seen[3])


@pytest.mark.parametrize(("static", "every"), [(False, 5), (True, 5), (True, 20)])
def test_one_nan_restores_the_last_good_state_with_half_the_step(static, every):
    """Also where it is seen some steps later."""
    visited, reports, good = [], [], {}

    def broken(step, visit):
        visited.append(step)
        return step == 22 and visit == 1

    task = bowl(every=every, broken=broken, static=static)
    inner = task.validate
    task = replace(
        task, validate=lambda: good.setdefault(len(good), take_snapshot(task, 0)) and inner()
    )
    weights = []

    def report(step_report):
        reports.append(step_report)
        if step_report.message:
            weights.append(task.module.weight.detach().clone())

    progress = run(task, Progress(), report=report, save=lambda _: None)
    messages = [each.message for each in reports if each.message]
    assert len(messages) == 1
    assert "step 22" in messages[0]
    assert "step 20" in messages[0]
    assert "0.5" in messages[0]
    assert torch.equal(weights[0], good[20 // every - 1].weights["weight"])
    assert (progress.step_size, progress.step) == (0.5, 40)
    assert visited[-20:] == list(range(20, 40))  # all steps since then are taken again
    assert abs(float(task.module.weight.detach()) - 3) < 1


@pytest.mark.parametrize("static", [False, True])
def test_an_infinite_gradient_changes_no_weight(static):
    task = bowl(steps=3, static=static)
    task = with_objectives(
        task,
        lambda inner: lambda *given: (inner(*given)[0] + task.module.weight.sum() ** 0.5, {}),
    )
    with pytest.raises(TrainingError):  # the root's slope at zero is infinite
        run(task, Progress(), report=lambda _: None, save=lambda _: None)
    assert float(task.module.weight.detach()) == 0


@pytest.mark.parametrize("static", [False, True])
def test_nan_that_does_not_go_away_ends_in_an_error_that_says_what_to_try(static):
    task, reports = bowl(broken=lambda step, visit: step == 12, static=static), []
    with pytest.raises(TrainingError, match=r"step 12(?s:.*)training.learning_rate"):
        run(task, Progress(), report=reports.append, save=lambda _: None)
    sizes = [each.message.rpartition(" * ")[2] for each in reports if each.message]
    assert sizes == [f"{0.5**halved:g}" for halved in range(1, 9)]  # eight times half the step size


@pytest.mark.parametrize("static", [False, True])
def test_ctrl_c_saves_and_then_comes_out(static):
    task, saved = bowl(every=20, static=static), []

    def report(step_report):
        if step_report.step == 10:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(task, Progress(), report=report, save=lambda progress: saved.append(progress.step))
    assert saved == [10]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("times", "kept"), [(1, [8]), (2, [])])
def test_one_signal_waits_for_the_step_and_a_save_and_a_second_comes_out_at_once(
    number, times, kept
):
    task, saved = bowl(every=20), []

    def interrupted(inner):
        def objective(step, generator, kl_weight):
            for _ in range(times * (step == 7)):
                os.kill(os.getpid(), number)
            return inner(step, generator, kl_weight)

        return objective

    with pytest.raises(KeyboardInterrupt):
        run(
            with_objectives(task, interrupted),
            Progress(),
            report=lambda _: None,
            save=lambda each: saved.append(each.step),
        )
    assert saved == kept


def test_metrics_of_a_static_task_are_read_when_they_are_reported_and_the_same():
    """A run whose metrics are not read in between ends where the other does, and reports the same
    losses."""
    ends = []
    for static in (False, True):
        task, reports = bowl(every=20, static=static), []
        progress = run(task, Progress(), report=reports.append, save=lambda _: None)
        ends.append(
            (
                task.module.weight.item(),
                progress.history,
                [(each.step, each.terms) for each in reports],
            )
        )
    assert ends[0] == ends[1]
    assert [step for step, _ in ends[0][2]] == [10, 20, 30, 40]


def test_numbers_of_a_step_follow_from_seed_and_step_alone():
    """A run in two halves, with another optimiser object between them, ends with the same
    weights."""
    whole, halves = bowl(), bowl(steps=20)
    run(whole, Progress(), report=lambda _: None, save=lambda _: None)
    progress = run(halves, Progress(), report=lambda _: None, save=lambda _: None)
    torch.manual_seed(123)
    first, last = halves.stages
    second = replace(
        halves,
        stages=(first, replace(last, steps=30)),
        optimiser=make_optimiser(halves.parameters, 0.1, 0.0),
    )
    restore_optimiser(
        second.optimiser, second.parameters, optimiser_state(halves.optimiser, halves.parameters)
    )
    run(second, progress, report=lambda _: None, save=lambda _: None)
    assert torch.equal(whole.module.weight, halves.module.weight)


def test_weight_decay_spares_readout_noise_prior_and_biases(small):
    """With zero gradients only decay moves weights."""
    model = build_model(small(likelihood="gaussian"), [4, 5])
    parameters = dict(model.named_parameters())
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    optimiser = make_optimiser(parameters, 0.1, 0.5, declared=declarations(model))
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    moved = {name for name, value in before.items() if not torch.equal(parameters[name], value)}
    assert moved == {
        *(
            "readin.weight_in",
            "readin.weight_out",
            "dynamics.flow.first.weight",
            "dynamics.flow.hidden.weight",
            "dynamics.flow.output.weight",
        ),
        *(f"dynamics.conditioning.hyper.{layer}.weight" for layer in (0, 2, 4)),
        *(f"embedding_encoder.gru.weight_{part}_l0" for part in ("ih", "hh")),
        *(
            f"latent_encoder.{way}_gru.weight_{part}_l0"
            for way in ("forward", "backward")
            for part in ("ih", "hh")
        ),
        *("embedding_encoder.head.weight", "latent_encoder.head.weight"),
    }
    torch.testing.assert_close(
        parameters["dynamics.flow.first.weight"],
        before["dynamics.flow.first.weight"] * (1 - 0.1 * 0.5),
    )


def test_cosine_falls_from_one_to_zero():
    values = [cosine(step, 100) for step in range(101)]
    assert values[0] == 1
    assert values[50] == pytest.approx(0.5)
    assert values[100] == pytest.approx(0, abs=1e-12)
    assert all(later < earlier for earlier, later in pairwise(values))


def test_ramp_rises_to_one_over_its_length_and_stays():
    assert [ramp(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert ramp(0, 0) == 1.0


def numbers_of(seed: int, steps: int) -> list[int]:
    """A random number from each step of a run of that seed."""
    task, drawn = bowl(steps=steps, every=steps), []

    def noted(inner):
        def objective(step, generator, kl_weight):
            drawn.append(int(torch.randint(2**62, (), generator=generator)))
            return inner(step, generator, kl_weight)

        return objective

    run(
        replace(with_objectives(task, noted), seed=seed),
        Progress(),
        report=lambda _: None,
        save=lambda _: None,
    )
    return drawn


def test_of_equal_scores_the_later_weights_are_kept():
    task, scores = bowl(), iter([0.0, 0.0, 1.0, 2.0, 2.0, 1.0, 2.0, 0.5])
    task = replace(task, validate=lambda: {"score": next(scores)})
    progress = run(task, Progress(), report=lambda _: None, save=lambda _: None)
    assert (progress.best_step, progress.best_score) == (35, 2.0)


def test_scores_of_a_validation_are_added_up():
    """The best is that of the best sum, not of the best of either."""
    hidden, ahead = iter([0, 0, 5, 0, 3, 0, 0, 0]), iter([0, 0, -9, 4, 3, 0, 0, 0])
    task = replace(
        bowl(),
        validate=lambda: {"hidden_entries": float(next(hidden)), "forecast": float(next(ahead))},
    )
    progress = run(task, Progress(), report=lambda _: None, save=lambda _: None)
    assert (progress.best_step, progress.best_score) == (25, 6.0)


def test_the_time_left_is_that_of_the_steps_left_at_the_rate_so_far(monkeypatch):
    """A clock that goes on by 2 s a step, in a run that begins at step 8 of 40."""
    task, reports, clock = bowl(), [], {"seconds": 100.0}

    def slow(inner):
        def objective(*given):
            clock["seconds"] += 2.0
            return inner(*given)

        return objective

    monkeypatch.setattr("metadyn.training.execution.loop.time.monotonic", lambda: clock["seconds"])
    run(
        with_objectives(task, slow),
        Progress(step=8),
        report=reports.append,
        save=lambda _: None,
    )
    for each in reports:
        assert each.steps_per_second == pytest.approx(0.5)
        assert each.seconds_left == pytest.approx(2.0 * (40 - each.step))


def test_step_sizes_scale_the_learning_rate_of_a_step():
    """Adam's first step is as long as its rate."""
    for step_size in (1.0, 0.25):
        task = bowl(steps=1)
        run(task, Progress(step_size=step_size), report=lambda _: None, save=lambda _: None)
        assert float(task.module.weight.detach()) == pytest.approx(0.1 * step_size, rel=1e-4)


def test_no_two_steps_of_a_run_and_no_two_runs_of_other_seeds_have_the_same_numbers():
    drawn = [number for seed in (0, 1, 7) for number in numbers_of(seed, 40)]
    assert len(set(drawn)) == len(drawn) == 120


@pytest.mark.parametrize("static", [False, True])
def test_a_run_whose_first_steps_are_not_finite_goes_on_as_if_they_had_not_been(static):
    """Also the optimiser, which had no state yet: the run ends where one of half the step size does
    from the start."""
    broken, sound = (
        bowl(broken=lambda step, visit: step == 1 and visit == 1, static=static),
        bowl(static=static),
    )
    progress = run(broken, Progress(), report=lambda _: None, save=lambda _: None)
    run(sound, Progress(step_size=0.5), report=lambda _: None, save=lambda _: None)
    assert (progress.step_size, progress.step) == (0.5, 40)
    assert torch.equal(broken.module.weight, sound.module.weight)
