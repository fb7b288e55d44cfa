"""The model inside an NWB file.

It is written as bytes and JSON, read back through the checks of ndx_metadyn, and never executed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pynwb import NWBFile, ProcessingModule

from metadyn.errors import DataError, ModelFileError
from metadyn.nwb.addresses import Asset
from metadyn.nwb.opening import open_nwb
from metadyn.nwb.provenance import SOFTWARE, describe_source, public_uri, software_version
from metadyn.records import ModelFile, SessionEntry
from ndx_metadyn import LatentDynamicsModel, TrainingAssetsTable
from ndx_metadyn.weights import NoTwinError, build

# Key of the config's JSON under which the sessions that the model knows are kept
SESSIONS_KEY = "sessions"


def add_model(nwbfile: NWBFile, module: ProcessingModule, model: ModelFile) -> LatentDynamicsModel:
    """The file's model of this digest, which is added to the module if there is none."""
    for stored in models_in(nwbfile):
        if stored.digest == model.digest:
            return stored
    container = _container(model, _free_name(module))
    module.add(container)
    return container


def read_model(path: str | Path | Asset, name: str | None = None) -> ModelFile:
    """The model embedded in an NWB file.

    Its digest, header and config are checked, no code of it is run.

    Parameters
    ----------
    path : of the file, or its address.
    name : of the model; needed where the file holds several.

    Raises
    ------
    ModelFileError : there is no model (of that name), more than one and no name, or it is damaged
        or hostile.
    RemoteError : the file cannot be fetched.
    """
    try:
        with open_nwb(path) as nwbfile:
            return _to_model_file(_choose(list(models_in(nwbfile)), name, path), path)
    except DataError as error:
        found = f"{error.problem}: {error.found}"
        raise ModelFileError(
            "no model can be read from the file", file=path, found=found, remedy=error.remedy
        ) from error


def models_in(nwbfile: NWBFile) -> Iterator[LatentDynamicsModel]:
    """All models stored in the processing modules of a file."""
    for module in nwbfile.processing.values():
        for item in module.data_interfaces.values():
            if isinstance(item, LatentDynamicsModel):
                yield item


def _choose(
    models: list[LatentDynamicsModel], name: str | None, path: str | Path | Asset
) -> LatentDynamicsModel:
    """The one of a file's models that has the name, or the only one where no name is asked for.

    Raises
    ------
    ModelFileError : there is none, or there are several.
    """
    names = ", ".join(model.name for model in models) or "none"
    chosen = [model for model in models if name in (None, model.name)]
    if not chosen:
        raise ModelFileError(
            "the file holds no such model",
            file=path,
            item=name,
            found=f"models: {names}",
            remedy="a file that `metadyn annotate` wrote with its model, or a model folder",
        )
    if len(chosen) > 1:
        raise ModelFileError(
            "the file holds several models", file=path, found=names, remedy="name one of them"
        )
    return chosen[0]


def _to_model_file(stored: LatentDynamicsModel, path: str | Path | Asset) -> ModelFile:
    """The model of a file as the rest of the package takes it.

    Raises
    ------
    ModelFileError, WeightsError : its bytes do not have the digest, config and tensors do not fit
        each other, or a session's entry is damaged.
    """
    stored.verify()
    config = stored.settings()
    with suppress(NoTwinError):  # then torch alone can say whether settings and tensors fit
        build(stored.architecture, config, stored.tensors())
    sessions = tuple(_entry(values, path) for values in config.get(SESSIONS_KEY, []))
    return ModelFile(stored.architecture, config, stored.weights_bytes(), stored.digest, sessions)


def _entry(values: dict[str, Any], path: str | Path | Asset) -> SessionEntry:
    """A session that the model knows, from the config's JSON."""
    try:
        return SessionEntry.from_json(values)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            "the model's list of sessions is damaged",
            file=path,
            found=f"{type(error).__name__}: {error}",
        ) from None


def _container(model: ModelFile, name: str) -> LatentDynamicsModel:
    """The model as an NWB object of that name."""
    return LatentDynamicsModel.from_safetensors(
        model.weights,
        {**model.config, SESSIONS_KEY: [_session_json(entry) for entry in model.sessions]},
        description=f"Latent dynamics shared by {len(model.sessions)} sessions, with a read-in "
        "and a likelihood for each.",
        architecture=model.architecture,
        name=name,
        source_software=SOFTWARE,
        source_software_version=software_version(),
        training_assets=_training_assets(model),
    )


def _session_json(entry: SessionEntry) -> dict[str, Any]:
    """A session that the model knows, for the config's JSON."""
    return {
        **asdict(entry),
        "unit_rows": list(entry.unit_rows),
        "source": describe_source(entry.source),
    }


def _training_assets(model: ModelFile) -> TrainingAssetsTable | None:
    """The files whose sessions the model knows, one a row.

    None for fewer than two: a table of one row is against NWB's best practice.
    """
    known = [entry for entry in model.sessions if entry.source.uri]
    if len(known) < 2:
        return None
    table = TrainingAssetsTable(description="Files whose sessions the model knows.")
    have_digests = all(entry.source.digest for entry in known)
    for entry in known:
        digest = {"digest": entry.source.digest} if have_digests else {}
        table.add_row(uri=public_uri(entry.source.uri), input_key=entry.key, **digest)
    return table


def _free_name(module: ProcessingModule) -> str:
    """LatentDynamicsModel, or that with the first number from 2 on, that is not taken."""
    name = "LatentDynamicsModel"
    number = 1
    while name in module.data_interfaces:
        number += 1
        name = f"LatentDynamicsModel{number}"
    return name
