"""A model of the new session alone, and the trained model with that session beside the others.

Tensors with a row for each session (`PerSession`) get one row more, (session, …); all others are
shared and stay as they are. Vermani et al., arXiv:2410.05454, section D.1: only read-in, likelihood
and process noise of a new session are trained.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from metadyn.inference.session_embedding import with_embedding
from metadyn.model.build import build_model
from metadyn.model.encoders import KnownEmbedding
from metadyn.model.meta_ssm import MetaSSM
from metadyn.model.ops.per_session import declarations
from metadyn.model.trained import TrainedModel
from metadyn.records import SessionEntry, TrialCounts
from metadyn.training.alignment.placement import Placement
from metadyn.training.calibrate import typical_scale


def new_session_model(
    trained: TrainedModel, n_units: int, placement: Placement | None = None
) -> MetaSSM:
    """A model of one new session, whose shared tensors are the trained ones and frozen.

    With the embedding of the placement, if it has one. Process noise starts at the sessions' mean.
    """
    module = build_model(trained.config, [n_units], seed=trained.training.seed)
    declared = declarations(module)
    shared = {
        name: value
        for name, value in trained.module.state_dict().items()
        if not declared[name].per_session
    }
    module.load_state_dict(shared, strict=False)
    with torch.no_grad():
        module.log_q.copy_(trained.module.log_q.mean(0, keepdim=True))
    if placement is not None and len(placement.embedding_mean):
        mean = torch.as_tensor(placement.embedding_mean)
        sd = torch.as_tensor(placement.embedding_sd)
        module.embedding_encoder = KnownEmbedding(mean, 2 * sd.log())
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(declared[name].per_session)
    return module.to(trained.module.log_q.device)


def with_new_session(
    trained: TrainedModel,
    module: MetaSSM,
    counts: TrialCounts,
    placement: Placement | None,
    gap: float = 0.0,
) -> TrainedModel:
    """The trained model with the session of `module` behind the others.

    Its embedding is the placement's, or that of its trials. gap: between training and test trials
    of the session [s].
    """
    entry = SessionEntry.of(counts, gap=gap)
    entry = replace(entry, noise_scale=typical_scale(trained.sessions))
    if placement is not None:
        entry = replace(
            entry,
            embedding_mean=tuple(map(float, placement.embedding_mean)),
            embedding_sd=tuple(map(float, placement.embedding_sd)),
        )
    sessions = (*trained.sessions, entry)
    merged = build_model(trained.config, [each.n_units for each in sessions])
    declared = declarations(merged)
    old, new = trained.module.state_dict(), module.state_dict()
    state = {}
    for name, like in merged.state_dict().items():
        if declared[name].per_session:
            state[name] = append_row(old[name], new[name], like, declared[name].padding)
        else:
            state[name] = old[name]
    merged.load_state_dict(state)
    extended = replace(trained, module=merged.to(trained.module.log_q.device), sessions=sessions)
    return with_embedding(extended, counts) if placement is None else extended


def append_row(old: Tensor, new: Tensor, like: Tensor, padding: float) -> Tensor:
    """Old rows and the new one behind them, padded to the shape of `like`."""
    out = torch.full_like(like, padding, device=old.device)
    out[tuple(slice(size) for size in old.shape)] = old
    own = [slice(size) for size in new.shape[1:]]
    out[(slice(len(old), None), *own)] = new
    return out
