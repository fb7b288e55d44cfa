"""One configuration: how spikes become counts, what the model is, how it is trained. Every number has its reason beside it."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metadyn.errors import ConfigError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Windows, units and bins. Times in seconds."""

    bin_width: float = Field(0.02, gt=0, description="width of a time bin [s]")
    intervals: str | None = Field(None, description="interval table to take windows from; default: trials, else the whole recording")
    align: str | None = Field(None, description="event column that windows start from; default: each row from start_time to stop_time")
    start: float = Field(0.0, description="start of the window after the event [s]")
    n_bins: int | None = Field(None, gt=0, description="bins in a window; needed with align, and the length of a window of a continuous recording")
    max_bins: int | None = Field(None, gt=0, description="cut windows longer than this many bins into pieces")
    where: str | None = Field(None, description="rows to keep, e.g. \"result == 'R' and not bad\"")
    units: str | None = Field(None, description="units to keep, e.g. \"quality == 'good'\"")
    min_rate: float = Field(0.1, ge=0, description="units below this mean rate in the windows are dropped [Hz] (paper, D.1)")
    spike_lag: float = Field(0.0, description="count spikes this much earlier than the window [s]")
    smoothing: float = Field(0.0, ge=0, description="SD of Gaussian smoothing of counts, for the Gaussian likelihood [s]")
    behavior: str | None = Field(None, description="behaviour series for decoding")
    condition: str | None = Field(None, description="column of condition labels, for a common frame across sessions")


class ModelConfig(_Section):
    """The meta-dynamical state space model (Vermani et al., sections 3.1-3.2)."""

    latent_dim: int = Field(2, gt=0, description="dimensions of the latent state")
    embedding_dim: int = Field(1, gt=0, description="dimensions of the dynamical embedding")
    conditioning: Literal["low_rank", "shared"] = Field("low_rank", description="how the embedding changes the dynamics")
    rank: int = Field(1, gt=0, description="rank of the change of each weight (Fig. 15: insensitive)")
    likelihood: Literal["poisson", "gaussian"] = Field("poisson", description="distribution of the observations")
    hidden: tuple[int, int] = Field((32, 32), description="hidden units of the dynamics (App. D.3)")
    hyper_hidden: int = Field(16, gt=0, description="hidden units of the hypernetwork (App. D.3)")
    readin_hidden: int = Field(64, gt=0, description="hidden units of the read-in (App. D.3)")
    readin_dim: int = Field(8, gt=0, description="width of the shared features (App. D.3)")
    embedding_hidden: int = Field(16, gt=0, description="hidden units of the embedding encoder (App. D.3)")
    latent_hidden: int = Field(64, gt=0, description="hidden units of the latent encoder, a direction (App. D.3)")
    pooling: Literal["trial", "mean"] = Field("mean", description="q(e) per trial, or one a session (mean over trials)")


class TrainingConfig(_Section):
    """How a model is fitted: a warm start from data, distillation of it, then the ELBO."""

    distil_steps: int = Field(200, ge=0, description="steps that teach encoder and dynamics the smoothed latents of the warm start")
    steps: int = Field(600, ge=0, description="steps on the ELBO")
    learning_rate: float = Field(0.005, gt=0, description="peak of the cosine schedule (App. D.3)")
    weight_decay: float = Field(0.001, ge=0, description="not applied to readout, noise and prior (App. D.3)")
    clip: float = Field(1.0, gt=0, description="bound on the gradient norm")
    trials_per_session: int = Field(8, gt=0, description="trials drawn from each session a step (App. D.3)")
    crop_bins: tuple[int, int] | None = Field(None, description="range of random crop lengths; default: whole windows up to 150 bins")
    tail_bins: int | None = Field(None, ge=0, description="bins at a crop's end hidden from the encoder and forecast; default: a fifth of the shortest crop")
    masking: float = Field(0.2, ge=0, lt=1, description="share of bins whose latent comes from the dynamics (App. D.1)")
    coordinated_dropout: float = Field(0.25, ge=0, lt=1, description="share of entries hidden from the encoder and scored alone")
    kl_weight: float = Field(1.0, gt=0, description="weight of the KL terms at the end of the ramp")
    kl_ramp: int = Field(500, ge=0, description="steps until the KL terms have their full weight")
    process_noise: float = Field(0.002, gt=0, description="first variance of the process noise; small, so that the embedding takes off")
    posterior_log_var: float = Field(-4.0, description="first log variance of q(z)")
    weight_change_penalty: float = Field(1e-4, ge=0, description="weight of the Frobenius norm of the change of the dynamics")
    smoothing_bins: float = Field(5.0, gt=0, description="SD of the smoothing that the warm start sees [bins]")
    validation_fraction: float = Field(0.15, ge=0, lt=1, description="share of each session's trials that choose the checkpoint")
    validate_every: int = Field(50, gt=0, description="steps between validations and checkpoints")
    seed: int = Field(0, ge=0, description="seed of every random number of the run")


class AlignConfig(_Section):
    """How a new session is aligned: an analytic start, then its own read-in, likelihood and process noise on the ELBO."""

    steps: int | None = Field(None, ge=0, description="steps on the ELBO; default: chosen on validation trials among 0 and max_steps")
    max_steps: int = Field(250, gt=0, description="longest run that is tried")
    learning_rate: float = Field(0.005, gt=0, description="peak of the cosine schedule")
    seed: int = Field(0, ge=0, description="seed of every random number of the run")
