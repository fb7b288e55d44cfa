"""Trials that stay on the host as they were binned; a step takes those of a few sessions to the
device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metadyn.model.ops.random import SessionGenerator
from metadyn.records import TrialCounts
from metadyn.training.execution.batch import Batch, DeviceTrials, crop, draw_trials, restrict_to
from metadyn.training.execution.distributed import SINGLE_PROCESS, SingleProcess


@dataclass(frozen=True)
class HostTrials:
    """All sessions, `per_step` of which are on the device at a time; latents of the warm start
    (trial, time, latent) or None.

    Counts are not copied: arrays may be small integers, or mapped from a file.
    """

    sessions: list[TrialCounts]
    device: torch.device
    per_step: int
    latents: list[np.ndarray] | None = None
    processes: SingleProcess = SINGLE_PROCESS
    static = False  # the host takes part in every step

    @property
    def among(self) -> int:
        return len(self.sessions)

    @property
    def n_trials(self) -> Tensor:
        return torch.tensor([counts.n_trials for counts in self.sessions])

    def batch(self, trials: int, crop_bins: int, generator: torch.Generator) -> Batch:
        """Crops of random trials of random sessions."""
        rows = torch.randperm(self.among, generator=generator, device=generator.device)[
            : self.per_step
        ]
        return self._batch_of(sorted(rows.tolist()), trials, crop_bins, generator)

    def batches(self, trials: int, crop_bins: int, seed: int) -> Iterator[Batch]:
        """Crops of random trials of every session, `per_step` at a time."""
        for number, rows in enumerate(self._stretches()):
            yield self._batch_of(
                rows, trials, crop_bins, SessionGenerator(self.device).manual_seed(seed + number)
            )

    def parts(self) -> Iterator[DeviceTrials]:
        """All trials of all sessions, `per_step` at a time."""
        for rows in self._stretches():
            sessions = [self.sessions[row] for row in rows]
            latents = None if self.latents is None else [self.latents[row] for row in rows]
            yield DeviceTrials.of(
                sessions, self.device, latents, rows=rows, processes=self.processes
            )

    def _stretches(self) -> Iterator[list[int]]:
        every = list(range(self.among))
        return (
            every[first : first + self.per_step] for first in range(0, self.among, self.per_step)
        )

    def _batch_of(
        self, rows: list[int], trials: int, crop_bins: int, generator: torch.Generator
    ) -> Batch:
        sessions, here = [self.sessions[row] for row in rows], self.processes.here(rows)
        restrict_to(generator, here, len(rows))
        known = torch.tensor(
            [sessions[place].n_trials for place in here], dtype=torch.long, device=self.device
        )
        drawn = draw_trials(known, max(counts.n_trials for counts in sessions), trials, generator)
        chosen = [np.zeros(0, int)] * len(rows)  # of a session that is not here, no trial
        for place, trial in zip(here, drawn.tolist(), strict=True):
            chosen[place] = np.array(trial[: sessions[place].n_trials])
        latents = None
        if self.latents is not None:
            latents = [self.latents[row][trial] for row, trial in zip(rows, chosen, strict=True)]
        taken = [counts.select(trial) for counts, trial in zip(sessions, chosen, strict=True)]
        resident = DeviceTrials.of(taken, self.device, latents, rows=rows, processes=self.processes)
        again = torch.arange(trials, device=self.device) % resident.n_trials[:, None]
        return crop(resident, again, crop_bins, generator)
