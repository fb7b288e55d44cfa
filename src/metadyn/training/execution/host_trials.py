"""Trials that stay on the host as they were binned; a step takes those of a few sessions to the
device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from metadyn.model.ops.random import SessionGenerator
from metadyn.records import TrialCounts
from metadyn.training.execution.batch import Batch, DeviceTrials, crop, draw_trials, restrict_to
from metadyn.training.execution.distributed import SINGLE_PROCESS, SingleProcess


@dataclass(frozen=True)
class HostTrials:
    """Trials of all sessions on the host, `per_step` sessions of which are on the device at a time.

    Counts are not copied: arrays may be small integers, or mapped from a file.

    sessions: of the run, also those of other processes.
    device: where batches go.
    latents: of the warm start of each session (trial, time, latent), or None.
    processes: those that share the sessions.
    """

    sessions: list[TrialCounts]
    device: torch.device
    per_step: int
    latents: list[np.ndarray] | None = None
    processes: SingleProcess = SINGLE_PROCESS

    @property
    def among(self) -> int:
        """The number of sessions of the run."""
        return len(self.sessions)

    @property
    def complete(self) -> bool:
        """A batch has trials of some of the sessions."""
        return False

    @property
    def n_trials(self) -> Int[Tensor, " session"]:
        """How many trials each session has."""
        return torch.tensor([counts.n_trials for counts in self.sessions])

    def batch(
        self,
        trials: int,
        width: int,
        generator: torch.Generator,
        crop_bins: Int[Tensor, ""] | None = None,
    ) -> Batch:
        """Crops of random trials of random sessions, as `crop`.

        All processes draw the same sessions, and have those of their own.
        """
        order = torch.randperm(self.among, generator=generator, device=generator.device)
        rows = sorted(order[: self.per_step].tolist())
        return self._batch_of(rows, trials, width, generator, crop_bins)

    def batches(self, trials: int, width: int, seed: int) -> Iterator[Batch]:
        """Crops of random trials of every session, `per_step` sessions at a time."""
        for number, rows in enumerate(self._groups()):
            generator = SessionGenerator(self.device).manual_seed(seed + number)
            yield self._batch_of(rows, trials, width, generator)

    def parts(self) -> Iterator[DeviceTrials]:
        """All trials of all sessions, `per_step` sessions at a time."""
        for rows in self._groups():
            sessions = [self.sessions[row] for row in rows]
            latents = None if self.latents is None else [self.latents[row] for row in rows]
            yield DeviceTrials.of(
                sessions, self.device, latents, rows=rows, processes=self.processes
            )

    def _groups(self) -> Iterator[list[int]]:
        """The sessions in order, `per_step` at a time."""
        rows = list(range(self.among))
        for first in range(0, self.among, self.per_step):
            yield rows[first : first + self.per_step]

    def _batch_of(
        self,
        rows: list[int],
        trials: int,
        width: int,
        generator: torch.Generator,
        crop_bins: Int[Tensor, ""] | None = None,
    ) -> Batch:
        """Crops of random trials of these sessions: trials are chosen here, and only they move."""
        sessions = [self.sessions[row] for row in rows]
        here = self.processes.here(rows)
        restrict_to(generator, here, len(rows))
        chosen = self._choose_trials(sessions, here, trials, generator)
        latents = None
        if self.latents is not None:
            latents = [self.latents[row][trial] for row, trial in zip(rows, chosen, strict=True)]
        # Only the chosen trials are read, which matters where counts are mapped from a file
        taken = [counts.select(trial) for counts, trial in zip(sessions, chosen, strict=True)]
        resident = DeviceTrials.of(taken, self.device, latents, rows=rows, processes=self.processes)
        # (session, trial): the chosen trials in order, from the first again where there are fewer
        again = torch.arange(trials, device=self.device) % resident.n_trials[:, None]
        return crop(resident, again, width, generator, crop_bins)

    def _choose_trials(
        self,
        sessions: list[TrialCounts],
        here: list[int],
        trials: int,
        generator: torch.Generator,
    ) -> list[np.ndarray]:
        """Random trials of each session, each once; none of a session that is not in this process.

        The random numbers are those that `DeviceTrials.batch` would draw for these sessions.
        """
        n_trials = [sessions[place].n_trials for place in here]
        known = torch.tensor(n_trials, dtype=torch.long, device=self.device)
        most = max(counts.n_trials for counts in sessions)
        drawn = draw_trials(known, most, trials, generator)  # (session, trial)
        chosen = [np.zeros(0, int)] * len(sessions)
        for place, trial in zip(here, drawn.tolist(), strict=True):
            chosen[place] = np.array(trial[: sessions[place].n_trials])
        return chosen
