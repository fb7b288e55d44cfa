"""Step 2 of a fit: initial networks from the data, and of several the one that forecasts best."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from metadyn.config import ModelConfig, TrainingConfig
from metadyn.data.storage import Storage
from metadyn.model.build import build_model
from metadyn.model.meta_ssm import MetaSSM
from metadyn.model.trained import TrainedModel
from metadyn.records import SessionEntry
from metadyn.training.alignment.shared_latents import shared_latents_of
from metadyn.training.execution.distributed import SingleProcess
from metadyn.training.execution.loop import Progress, Reporter, StepReport, run, silent
from metadyn.training.execution.step import Task
from metadyn.training.execution.trials import SessionTrials, place_trials
from metadyn.training.initial.initialise import initialise_sessions, initialised_model
from metadyn.training.initial.session_init import SessionInit
from metadyn.training.sessions import SplitSessions, limit_validation
from metadyn.training.task import make_task

# Seeds of the initial networks of one run lie this far apart: those of other runs do not meet them
SEED_SPACING = 1_000_000


@dataclass(frozen=True)
class Initialiser:
    """Makes initial networks of one fit, and the task of training each.

    sessions: training and validation trials as counts.
    inits: each session's initial readout, read-in and latents.
    trials: the training trials where steps take them.
    validation: the validation trials where they are scored.
    crops: shortest and longest crop [bins].
    """

    sessions: SplitSessions
    inits: list[SessionInit]
    trials: SessionTrials
    validation: SessionTrials
    config: ModelConfig
    training: TrainingConfig
    crops: tuple[int, int]

    def task(self, seed: int) -> Task[MetaSSM]:
        """The task of training a network whose random weights have this seed."""
        training = self.training.model_copy(update={"seed": seed})
        model = initialised_model(self.sessions.train, self.inits, self.config, training)
        model = self.trials.processes.narrowed(model).to(self.trials.device)
        return make_task(
            model, self.trials, self.validation, self.config, self.training, self.crops
        )

    def best_task(self, report: Reporter) -> tuple[Task[MetaSSM], Progress]:
        """The task of training the best of `pretrain_inits` initial networks, and how far it is.

        An embedding can fold while it forms, so each network is pre-trained, and the one whose
        forecasts validate best goes on. A single network is not pre-trained here.
        """
        training = self.training
        seeds = [training.seed + SEED_SPACING * place for place in range(training.pretrain_inits)]
        if len(seeds) == 1 or not training.pretrain_steps:
            return self.task(seeds[0]), Progress()
        tried = []  # (score of its forecasts, task, progress) of each network
        for place, seed in enumerate(seeds, 1):
            task = self.task(seed)
            progress = Progress()
            pretraining = task.stages[0]
            run(replace(task, stages=(pretraining,)), progress, report=report, save=silent)
            score = progress.history[-1]["forecast"]
            tried.append((score, task, progress))
            text = (
                f"initial networks {place} of {len(seeds)}: forecasts validate at {score:.3f} bits"
            )
            report(StepReport(pretraining.steps, pretraining.steps, pretraining.name, message=text))
        _, task, progress = max(tried, key=lambda each: each[0])
        return task, progress

    def model(self, task: Task[MetaSSM], data: dict) -> TrainedModel:
        """The model that a task trains, with the latents that its sessions' first weights share.

        Its module is the task's; of several processes, a new one that has all sessions.
        """
        train = self.sessions.train
        latents = [init.latents for init in self.inits]
        weights = [init.weight for init in self.inits]
        shared = shared_latents_of(train, latents, weights)
        module = task.module
        # Of several processes each trains the rows of its own sessions
        if task.processes.size > 1:
            module = build_model(self.config, [counts.n_units for counts in train]).to(task.device)
        entries = map(SessionEntry.of, train, self.sessions.validation, self.sessions.gaps)
        bin_width = train[0].bin_width
        return TrainedModel(
            module, self.config, bin_width, tuple(entries), shared, self.training, data
        )


def find_initialiser(
    sessions: SplitSessions,
    config: ModelConfig,
    training: TrainingConfig,
    crops: tuple[int, int],
    storage: Storage,
    device: torch.device,
    processes: SingleProcess,
    report: Reporter,
) -> Initialiser:
    """First weights of each session from its training trials, and its trials where steps take them.

    sessions: what is trained on, with at least as many units as the model has latents.
    crops: shortest and longest crop [bins].
    storage: where latents of the warm start are kept.
    device, processes: where this process computes, and those that share the sessions.
    """
    inits = initialise_sessions(sessions.train, config, training, storage, report)
    latents: list[np.ndarray] | None = None
    if training.warm_start:
        latents = [init.latents for init in inits]
    # Validation needs no latents of the warm start
    held_out = limit_validation(sessions.validation, training)
    return Initialiser(
        sessions,
        inits,
        place_trials(sessions.train, latents, training, device, processes),
        place_trials(held_out, None, training, device, processes),
        config,
        training,
        crops,
    )
