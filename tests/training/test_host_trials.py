"""A few of many sessions a step: its loss and its moves are those of a model of these sessions
alone; all others stay."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metadyn.model.build import build_model
from metadyn.model.ops.per_session import Declaration, declarations
from metadyn.training.execution.batch import DeviceTrials
from metadyn.training.execution.host_trials import HostTrials
from metadyn.training.execution.loop import take_snapshot
from metadyn.training.execution.optim import make_optimiser, optimiser_state
from metadyn.training.execution.step import take_step
from metadyn.training.fit import fit
from metadyn.training.initial.initialise import initialise_sessions, initialised_model
from metadyn.training.task import make_task
from metadyn.training.validation import validate

CPU = torch.device("cpu")


class Those(DeviceTrials):
    """Some sessions, which spend the random numbers of drawing them from five."""

    def batch(self, trials, crop_bins, generator):
        torch.randperm(5, generator=generator)
        return super().batch(trials, crop_bins, generator)


@pytest.fixture
def started(simulated, small):
    """started(training) → five sessions, the configuration, a model at its warm start, and the
    latents of that."""

    def start(training):
        sessions, config = simulated(n_sessions=5), small(readin_dropout=0.2)
        starts = initialise_sessions(sessions, config, training)
        return (
            sessions,
            config,
            initialised_model(sessions, starts, config, training),
            [each.latents for each in starts],
        )

    return start


def alone(model, n_units, rows, config):
    """A model of the sessions `rows`, with their weights."""
    few = build_model(config, [n_units[row] for row in rows])
    whole, state, declared = model.state_dict(), few.state_dict(), declarations(model)
    few.load_state_dict(
        {name: like(whole[name], value, rows, declared[name]) for name, value in state.items()}
    )
    return few


def like(value, other, rows, declared):
    """A weight of all sessions as one of `rows`, without the padding of larger sessions."""
    value = value[rows] if declared.per_session else value
    return value[tuple(slice(size) for size in other.shape)].clone()


@pytest.mark.parametrize("first", [0, 7], ids=["pretraining", "ELBO"])
@pytest.mark.parametrize("optimiser", ["adam", "lamb"])
def test_a_step_of_few_sessions_is_that_of_a_model_of_them(started, short, first, optimiser):
    training = short(pretrain_steps=6, optimiser=optimiser, learning_rate=0.01, clip=0.1)
    sessions, config, model, latents = started(training)
    pool = HostTrials(sessions, CPU, 2, latents)
    generator = torch.Generator().manual_seed(training.seed * 1_000_003 + first)
    torch.randint(24, 25, (), generator=generator)  # the length of the crops
    rows = sorted(torch.randperm(5, generator=generator)[:2].tolist())
    few = alone(model, [each.n_units for each in sessions], rows, config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    those = Those(
        **vars(
            DeviceTrials.of([sessions[row] for row in rows], CPU, [latents[row] for row in rows])
        )
    )
    told, expected = (
        take_step(make_task(each, trials, trials, config, training, (24, 24)), first, 1.0)
        for each, trials in ((model, pool), (few, those))
    )
    torch.testing.assert_close(told, expected, rtol=1e-5, atol=0)
    declared = declarations(model)
    after, still = model.state_dict(), [row for row in range(5) if row not in rows]
    for name, value in few.state_dict().items():
        torch.testing.assert_close(
            like(after[name], value, rows, declared[name]), value, rtol=1e-4, atol=1e-6
        )
        if declared[name].per_session:
            assert torch.equal(after[name][still], before[name][still]), name
    assert not torch.equal(after["readin.weight_out"][rows], before["readin.weight_out"][rows])


def sparse(rows, gradient, like):
    return torch.sparse_coo_tensor([rows], gradient, like.shape, check_invariants=True)


@pytest.mark.parametrize("kind", ["adam", "lamb"])
def test_rows_move_as_a_module_of_their_own_would(kind):
    """Each row beside an optimiser of torch, or LAMB, of this row alone, which rests while the row
    has no gradient."""
    rng = torch.Generator().manual_seed(0)
    first = torch.randn(4, 3, 2, generator=rng)
    name = "readin.weight_in"
    whole = {name: torch.nn.Parameter(first.clone())}
    single = [{name: torch.nn.Parameter(first[row : row + 1].clone())} for row in range(4)]
    declared = {name: Declaration(per_session=True)}
    optimiser = make_optimiser(whole, 0.1, 0.3, kind, declared, by_rows=True)
    others = [make_optimiser(each, 0.1, 0.3, kind, declared) for each in single]
    for rows in ([0, 2], [2, 3], [0, 1, 2, 3], [2]):
        gradient = torch.randn(len(rows), 3, 2, generator=rng)
        whole[name].grad = gradient if len(rows) == 4 else sparse(rows, gradient, first)
        optimiser.step()
        for row, each in zip(rows, gradient, strict=True):
            single[row][name].grad = each[None]
            others[row].step()
    torch.testing.assert_close(
        whole[name].detach(), torch.cat([each[name].detach() for each in single])
    )
    assert optimiser_state(optimiser, whole)[f"{name}|step"].tolist() == [2, 1, 4, 2]


def test_sessions_are_drawn_equally_often_and_none_twice_in_a_step(simulated):
    pool, counted = HostTrials(simulated(n_sessions=5), CPU, 2), torch.zeros(5)
    for seed in range(500):
        session = pool.batch(1, 2, torch.Generator().manual_seed(seed)).session
        assert len(session.unique()) == 2
        counted[session] += 1
    assert (counted / 500 - 0.4).abs().max() < 5 * (0.24 / 500) ** 0.5


def test_process_noise_of_every_session_is_started_once(started, short):
    training = short(pretrain_steps=0)
    sessions, config, model, latents = started(training)
    before = model.log_q.detach().clone()
    task = make_task(
        model,
        HostTrials(sessions, CPU, 2, latents),
        HostTrials(sessions, CPU, 2),
        config,
        training,
        (24, 24),
    )
    task.stage(0).objective(0, torch.Generator().manual_seed(0), 1.0)
    assert (model.log_q > before).any(1).all()


def test_a_validation_of_a_few_sessions_at_a_time_is_one_of_all(started, short):
    """Where nothing is hidden at random, i.e. forecasts after the same bins, the two roads see the
    same."""
    sessions, config, model, _ = started(short())
    scores = [
        validate(model, trials, short(), 24, (8, 8), config.pooling)["forecast"]
        for trials in (
            HostTrials(sessions, CPU, 2),
            HostTrials(sessions, CPU, 5),
            DeviceTrials.of(sessions, CPU),
        )
    ]
    assert scores[1] == pytest.approx(scores[2], abs=1e-6)
    assert scores[0] == pytest.approx(
        scores[2], abs=0.05
    )  # other entries are hidden from the encoder


def test_a_run_of_few_sessions_a_step_validates_on_no_more_trials_of_each_than_a_step_takes(
    uneven, small, short, monkeypatch
):
    """Evenly spread among those kept aside; all of them where a step takes all sessions."""
    seen = []

    def validate(model, trials, *_):
        seen.append(trials.n_trials.tolist())
        return {"hidden_entries": 0.0, "forecast": 0.0}

    monkeypatch.setattr("metadyn.training.task.validate", validate)
    options = {
        "pretrain_steps": 1,
        "steps": 1,
        "validation_fraction": 0.5,
        "trials_per_session": 2,
        "validate_every": 9,
    }
    for few in (None, 2):
        fit(uneven(), small(), short(**options, sessions_per_step=few))
    assert seen == [[2, 4, 2], [2, 2, 2]]


def test_counts_stay_where_and_what_they_are(simulated, tmp_path):
    """Mapped from a file, bytes; a step reads the trials drawn."""
    (counts,) = simulated(n_sessions=1)
    np.save(tmp_path / "counts.npy", counts.counts.astype(np.uint8))
    mapped = replace(counts, counts=np.load(tmp_path / "counts.npy", mmap_mode="r"))
    pools = [HostTrials([each], CPU, 1) for each in (mapped, counts)]
    one, other = (pool.batch(3, 10, torch.Generator().manual_seed(1)) for pool in pools)
    assert torch.equal(one.counts, other.counts)
    assert isinstance(pools[0].sessions[0].counts, np.memmap)
    assert next(pools[0].parts()).counts.dtype == torch.uint8


def test_a_run_of_few_sessions_a_step_goes_on_where_it_stopped(tmp_path, simulated, small, short):
    sessions, training = (
        simulated(n_sessions=4),
        short(pretrain_steps=3, steps=9, sessions_per_step=2),
    )

    def stop_at_8(report):
        if report.step == 8:
            raise KeyboardInterrupt

    whole = fit(sessions, small(), training)
    with pytest.raises(KeyboardInterrupt):
        fit(sessions, small(), training, folder=tmp_path, report=stop_at_8)
    again = fit(sessions, small(), training, folder=tmp_path, resume=True)
    assert all(
        torch.equal(value, again.module.state_dict()[name])
        for name, value in whole.module.state_dict().items()
    )
    plain = fit(sessions, small(), short(pretrain_steps=3, steps=9))
    assert not torch.equal(plain.module.log_q, whole.module.log_q)


def test_snapshots_hold_the_state_of_every_session(started, short):
    training = short(pretrain_steps=0)
    sessions, config, model, latents = started(training)
    task = make_task(
        model,
        HostTrials(sessions, CPU, 2, latents),
        HostTrials(sessions, CPU, 2),
        config,
        training,
        (24, 24),
    )
    for step in range(8):
        take_step(task, step, 1.0)
    state = take_snapshot(task, 8).state
    assert state["readin.weight_in|exp_avg"].shape == model.readin.weight_in.shape
    assert state["readin.weight_in|step"].sum() == 16
    assert state["dynamics.flow.first.weight|step"] == 8
