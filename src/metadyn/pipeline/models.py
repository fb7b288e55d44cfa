"""Models as a person names them: a folder, an NWB file or address that holds one, or the model."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from metadyn.config import DataConfig, check_config, load_config
from metadyn.errors import ConfigError, DataError, ModelFileError, SelectionError
from metadyn.nwb.addresses import is_address
from metadyn.pipeline.inputs import Recording, read_counts
from metadyn.records import Source, TrialCounts

if TYPE_CHECKING:
    from metadyn.model.trained import TrainedModel

# The rows of the units are kept with the model, and what it infers asks for no conditions
OF_A_SESSION = {"units": None, "min_rate": 0.0, "condition": None}


def load_model(model: TrainedModel | str | Path) -> TrainedModel:
    """The model that `fit` or `align` wrote into a folder, or `annotate` into an NWB file.

    Parameters
    ----------
    model : a folder, an NWB file or its address; a TrainedModel is returned as it is.

    Raises
    ------
    ModelFileError : there is none, or it is damaged, hostile or of an unknown architecture.
    """
    from metadyn.model.trained import TrainedModel

    if isinstance(model, TrainedModel):
        return model
    path = Path(os.path.expanduser(model))
    not_fetched = path.is_symlink() and not path.exists()  # as git-annex leaves a file
    if is_address(model) or path.is_file() or not_fetched:
        from metadyn.nwb.stored_model import read_model

        return TrainedModel.from_file(read_model(model if is_address(model) else path))
    if not path.is_dir():
        remedy = "metadyn fit FILES… -o MODEL"
        raise ModelFileError("there is no such model", file=path, remedy=remedy)
    from metadyn.training.execution import checkpoint

    return checkpoint.load_model(path)


def on_device(trained: TrainedModel, device: str) -> TrainedModel:
    """The model with its weights on the device; raises DeviceError where there is none."""
    from metadyn.training.execution.devices import find_device

    trained.module.to(find_device(device))
    return trained


def counts_for(
    model: TrainedModel, recording: Recording, overrides: dict | None = None
) -> TrialCounts:
    """The counts of a session that the model knows, binned as for its training.

    Units are the model's, in its order.

    Parameters
    ----------
    overrides : data options for other windows than those trained on, e.g. {"where": None}.

    Raises
    ------
    ModelFileError : the model knows no such session.
    DataError : the file lacks units of the model. (Other spikes in these units are refused where
        the counts are used.)
    ConfigError : another bin width than the model's.
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


def counts_to_align(model: TrainedModel, recording: Recording, given: dict) -> TrialCounts:
    """The counts of a new recording, binned as for the model's training but for options given.

    Condition labels come from the model's column where the recording has it, with a warning where
    it has not.

    Raises
    ------
    SelectionError : another column is asked for by name, and its labels do not place the recording.
    """
    from metadyn.training.alignment.initialise import why_not_by_conditions

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
    reason = why_not_by_conditions(model, counts) if asked else None
    if reason:
        raise SelectionError(
            "these condition labels do not place the recording in the model",
            file=recording,
            item=asked,
            found=reason,
            remedy="the column that labels what the model knows; or no `condition`: a search "
            "then places it, without labels",
        )
    return counts


def _warn_of_other_units(recording: Recording, trained: Source, found: Source) -> None:
    """Warn where the Units table is another one than the model was trained on.

    A model of before spikes were compared knows units by their rows alone.
    """
    if (
        None not in (trained.units_object_id, found.units_object_id)
        and trained.units_object_id != found.units_object_id
    ):
        warnings.warn(
            f"{recording}: its Units table is not the one that the model was trained on (another"
            f" object id); "
            "if rows or sorting differ, align it under a name of its own: metadyn align MODEL "
            "NAME=FILE",
            stacklevel=3,
        )


def data_options(model: TrainedModel, overrides: dict | None = None) -> DataConfig:
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
