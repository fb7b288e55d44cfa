"""Trials that training takes its batches of, on the device or on the host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from metadyn.config import TrainingConfig
from metadyn.records import TrialCounts
from metadyn.training.execution.batch import Batch, DeviceTrials
from metadyn.training.execution.distributed import SingleProcess
from metadyn.training.execution.host_trials import HostTrials


@runtime_checkable
class SessionTrials(Protocol):
    """Trials of all sessions of a run, as training steps and validations take them.

    Of several processes each has the trials of its own sessions.
    """

    @property
    def device(self) -> torch.device:
        """Where batches are."""

    @property
    def processes(self) -> SingleProcess:
        """The processes that share the sessions."""

    @property
    def among(self) -> int:
        """The number of sessions of the run."""

    @property
    def complete(self) -> bool:
        """Whether every batch has trials of all sessions."""

    @property
    def n_trials(self) -> Int[Tensor, " session"]:
        """How many trials each session has."""

    def batch(
        self,
        trials: int,
        width: int,
        generator: torch.Generator,
        crop_bins: Int[Tensor, ""] | None = None,
    ) -> Batch:
        """Crops of random trials: of all sessions, or of random ones.

        trials: how many of each session.
        width: bins of a crop.
        crop_bins: fewer bins, where the others are to be padding.
        """

    def batches(self, trials: int, width: int, seed: int) -> Iterator[Batch]:
        """Batches in which each session comes once."""

    def parts(self) -> Iterator[DeviceTrials]:
        """All trials of all sessions, as many sessions at a time as a step takes."""


def place_trials(
    sessions: list[TrialCounts],
    latents: list[np.ndarray] | None,
    training: TrainingConfig,
    device: torch.device,
    processes: SingleProcess,
) -> SessionTrials:
    """All trials on the device, or on the host where a step takes few of the sessions.

    sessions: those of the run, also of other processes.
    latents: of each session's warm start (trial, time, latent), or None without one.
    device: where this process computes.
    """
    if training.sessions_per_step is None:
        return DeviceTrials.of(sessions, device, latents, processes=processes)
    per_step = min(training.sessions_per_step, len(sessions))
    return HostTrials(sessions, device, per_step, latents, processes)
