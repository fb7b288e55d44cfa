"""Which trials or windows to train on, to choose by and to test on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metadyn.errors import DataError
from metadyn.records import Windows

# windows of a session; of fewer a test part would hold one or two, which score by chance
ENOUGH_TO_TEST = 20
# windows of a continuous recording; of fewer a gap would cost more than it is worth
ENOUGH_FOR_GAPS = 6
MOST_BLOCKS = 3  # that validation or test has of a continuous recording, to meet it early and late
WINDOWS_OF_A_BLOCK = 5


@dataclass(frozen=True)
class Split:
    """Ascending indices of the windows of each part; `gap`: time between parts [s], whose windows
    are in none."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    gap: float = 0.0


def is_continuous(windows: Windows) -> bool:
    """Whether windows are neighbours in time: of a recording without a table, or pieces of a few
    long rows."""
    rows = len(np.unique(windows.trial_row))
    return windows.table is None or (rows < len(windows) and rows < ENOUGH_TO_TEST)


def split_windows(windows: Windows, validation: float, test: float, seed: int = 0) -> Split:
    """Windows to train on, to choose the checkpoint by and to test on; the same for the same seed.

    `validation`, `test`: fractions of the trials. Of validation there is one at least where there
    are two trials; below ENOUGH_TO_TEST trials there is no test part. Trials are drawn at random,
    each with all of its pieces. Windows of a continuous recording are neighbours, so they are split
    in blocks, with a gap of a median window between parts.
    """
    continuous = is_continuous(windows)
    trials = (
        np.arange(len(windows))
        if continuous
        else np.unique(windows.trial_row, return_inverse=True)[1]
    )
    size = int(trials.max()) + 1
    n_test = round(test * size) if size >= ENOUGH_TO_TEST else 0
    n_validation = min(max(1, round(validation * size)), size - n_test - 1) if validation else 0
    if continuous and n_validation + n_test:
        return split_blocks(windows, n_validation, n_test, seed)
    parts = split_trials(size, (size - n_validation - n_test, n_validation, n_test), seed)
    train, chosen, tested = (np.flatnonzero(np.isin(trials, part)) for part in parts)
    return Split(train, chosen, tested)


def split_blocks(windows: Windows, n_validation: int, n_test: int, seed: int) -> Split:
    """Blocks of consecutive windows for validation and for test, at random places; the rest trains,
    but for the gaps."""
    rng = np.random.default_rng(seed)
    lengths = [(1, length) for length in block_lengths(n_validation)] + [
        (2, length) for length in block_lengths(n_test)
    ]
    blocks = [lengths[which] for which in rng.permutation(len(lengths))]
    free = len(windows) - n_validation - n_test
    between = np.array(
        [0, *[1] * (len(blocks) - 1), 0]
    )  # windows that train, before, between and after the blocks
    between += rng.multinomial(
        max(0, free - between.sum()), np.full(len(between), 1 / len(between))
    )
    kinds = [
        [0] * between[0],
        *(
            [kind] * length + [0] * after
            for (kind, length), after in zip(blocks, between[1:], strict=True)
        ),
    ]
    part = np.zeros(len(windows), np.int64)
    part[np.argsort(windows.start, kind="stable")] = np.concatenate(kinds)[: len(windows)]
    gap = (
        float(np.median(windows.n_bins)) * windows.bin_width
        if len(windows) >= ENOUGH_FOR_GAPS
        else 0.0
    )
    return with_gap(windows, part, gap)


def with_gap(windows: Windows, part: np.ndarray, gap: float) -> Split:
    """The split by `part` (trial,), 0 train, 1 validation, 2 test; without the windows nearer than
    `gap` to a later part."""
    test, validation = part == 2, part == 1
    validation &= ~windows.share_time(windows.start[test], windows.stop[test], gap)
    held_out = test | validation
    train = (part == 0) & ~windows.share_time(windows.start[held_out], windows.stop[held_out], gap)
    if gap and not train.any():
        return with_gap(windows, part, 0.0)
    return Split(np.flatnonzero(train), np.flatnonzero(validation), np.flatnonzero(test), gap)


def block_lengths(number: int) -> list[int]:
    """So many windows in up to MOST_BLOCKS blocks of at least WINDOWS_OF_A_BLOCK, or in one that is
    smaller."""
    n_blocks = min(max(1, number // WINDOWS_OF_A_BLOCK), MOST_BLOCKS)
    return [len(block) for block in np.array_split(np.arange(number), n_blocks) if len(block)]


def evenly_spaced(size: int, most: int) -> np.ndarray:
    """Up to `most` of the numbers below `size`, evenly spread."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(int))


def split_trials(
    n_trials: int, parts: Sequence[float | int] = (0.7, 0.15, 0.15), seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ascending indices (train, validation, test) of a random split, disjoint and complete; the
    same for the same seed.

    `parts` are three fractions that sum to 1, or three counts that sum to `n_trials`. No part but 0
    is left empty.
    """
    counts = _counts(n_trials, np.asarray(parts))
    shuffled = np.random.default_rng(seed).permutation(n_trials)
    train, validation, test = np.split(shuffled, np.cumsum(counts)[:2])
    return np.sort(train), np.sort(validation), np.sort(test)


def _counts(n_trials: int, parts: np.ndarray) -> np.ndarray:
    if parts.shape != (3,) or np.any(parts < 0):
        raise DataError(
            "a split has three parts, none negative",
            found=str(parts.tolist()),
            remedy="e.g. (0.7, 0.15, 0.15)",
        )
    if np.issubdtype(parts.dtype, np.integer) and parts.sum() == n_trials:
        return parts
    if not np.isclose(parts.sum(), 1):
        found = f"{parts.tolist()}, which sum to {parts.sum():g}, for {n_trials} trials"
        raise DataError(
            "the parts of a split do not fit",
            found=found,
            remedy="fractions that sum to 1, or counts of all trials",
        )
    counts = np.where(parts > 0, np.maximum(np.floor(parts * n_trials + 1e-9), 1), 0).astype(
        np.int64
    )
    counts[np.argmax(parts)] += n_trials - counts.sum()
    if counts.min() < 0 or np.any((counts == 0) & (parts > 0)):
        raise DataError(
            "too few trials to split",
            found=f"{n_trials} trials",
            remedy="fewer parts, e.g. (1, 0, 0), or more trials",
        )
    return counts
