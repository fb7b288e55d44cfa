"""Step 1 of a fit: which trials of each session train and which choose the checkpoint, and a check
that the sessions can be trained together."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from metadyn.config import ModelConfig, TrainingConfig
from metadyn.data.splits import evenly_spaced, split_windows
from metadyn.data.storage import Storage, existing_folder, in_memory, is_on_disk, on_disk
from metadyn.errors import DataError
from metadyn.records import TrialCounts


@dataclass(frozen=True)
class SplitSessions:
    """Trials of each session by their use; trials that are in neither list are the test trials.

    train: the model is fitted to them. validation: they choose the checkpoint; the training trials
    where none are kept aside for it. gaps: time left out between the parts of each session [s].
    """

    train: list[TrialCounts]
    validation: list[TrialCounts]
    gaps: list[float]


def choose_storage(sessions: list[TrialCounts], folder: Path | None) -> Storage:
    """Where large arrays are kept: on disk in the model's folder if a session already is, else in
    memory."""
    if any(is_on_disk(counts.counts) for counts in sessions):
        return partial(on_disk, folder=existing_folder(folder))
    return in_memory


def split_sessions(
    sessions: list[TrialCounts],
    validation: float,
    seed: int,
    storage: Storage = in_memory,
    test: float = 0.0,
) -> SplitSessions:
    """Split each session by the fractions of validation and test trials.

    See `metadyn.data.splits.split_windows`. Units without an observation in the training trials
    are left out, with a warning.
    """
    parts = SplitSessions([], [], [])
    for counts in sessions:
        split = split_windows(counts.windows, validation, test, seed)
        train = counts.select(split.train)
        held_out = counts.select(split.validation) if validation else train
        train, held_out = select_observed_units(train, held_out)
        parts.train.append(train.stored(storage))
        parts.validation.append(held_out.stored(storage))
        parts.gaps.append(split.gap)
    return parts


def select_observed_units(
    train: TrialCounts, held_out: TrialCounts
) -> tuple[TrialCounts, TrialCounts]:
    """Both sets of trials without the units that were never observed in training trials.

    Nothing can be learnt about such a unit.
    """
    # (unit,), or (1,) where all units are observed alike
    seen = np.asarray(train.observed_entries.any((0, 1)))
    if seen.all():
        return train, held_out
    count = f"{np.sum(~seen)} of {train.n_units} units"
    found = f"{count} were observed in none of the windows that train the model"
    warnings.warn(f"{train.source.uri or train.session}: {found}; left out", stacklevel=3)
    return train.select(units=seen), held_out.select(units=seen)


def check_sessions(sessions: list[TrialCounts], config: ModelConfig) -> None:
    """Raise a DataError for sessions that cannot be trained together.

    Keys must differ, bin widths must not; a session needs two windows, and as many units as the
    model has latents (one, where the number of latents was not set).
    """
    if not sessions:
        raise DataError("there is no session to train on", remedy="metadyn fit FILE … -o MODEL")
    keys = [counts.session for counts in sessions]
    repeated = sorted({key for key in keys if keys.count(key) > 1})
    if repeated:
        raise DataError(
            "two sessions have one key",
            found=", ".join(repeated),
            remedy="name them: metadyn fit A=one.nwb B=two.nwb",
        )
    # Rounded to nanoseconds: widths that were computed differ in their last digits
    if len({round(counts.bin_width, 9) for counts in sessions}) > 1:
        raise DataError(
            "the sessions were binned differently",
            found=str([counts.bin_width for counts in sessions]),
        )
    latents = config.latent_dim if "latent_dim" in config.model_fields_set else 1
    for counts in sessions:
        check_session(counts, latents)


def check_session(counts: TrialCounts, latents: int) -> None:
    """Raise a DataError for a session with fewer than two windows, or fewer units than latents."""
    if counts.n_trials < 2:
        longest = int(counts.windows.n_bins.max())
        halved = f"`max_bins={max(longest // 2, 1)}`, which cuts it in two"
        raise DataError(
            "one window is not enough to train on",
            item=counts.session,
            found=f"1 window of {longest} bins",
            remedy=halved if longest > 1 else "more windows (`where`)",
        )
    if counts.n_units < latents:
        fewer = f"model.latent_dim = {max(1, counts.n_units)}"
        raise DataError(
            "a session has fewer units than the model has latents",
            item=counts.session,
            found=f"{counts.n_units} units, {latents} latents",
            remedy=f"{fewer}, or a filter that keeps more units",
        )


def limit_latents(config: ModelConfig, sessions: list[TrialCounts]) -> ModelConfig:
    """The configuration with at most as many latents as the smallest session has units.

    A number of latents that was set by the user stays.
    """
    fewest = min(counts.n_units for counts in sessions)
    if "latent_dim" in config.model_fields_set or config.latent_dim <= fewest:
        return config
    return config.model_copy(update={"latent_dim": fewest})


def limit_validation(held_out: list[TrialCounts], training: TrainingConfig) -> list[TrialCounts]:
    """The validation trials; where a step takes few of many sessions, no more of each than a step.

    Otherwise validation would take longer than training.
    """
    if training.sessions_per_step is None:
        return held_out
    most = training.trials_per_session
    return [counts.select(evenly_spaced(counts.n_trials, most)) for counts in held_out]
