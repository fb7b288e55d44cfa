"""Step 4 of a fit: what a trained model keeps of its sessions, apart from the weights.

Each session's embedding, what the latents of all sessions have in common, and how wide forecast
intervals are.
"""

from __future__ import annotations

from dataclasses import replace

from metadyn.data.storage import Storage
from metadyn.inference.infer import smoothed_latents
from metadyn.inference.session_embedding import with_embedding
from metadyn.model.trained import SharedLatents, TrainedModel
from metadyn.records import TrialCounts
from metadyn.training.alignment.shared_latents import shared_latents_of
from metadyn.training.calibrate import calibrated
from metadyn.training.execution.loop import Reporter, reported
from metadyn.training.sessions import SplitSessions


def summarise(
    trained: TrainedModel, sessions: SplitSessions, storage: Storage, report: Reporter
) -> TrainedModel:
    """The trained model with embeddings, shared latents and noise of forecasts.

    Embeddings and shared latents are those of the training trials. The noise of forecasts is
    calibrated on the validation trials, to which the dynamics were not fitted.
    """
    for counts in reported(sessions.train, "embed", report):
        trained = with_embedding(trained, counts)
    shared = learn_shared_latents(trained, sessions.train, storage, report)
    trained = replace(trained, shared_latents=shared)
    return calibrated(trained, sessions.validation, report)


def learn_shared_latents(
    trained: TrainedModel, sessions: list[TrialCounts], storage: Storage, report: Reporter
) -> SharedLatents:
    """What the training trials of all sessions have in common under the trained model."""
    latents = [
        storage(smoothed_latents(trained, counts)) for counts in reported(sessions, "frame", report)
    ]
    weights = trained.module.likelihood.weight.numpy(force=True)  # (session, unit, latent)
    own = [weights[row, : counts.n_units] for row, counts in enumerate(sessions)]
    return shared_latents_of(sessions, latents, own)
