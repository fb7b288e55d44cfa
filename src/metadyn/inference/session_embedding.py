"""The dynamical embedding of a session, from those of its trials or as its training left it.

Equation: q(e) of a session is the mean or the product of q(e | y_n) over its trials n.
Symbols: e dynamical embedding, y_n counts of trial n.
Reference: Vermani et al., arXiv:2410.05454, section 3.2.
"""

from __future__ import annotations

from dataclasses import replace

from metadyn.inference.encoding import check_counts, trial_embeddings
from metadyn.model.elbo import combine_embeddings
from metadyn.model.gaussian import Gaussian
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts


def session_embedding(trained: TrainedModel, session_row: int, by_trial: Gaussian) -> Gaussian:
    """q(e) of the session, (1, 1, embedding): as its training left it, else from `by_trial`
    (1, trial, embedding)."""
    entry = trained.sessions[session_row]
    if not entry.embedding_mean:
        return from_trials(trained, by_trial)
    # (embedding,) to (session, trial, embedding) of one session, one for all trials
    mean = by_trial.mean.new_tensor(entry.embedding_mean)[None, None]
    sd = by_trial.mean.new_tensor(entry.embedding_sd)[None, None]
    return Gaussian(mean, 2 * sd.log())


def from_trials(trained: TrainedModel, by_trial: Gaussian) -> Gaussian:
    """q(e) that the trials have in common, (1, 1, embedding); their mean where the model gives each
    trial an embedding of its own."""
    pooling = trained.config.pooling
    return combine_embeddings(by_trial, "mean" if pooling == "trial" else pooling)


def with_embedding(trained: TrainedModel, counts: TrialCounts) -> TrainedModel:
    """The model with the embedding of one session inferred anew from these trials; as it was where
    its dynamics do not depend on an embedding."""
    if not trained.module.dynamics.embedded:
        return trained
    session_row = check_counts(trained, counts)
    q = from_trials(trained, trial_embeddings(trained, counts))
    mean = tuple(q.mean[0, 0].tolist())
    sd = tuple(q.sd[0, 0].tolist())
    entries = list(trained.sessions)
    entries[session_row] = replace(entries[session_row], embedding_mean=mean, embedding_sd=sd)
    return replace(trained, sessions=tuple(entries))


def conditioning_embedding(trained: TrainedModel, session_row: int, by_trial: Gaussian) -> Gaussian:
    """The q(e) that conditions the dynamics: the session's (1, 1, embedding), or each trial's own
    (1, trial, embedding)."""
    if trained.config.pooling == "trial":
        return by_trial
    return session_embedding(trained, session_row, by_trial)


def expand_to_trials(q: Gaussian, by_trial: Gaussian) -> Gaussian:
    """q(e) (1, trial or 1, embedding) once for each trial: (1, trial, embedding)."""
    shape = by_trial.mean.shape
    return Gaussian(q.mean.expand(shape), q.log_var.expand(shape))
