"""Sessions that stay on disk: the same model, in memory that the counts would not fit into, and
nothing left behind."""

import os
import resource
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch

from metadyn.data.storage import is_on_disk, on_disk
from metadyn.errors import WriteError
from metadyn.training.fit import fit
from metadyn.training.initial.initialise import initialise_sessions
from metadyn.training.sessions import choose_storage, split_sessions

CONDITION = np.array(["left", "right"] * 4)


def left_on_disk(sessions, folder):
    return [replace(counts, counts=on_disk(counts.counts, folder)) for counts in sessions]


@pytest.mark.parametrize("kind", ["moments", "conditions", "gaussian"])
def test_a_model_of_sessions_on_disk_is_that_of_sessions_in_memory(
    tmp_path, simulated, small, short, kind
):
    changes = {"conditions": {"condition": CONDITION}}.get(kind, {})
    sessions = [replace(counts, **changes) for counts in simulated(n_sessions=4)]
    if kind == "gaussian":
        sessions = [replace(counts, counts=counts.counts.astype(np.float32)) for counts in sessions]
    config = small(likelihood="gaussian" if kind == "gaussian" else "poisson")
    training = short(sessions_per_step=2)
    one, other = (
        fit(sessions, config, training),
        fit(left_on_disk(sessions, tmp_path), config, training, folder=tmp_path / "model"),
    )
    assert all(
        torch.equal(value, other.module.state_dict()[name])
        for name, value in one.module.state_dict().items()
    )
    for name, value in vars(one.shared_latents).items():
        np.testing.assert_array_equal(value, getattr(other.shared_latents, name))
    assert one.sessions == other.sessions
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_trials_and_latents_of_sessions_on_disk_are_there_too(tmp_path, simulated, small, short):
    sessions = left_on_disk(simulated(n_sessions=2), tmp_path)
    storage = choose_storage(sessions, tmp_path)
    parts = split_sessions(sessions, 0.25, 0, storage)
    train, held_out = parts.train, parts.validation
    starts = initialise_sessions(train, small(), short(), storage)
    assert all(
        is_on_disk(values)
        for values in [
            *(each.counts for each in train + held_out),
            *(each.latents for each in starts),
        ]
    )


def test_an_array_on_disk_cannot_be_changed_and_has_no_name(tmp_path):
    values = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)[:, ::-1]
    there = on_disk(values, tmp_path)
    np.testing.assert_array_equal(there, values)
    with pytest.raises(ValueError, match="read-only"):
        there[0] = 0
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_nothing_is_left(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(
            WriteError, match=rf"(?s)kept on disk.*{tmp_path.name}.*File too large.*`memory`"
        ):
            on_disk(np.ones(100_000), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


SCRIPT = textwrap.dedent("""
    import resource, sys
    from dataclasses import replace
    from pathlib import Path
    import torch
    from benchmarks.scale import Size, counts_of
    from metadyn.config import ModelConfig, TrainingConfig
    from metadyn.data.storage import on_disk
    from metadyn.training.fit import fit

    torch.set_num_threads(1)
    config = ModelConfig(latent_dim=2, readin_hidden=8, latent_hidden=8, embedding_hidden=4, hidden=(8, 8))
    few = {"trials_per_session": 4, "validate_every": 2, "validation_fraction": 0.01}
    training = TrainingConfig(pretrain_steps=2, steps=2, sessions_per_step=2, **few)
    # what is loaded once
    fit([counts_of(Size(trials=20, bins=50, units=40), session) for session in range(2)], config, training)
    one = counts_of(Size(trials=400, bins=250, units=40), 0)
    sessions = [replace(one, session=f"s{i}", counts=on_disk(one.counts, Path(sys.argv[1]))) for i in range(12)]
    words = Path("/proc/self/status").read_text().split()
    bound = 1024 * int(words[words.index("VmData:") + 1]) + int(sys.argv[2]) * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))
    fit(sessions, config, training)
    print(sum(counts.counts.nbytes for counts in sessions) // 2**20)
""")


@pytest.mark.skipif(
    sys.platform != "linux", reason="the bound on a process's own memory is Linux's"
)
def test_a_fit_takes_less_memory_than_the_counts_of_its_sessions(tmp_path):
    """From warm start to calibration, the system refuses what is more than 25 MiB above what the
    process has at the start."""
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), "25"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) == 45
    assert list(tmp_path.iterdir()) == []
