"""How well behaviour is decoded from latents, compared with the mean, smoothed spikes and their
principal components.

All are decoded alike: from the same bins and as many before them, none of them unobserved, by
decoders fitted to windows that the model trained on (Vermani et al., arXiv:2410.05454, App. D.2).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from metadyn.errors import WindowError
from metadyn.inference.baselines import LAGS, folds_of, spike_decoders
from metadyn.inference.decoding import fit_decoder, r2, r2_by_channel, varies
from metadyn.inference.infer import smoothed_latents
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts

FEWEST_TO_DECODE = 3  # windows to fit a decoder to


def decode_behavior(
    trained: TrainedModel, counts: TrialCounts, training: TrialCounts | None
) -> tuple[dict[str, dict[str, np.ndarray]], str]:
    """r² of behaviour by name of the score (of all channels, of each) and of the predictor; and why
    there is none, empty where there is one.

    The decoders are fitted to `training`; of an angle they predict cosine and sine, so that its r²
    is the same wherever its zero lies.

    Raises
    ------
    WindowError : no window that is scored holds behaviour.
    """
    scored, behavior = with_behavior(counts)
    if not scored.n_trials:
        raise WindowError(
            "no window that is scored holds behaviour",
            item=counts.behavior_name,
            found=f"0 of {counts.n_trials} windows",
            remedy="another `behavior`, or `held_out=False` "
            "(then the scores are of trials that the model has seen)",
        )
    no_windows = counts.select(trials=slice(0))
    learned, targets = with_behavior(no_windows if training is None else training)
    reason = why_not(scored, behavior, learned.n_trials)
    if reason:
        unknown = np.full(behavior.shape, np.nan)
        return r2_scores({"model": unknown}, behavior, np.zeros(behavior.shape[-1])), reason
    decoder = fit_decoder(latents_of(trained, learned), targets, LAGS, folds_of(learned))
    mean = mean_of_channels(observed_behavior(learned, targets))
    predicted = {
        "model": decoder(latents_of(trained, scored)),
        "mean_rate": np.broadcast_to(mean, behavior.shape),
    }
    predicted |= {name: decode(scored) for name, decode in spike_decoders(learned).items()}
    return r2_scores(predicted, behavior, mean), ""


def with_behavior(
    counts: TrialCounts,
) -> tuple[TrialCounts, Float[np.ndarray, "trial time channel"]]:
    """The windows in which an observed bin has a value of some channel, and what a linear decoder
    predicts there.

    Raises
    ------
    ValueError : the counts have no behaviour.
    """
    targets = counts.behavior_targets
    if targets is None:
        raise ValueError(f"the counts of {counts.session} have no behaviour")
    known = np.isfinite(targets).any(-1) & counts.observed  # (trial, time)
    held = known.any(1)  # (trial,)
    kept = replace(counts, behavior=targets, behavior_period=None).select(trials=held)
    return kept, targets[held]


def observed_behavior(
    counts: TrialCounts, behavior: Float[np.ndarray, "trial time channel"]
) -> Float[np.ndarray, "trial time channel"]:
    """The behaviour, NaN where no unit was observed."""
    return np.where(counts.observed[..., None], behavior, np.nan)


def mean_of_channels(
    behavior: Float[np.ndarray, "trial time channel"],
) -> Float[np.ndarray, " channel"]:
    """Mean of the known values of each channel, NaN of one that has none."""
    columns = behavior.reshape(-1, behavior.shape[-1]).T  # (channel, bin)
    known = [column[np.isfinite(column)] for column in columns]
    return np.array([values.mean() if len(values) else np.nan for values in known])


def why_not(
    scored: TrialCounts, behavior: Float[np.ndarray, "trial time channel"], n_training: int
) -> str:
    """Why the behaviour of the scored windows has no r² with decoders fitted to so many windows;
    empty where it has one."""
    if n_training < FEWEST_TO_DECODE:
        return f"{n_training} windows that trained the model hold it, too few to learn a decoder on"
    if not varies(observed_behavior(scored, behavior)).any():
        return "it does not vary in the windows that are scored"
    return ""


def latents_of(
    trained: TrainedModel, counts: TrialCounts
) -> Float[np.ndarray, "trial time latent"]:
    """Inferred latents, NaN where nothing was observed."""
    return np.where(counts.observed[..., None], smoothed_latents(trained, counts), np.nan)


def r2_scores(
    predicted: dict[str, np.ndarray],
    behavior: Float[np.ndarray, "trial time channel"],
    mean: Float[np.ndarray, " channel"],
) -> dict[str, dict[str, np.ndarray]]:
    """r² of all channels together and of each, over the values that every predictor predicts."""
    known = np.isfinite(np.stack(list(predicted.values()))).all(0)  # (trial, time, channel)
    true = np.where(known, behavior, np.nan)
    together = {name: np.array(r2(true, values, mean)) for name, values in predicted.items()}
    by_channel = {name: r2_by_channel(true, values, mean) for name, values in predicted.items()}
    return {"behavior_r2": together, "behavior_r2_of_channel": by_channel}
