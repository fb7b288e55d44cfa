"""The task of a training loop: stages with their schedules, optimiser and validation."""

from __future__ import annotations

from functools import partial

from metadyn.config import ModelConfig, TrainingConfig
from metadyn.model.meta_ssm import MetaSSM
from metadyn.model.ops.per_session import declarations
from metadyn.training.execution.capture import is_static
from metadyn.training.execution.optim import make_optimiser
from metadyn.training.execution.schedules import cosine, ramp
from metadyn.training.execution.step import EVIDENCE, PRETRAINING, Stage, Task
from metadyn.training.execution.trials import SessionTrials
from metadyn.training.objective import Objectives, tail_range
from metadyn.training.validation import validate


def make_task(
    model: MetaSSM,
    trials: SessionTrials,
    validation: SessionTrials,
    config: ModelConfig,
    training: TrainingConfig,
    crops: tuple[int, int],
) -> Task[MetaSSM]:
    """The task of fitting a model's parameters, all that are not frozen.

    model: of all sessions, or of those of this process.
    trials: those that train, with the latents of the warm start if there is one.
    validation: those that are scored.
    crops: shortest and longest crop [bins].
    """
    named = dict(model.named_parameters())
    parameters = {name: each for name, each in named.items() if each.requires_grad}
    optimiser = make_optimiser(
        parameters,
        training.learning_rate,
        training.weight_decay,
        training.optimiser,
        declarations(model),
        # A step of few sessions moves their rows of tensors that have one for each session
        by_rows=not trials.complete,
    )
    static = is_static(trials)
    tails = tail_range(training, crops[1])
    return Task(
        module=model,
        parameters=parameters,
        optimiser=optimiser,
        stages=make_stages(Objectives(model, trials, config, training, crops, static)),
        validate=partial(validate, model, validation, training, crops[1], tails, config.pooling),
        clip=training.clip,
        every=training.validate_every,
        seed=training.seed,
        processes=trials.processes,
        static=static,
    )


def make_stages(objectives: Objectives) -> tuple[Stage, ...]:
    """Pre-training on the latents of the warm start, then the ELBO.

    Pre-training has the full learning rate, and its scores choose no checkpoint: they are those of
    the warm start. On the ELBO the learning rate falls to zero along a cosine (section D.1), and
    the KL terms gain their weight over a ramp.
    """
    training = objectives.training
    pretraining = Stage(
        name=PRETRAINING,
        steps=training.pretrain_steps,
        objective=objectives.pretraining_loss,
        learning_rate=lambda step: training.learning_rate,
        kl_weight=lambda step: 0.0,
        chooses_best=False,
    )
    evidence = Stage(
        name=EVIDENCE,
        steps=training.steps,
        objective=objectives.negative_elbo,
        learning_rate=lambda step: training.learning_rate * cosine(step, training.steps),
        kl_weight=lambda step: training.kl_weight * ramp(step, training.kl_ramp),
    )
    return pretraining, evidence
