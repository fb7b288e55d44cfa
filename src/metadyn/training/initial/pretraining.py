"""Before the ELBO: encoder and dynamics learn the smoothed latents of the warm start (recipe.md,
"Recipe P", 2).

Its rollouts are also the multi-step loss, there against the encoder's own means.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from metadyn.model.dynamics import Transition
from metadyn.model.elbo import embedding_of
from metadyn.model.gaussian import standard_normal
from metadyn.model.meta_ssm import MetaSSM, Observations
from metadyn.training.execution.batch import uniform_below
from metadyn.training.execution.distributed import SINGLE_PROCESS, SingleProcess

EMBEDDING_KL = 1e-3  # keeps the scale of e near its prior's; ten times as much lets it collapse
ROLLOUT, STARTS = (
    15,
    8,
)  # steps rolled out, and rollouts a trial: enough to fix speeds, cheap beside the encoders


def part_of_mean(mean: Tensor, share: float) -> Tensor:
    """What the sessions of this process, a share of the step's, add to the mean over all of them;
    of none it is nothing."""
    if share == 1:
        return mean
    return mean * share if share else mean.new_zeros(())


def pretrain_loss(
    model: MetaSSM,
    seen: Observations,
    latents: Tensor,
    pooling: str,
    generator: torch.Generator,
    share: float = 1.0,
    processes: SingleProcess = SINGLE_PROCESS,
) -> Tensor:
    """Huber distance of the encoder's means, and of rollouts of the dynamics, to latents (session,
    trial, time, latent).

    Of several processes, the part of this one's sessions, which are a share of the step's.
    """
    features = model.features(seen, generator)
    q_e = embedding_of(model, features, seen, pooling)
    embedding = q_e.sample(generator)
    mean = model.latents(features, embedding, seen.length).mean
    encoder = (huber_loss(mean, latents, reduction="none") * seen.seen[..., None]).sum()
    encoder = encoder / processes.total(seen.seen.sum()) / latents.shape[-1]
    kl = part_of_mean(q_e.kl(standard_normal(q_e.mean)).mean(), share)
    transition = model.transition(embedding, seen.session)
    return (
        encoder
        + rollout_loss(transition, seen, latents, latents, generator, processes)
        + EMBEDDING_KL * kl
    )


def rollout_loss(
    transition: Transition,
    seen: Observations,
    states: Tensor,
    targets: Tensor,
    generator: torch.Generator,
    processes: SingleProcess = SINGLE_PROCESS,
) -> Tensor:
    """Mean Huber distance, over every step, of rollouts of the mean dynamics to the targets that
    follow.

    They start from `states` at random bins; states and targets (session, trial, time, latent),
    where there are any.
    """
    steps = (processes.least(seen.length) - 1).clamp(
        max=ROLLOUT
    )  # as all trials have; the errors of further ones do not count
    start = uniform_below((seen.length[..., None] - steps).expand(-1, -1, STARTS), generator)

    def at(values: Tensor, time: Tensor) -> Tensor:
        return values.gather(2, time[..., None].expand(-1, -1, -1, values.shape[-1]))

    state, total = at(states, start), states.new_zeros(())
    first = seen.observed.gather(2, start)
    last = states.shape[2] - 1
    times = [(start + step).clamp(max=last) for step in range(1, min(ROLLOUT, last) + 1)]
    known = [
        (first & seen.observed.gather(2, time) & (steps >= step))[..., None]
        for step, time in enumerate(times, start=1)
    ]
    numbers = processes.total(torch.stack([each.sum() for each in known])) if known else ()
    for time, both, number in zip(times, known, numbers, strict=True):
        state = transition.mean(state, time)
        error = huber_loss(state, at(targets, time), reduction="none") * both
        total = total + error.sum() / number.clamp(min=1) / states.shape[-1]
    return total / steps.clamp(min=1)


@torch.no_grad()
def raise_process_noise(
    model: MetaSSM,
    seen: Observations,
    latents: Tensor,
    pooling: str,
    processes: SingleProcess = SINGLE_PROCESS,
) -> None:
    """Raise process noise to what the pretrained dynamics leave unexplained of a step of a session's
    latents.

    Noise that is too small makes the ELBO flatten latents that the dynamics cannot foresee; where
    they can, it stays small.
    """
    features = model.features(seen)
    embedding = embedding_of(model, features, seen, pooling).mean
    transition = model.transition(embedding, seen.session)
    step = latents[:, :, 1:] - transition.mean(latents[:, :, :-1], slice(1, None))
    both = (seen.seen[:, :, 1:] & seen.seen[:, :, :-1])[..., None]
    unexplained = (step**2 * both).sum((1, 2)) / both.sum((1, 2)).clamp(min=1)
    rows = seen.session
    if len(model.log_q) == 1 and not processes.owns(
        "log_q"
    ):  # of one session, or the mean of those that share it
        rows, number = (
            slice(None),
            processes.total(torch.tensor(len(unexplained), device=unexplained.device)),
        )
        unexplained = processes.total(unexplained.sum(0, keepdim=True)) / number
    model.log_q[rows] = torch.maximum(model.log_q[rows], unexplained.clamp(min=1e-9).log())
