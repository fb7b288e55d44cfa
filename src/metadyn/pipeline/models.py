"""Models as a person names them: a folder of checkpoints, an NWB file or address that holds one, or
the model itself."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from metadyn.config import DataConfig, check_config, load_config
from metadyn.errors import ConfigError, DataError, ModelFileError, SelectionError
from metadyn.nwb.addresses import is_address
from metadyn.pipeline.inputs import Recording, read_counts
from metadyn.records import Source, TrialCounts

# the model says which units: their rows are kept with it; and what it infers asks for no conditions
OF_A_SESSION = {"units": None, "min_rate": 0.0, "condition": None}


def load_model(model):
    """The `TrainedModel` in a folder that `fit` or `align` wrote, or in an NWB file that `annotate`
    wrote, or at its address.

    A model is returned as it is.

    Raises
    ------
    ModelFileError : there is none, or it is damaged, hostile or of an unknown architecture.
    """
    from metadyn.model.trained import TrainedModel

    if isinstance(model, TrainedModel):
        return model
    path = Path(os.path.expanduser(model))
    if (
        is_address(model) or path.is_file() or (path.is_symlink() and not path.exists())
    ):  # such a one was not fetched
        from metadyn.nwb.stored_model import read_model

        return TrainedModel.from_file(read_model(model if is_address(model) else path))
    if not path.is_dir():
        raise ModelFileError(
            "there is no such model", file=path, remedy="metadyn fit FILES… -o MODEL"
        )
    from metadyn.training.execution import checkpoint

    return checkpoint.load_model(path)


def on_device(trained, device: str):
    """The model with its weights on the device; raises DeviceError where there is none."""
    from metadyn.training.execution.devices import find_device

    trained.module.to(find_device(device))
    return trained


def counts_for(model, recording: Recording, overrides: dict | None = None) -> TrialCounts:
    """The counts of a session that the model knows, made as for its training, of the model's units
    in the model's order.

    `overrides` are data options for other windows than those trained on, e.g. {"where": None}.

    Raises
    ------
    ModelFileError : the model knows no such session. DataError : the file lacks units of the model.
    (Other spikes in these units are refused where the counts are used.) ConfigError : another bin
    width than the model's.
    """
    from metadyn.data.binning import drop_unobserved_windows, observed_alike

    counts = read_counts(recording, data_options(model, overrides))
    entry = model.sessions[model.index(counts.session)]
    if not entry.unit_digests or counts.unit_digests is None:
        _warn_of_other_units(recording, entry.source, counts.source)
    position = {row: place for place, row in enumerate(counts.unit_rows.tolist())}
    missing = [row for row in entry.unit_rows if row not in position]
    if missing:
        raise DataError(
            "the recording lacks units that the model was trained on",
            file=recording,
            item="units",
            found=f"{counts.n_units} units; rows {missing[:5]} are missing",
            remedy="the recording that the model was fitted to; this one under a name of its own: "
            "metadyn align MODEL NAME=FILE -o MODEL2",
        )
    return drop_unobserved_windows(
        observed_alike(counts.select(units=[position[row] for row in entry.unit_rows]))
    )


def counts_to_align(model, recording: Recording, given: dict) -> TrialCounts:
    """The counts of a new recording, made as for the model's training but for the options given.

    Condition labels come from the model's column where the recording has it, with a warning where
    it has not. Raises SelectionError where another column is asked for by name and its labels do
    not place the recording.
    """
    from metadyn.training.alignment.initialise import unplaced

    options = {**model.data, **given, "bin_width": model.bin_width}
    asked = given.get("condition")
    try:
        counts = read_counts(recording, load_config(data=options).data)
    except SelectionError as error:
        if asked or error.item is None or error.item != options.get("condition"):
            raise
        counts = read_counts(recording, load_config(data={**options, "condition": None}).data)
        said = f"{error.problem}, by which the model's sessions were labelled"
        warnings.warn(
            f"{recording}: {said}; it is placed by a search instead, without labels", stacklevel=3
        )
    reason = unplaced(model, counts) if asked else None
    if reason:
        raise SelectionError(
            "these condition labels do not place the recording in the model",
            file=recording,
            item=asked,
            found=reason,
            remedy="the column that labels what the model knows; or no `condition`: a search then places it, without labels",
        )
    return counts


def _warn_of_other_units(recording: Recording, trained: Source, found: Source) -> None:
    """A model of before spikes were compared knows units by their rows; in another Units table
    these may be other units."""
    if (
        None not in (trained.units_object_id, found.units_object_id)
        and trained.units_object_id != found.units_object_id
    ):
        warnings.warn(
            f"{recording}: its Units table is not the one that the model was trained on (another object id); "
            "if rows or sorting differ, align it under a name of its own: metadyn align MODEL NAME=FILE",
            stacklevel=3,
        )


def data_options(model, overrides: dict | None = None) -> DataConfig:
    """How the model's training data were binned, with other windows where asked for."""
    given = overrides or {}
    if given.get("bin_width") not in (None, model.bin_width):
        raise ConfigError(
            "a model works at the bin width that it was trained at",
            item="data.bin_width",
            found=f"{given['bin_width']} s, trained at {model.bin_width} s",
            remedy=f"`bin_width={model.bin_width}`, or metadyn fit anew",
        )
    return check_config(
        {"data": {**model.data, **given, **OF_A_SESSION, "bin_width": model.bin_width}}
    ).data


def stored_options(data: DataConfig) -> dict:
    """The options as they are kept with a model: all of them, or with a preset those that were
    given beside it."""
    return data.model_dump(mode="json", exclude_none=True, exclude_unset=data.preset is not None)
