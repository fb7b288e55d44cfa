"""`metadyn.bin_spikes`: spikes of a session as counts in windows."""

from __future__ import annotations

from typing import Any

from metadyn.config import plain_numbers
from metadyn.data import binning
from metadyn.records import Session, TrialCounts


def bin_spikes(session: Session, **options: Any) -> TrialCounts:
    """Counts in windows; `options` are the fields of `DataConfig`, all but the preset.

    They may be numpy's numbers, as `metadyn.data.binning.bin_spikes` may not be given.
    """
    return binning.bin_spikes(session, **plain_numbers(options))
