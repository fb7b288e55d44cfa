"""Processes that torchrun started, beside one process: the same losses and one model; a lost one,
and the run goes on."""

import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from metadyn.errors import ConfigError
from metadyn.training.execution import capture
from metadyn.training.execution.checkpoint import load_model, pointed
from metadyn.training.execution.devices import find_device
from metadyn.training.execution.distributed import join_processes
from metadyn.training.fit import fit

SCRIPT = textwrap.dedent("""
    import json, os, pickle, signal, sys
    from pathlib import Path
    import torch
    from metadyn.training import fit
    from metadyn.training.execution import capture

    torch.set_num_threads(1)
    arguments, lost = pickle.loads(Path(sys.argv[1]).read_bytes())
    inner, losses = capture.take_step, []

    def noted(task, step, step_size):
        if step == lost and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        terms = inner(task, step, step_size)
        losses.append(float(terms["loss"]))
        return terms

    capture.take_step = noted
    for name, options in arguments.items():
        fit.fit(**options, folder=Path(sys.argv[1]).parent / name)
    if os.environ["RANK"] == "0":
        Path(sys.argv[1]).with_name("losses.json").write_text(json.dumps(losses))
""")


def torchrun(folder, arguments, lost=None) -> subprocess.CompletedProcess:
    """fit(**options) for each of the arguments by two processes; losses of all steps in
    losses.json, models in folders NAME."""
    (folder / "run.py").write_text(SCRIPT)
    (folder / "arguments").write_bytes(pickle.dumps((arguments, lost)))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, folder / "run.py", folder / "arguments"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def test_two_processes_have_the_losses_of_one_over_50_steps_and_save_one_model(
    tmp_path, simulated, small, short, monkeypatch
):
    """All of three sessions a step; and one, so that one of the processes has none."""
    training, losses, inner = (
        {"pretrain_steps": 20, "steps": 30, "validate_every": 25},
        [],
        capture.take_step,
    )
    monkeypatch.setattr(
        capture, "take_step", lambda *given: losses.append(inner(*given)) or losses[-1]
    )
    arguments = {
        "all": {"sessions": simulated(), "config": small(), "training": short(**training)},
        "few": {
            "sessions": simulated(),
            "config": small(),
            "training": short(**training, sessions_per_step=1),
        },
    }
    done = torchrun(tmp_path, arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    for name, options in arguments.items():
        alone, together = fit(**options), load_model(tmp_path / name)
        for key, value in alone.module.state_dict().items():
            torch.testing.assert_close(
                together.module.state_dict()[key], value, atol=1e-3, rtol=1e-3
            )
        assert [each.key for each in together.sessions] == [each.key for each in alone.sessions]
        assert together.sessions[2].embedding_mean == pytest.approx(
            alone.sessions[2].embedding_mean, abs=1e-3
        )
    assert len(losses) == 100
    assert json.loads((tmp_path / "losses.json").read_text()) == pytest.approx(
        [float(terms["loss"]) for terms in losses], abs=1e-4
    )


def test_a_run_that_lost_a_process_goes_on_with_one(tmp_path, simulated, small, short):
    options = {
        "sessions": simulated(),
        "config": small(),
        "training": short(pretrain_steps=4, steps=16),
    }
    done = torchrun(tmp_path, {"model": options}, lost=14)
    assert done.returncode != 0
    assert f"Signal {signal.SIGKILL:d}" in done.stderr
    assert pointed(tmp_path / "model", "latest").name == "step-000012"
    again, whole = fit(**options, folder=tmp_path / "model", resume=True), fit(**options)
    for key, value in whole.module.state_dict().items():
        torch.testing.assert_close(again.module.state_dict()[key], value, atol=1e-3, rtol=1e-3)


def test_more_processes_than_sessions_are_refused(monkeypatch, small):
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    with pytest.raises(ConfigError, match=r"3 processes, 2 sessions(?s:.*)nproc-per-node 2"):
        join_processes(2, small(), find_device)
