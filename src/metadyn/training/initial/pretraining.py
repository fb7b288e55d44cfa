"""Before the ELBO: encoder and dynamics f learn the smoothed latents x of first weights.

Loss = mean over seen bins t of h(E q(z_t) − x_t) + mean over steps k of h(f^k(x_t) − x_{t+k}) +
β KL(q(e) ‖ p(e)): h the Huber loss, its mean over latents; x (session, trial, time, latent); k to
15. The second term alone, against the encoder's own means, is also the multi-step loss. Not in the
paper: from a random start, Poisson models collapse to the mean rate.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import huber_loss

from metadyn.model.dynamics import Transition
from metadyn.model.elbo import embedding_of
from metadyn.model.gaussian import standard_normal
from metadyn.model.meta_ssm import MetaSSM, Observations
from metadyn.training.execution.batch import uniform_below
from metadyn.training.execution.distributed import SINGLE_PROCESS, SingleProcess

EMBEDDING_KL = 1e-3  # keeps the scale of e near its prior's; ten times as much lets it collapse
# Enough rollouts to fix the speeds of the dynamics, cheap beside the encoders
MAX_ROLLOUT_STEPS = 15
ROLLOUTS_PER_TRIAL = 8

PaddedLatents = Float[Tensor, "session trial time latent"]
RolloutBins = Int[Tensor, "session trial rollout"]


def part_of_mean(mean: Float[Tensor, ""], share: float) -> Float[Tensor, ""]:
    """The contribution of this process to the mean over all sessions of a step.

    mean: over its own sessions, which are a `share` of the step's; with no session it is NaN, and
    the contribution zero.
    """
    if share == 1:
        return mean
    return mean * share if share else mean.new_zeros(())


def pretrain_loss(
    model: MetaSSM,
    seen: Observations,
    latents: PaddedLatents,
    pooling: str,
    generator: torch.Generator,
    share: float = 1.0,
    processes: SingleProcess = SINGLE_PROCESS,
) -> Float[Tensor, ""]:
    """The loss of the equation above.

    Of several processes, the part of this one's sessions, which are a share of the step's.
    """
    features = model.features(seen, generator)
    q_e = embedding_of(model, features, seen, pooling)
    embedding = q_e.sample(generator)
    mean = model.latents(features, embedding, seen.length).mean
    # (session, trial, time, latent) → one number
    encoder = (huber_loss(mean, latents, reduction="none") * seen.seen[..., None]).sum()
    encoder = encoder / processes.total(seen.seen.sum()) / latents.shape[-1]
    kl = part_of_mean(q_e.kl(standard_normal(q_e.mean)).mean(), share)
    transition = model.transition(embedding, seen.session)
    rollouts = rollout_loss(transition, seen, latents, latents, generator, processes)
    return encoder + rollouts + EMBEDDING_KL * kl


def rollout_loss(
    transition: Transition,
    seen: Observations,
    states: PaddedLatents,
    targets: PaddedLatents,
    generator: torch.Generator,
    processes: SingleProcess = SINGLE_PROCESS,
) -> Float[Tensor, ""]:
    """Mean Huber distance, over every step, of rollouts of the mean dynamics to what follows.

    They start from `states` at random bins and are compared with `targets`, over as many steps as
    all trials have.
    """
    steps = (processes.least(seen.length) - 1).clamp(max=MAX_ROLLOUT_STEPS)
    bounds = (seen.length[..., None] - steps).expand(-1, -1, ROLLOUTS_PER_TRIAL)
    start = uniform_below(bounds, generator)  # (session, trial, rollout)
    last = states.shape[2] - 1
    n_steps = min(MAX_ROLLOUT_STEPS, last)
    times = [(start + step).clamp(max=last) for step in range(1, n_steps + 1)]
    counted = counted_pairs(seen, start, times, steps)
    numbers = processes.total(torch.stack([each.sum() for each in counted])) if counted else ()
    state = at_bins(states, start)  # (session, trial, rollout, latent)
    total = states.new_zeros(())
    for time, both, number in zip(times, counted, numbers, strict=True):
        state = transition.mean(state, time)
        error = huber_loss(state, at_bins(targets, time), reduction="none") * both
        total = total + error.sum() / number.clamp(min=1) / states.shape[-1]
    return total / steps.clamp(min=1)


def at_bins(
    values: PaddedLatents, time: RolloutBins
) -> Float[Tensor, "session trial rollout latent"]:
    """The values at some bins of each trial."""
    return values.gather(2, time[..., None].expand(-1, -1, -1, values.shape[-1]))


def counted_pairs(
    seen: Observations, start: RolloutBins, times: list[RolloutBins], steps: Int[Tensor, ""]
) -> list[Bool[Tensor, "session trial rollout 1"]]:
    """For each step, the rollouts whose first and present bin were observed, up to `steps`."""
    first = seen.observed.gather(2, start)
    return [
        (first & seen.observed.gather(2, time) & (steps >= step))[..., None]
        for step, time in enumerate(times, start=1)
    ]


@torch.no_grad()
def raise_process_noise(
    model: MetaSSM,
    seen: Observations,
    latents: PaddedLatents,
    pooling: str,
    processes: SingleProcess = SINGLE_PROCESS,
) -> None:
    """Raise the variance of process noise to what the pretrained dynamics leave of a step.

    Noise that is too small makes the ELBO flatten latents that the dynamics cannot foresee; where
    they can, it stays small.
    """
    features = model.features(seen)
    embedding = embedding_of(model, features, seen, pooling).mean
    transition = model.transition(embedding, seen.session)
    step = latents[:, :, 1:] - transition.mean(latents[:, :, :-1], slice(1, None))
    both = (seen.seen[:, :, 1:] & seen.seen[:, :, :-1])[..., None]
    # (session, latent)
    unexplained = (step**2 * both).sum((1, 2)) / both.sum((1, 2)).clamp(min=1)
    rows: Tensor | slice = seen.session
    if len(model.log_q) == 1 and not processes.owns("log_q"):
        # One row that all sessions share, or that of the only session
        rows = slice(None)
        number = processes.total(torch.tensor(len(unexplained), device=unexplained.device))
        unexplained = processes.total(unexplained.sum(0, keepdim=True)) / number
    model.log_q[rows] = torch.maximum(model.log_q[rows], unexplained.clamp(min=1e-9).log())
