"""A trained model, the sessions that it knows, and its one form as bytes (safetensors).

A file holds the tensors by their names (`file_names`) and, as JSON, what they belong to. It speaks
the words of version 0.1.0 (`old_words`), which reads what is of format 1.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from metadyn.config import ModelConfig, TrainingConfig
from metadyn.errors import ModelFileError
from metadyn.latent_blocks import LatentBlocks
from metadyn.model.build import build_model, flow_class
from metadyn.model.file_names import name_in_file
from metadyn.model.meta_ssm import MetaSSM
from metadyn.old_words import as_in_format_1, beyond_format_1
from metadyn.records import ModelFile, SessionEntry

ARCHITECTURE = "MetaSSM"
FORMATS = (1, 2)  # of 0.1.0, and with keys that it does not know (`old_words.NEW_KEYS`)
SHARED_TENSORS = ("latent_sd", "weight_var", "latents", "centers", "trial_spread")


@dataclass(frozen=True)
class SharedLatents:
    """What the latents of the training sessions have in common, by which a new one is placed.

    latent_sd : SD of the latents, (latent,).
    weight_var : variance of the sessions' readouts, the prior of a new one, (latent,).
    labels : condition labels that all sessions have; none where they share none.
    latents : mean latents of each condition, (condition, time, latent); NaN behind the bins that
    enough of its trials have.
    centers : mean latent of each training session, (session, latent); no session in models of
    before 0.1.0.
    trial_spread : covariance within sessions of a trial's mean latent, (latent, latent).
    """

    latent_sd: np.ndarray
    weight_var: np.ndarray
    labels: tuple[str, ...]
    latents: np.ndarray
    centers: np.ndarray
    trial_spread: np.ndarray

    def tensors(self) -> dict[str, Tensor]:
        """Its arrays by their names in a file; NaN as 0."""
        return {
            f"frame.{name}": torch.as_tensor(getattr(self, name), dtype=torch.float32).nan_to_num()
            for name in SHARED_TENSORS
        }

    def condition_bins(self) -> list[int]:
        """Bins in which each condition's mean latents are known."""
        return np.isfinite(self.latents).all(-1).sum(1).tolist()

    @staticmethod
    def taken_from(tensors: dict[str, Tensor], config: dict) -> SharedLatents:
        """Those of a file, whose tensors lose theirs; KeyError where one is missing."""
        names = [name for name in SHARED_TENSORS if f"frame.{name}" in tensors]
        arrays = {name: tensors.pop(f"frame.{name}").numpy() for name in names}
        if "centers" not in arrays:  # before 0.1.0
            arrays["centers"] = np.zeros((0, len(arrays["latent_sd"])), np.float32)
            arrays["trial_spread"] = np.diag(arrays["latent_sd"] ** 2)
        # A file has 0 for NaN.
        for latents, n_bins in zip(
            arrays["latents"], config.get("condition_bins", ()), strict=False
        ):
            latents[int(n_bins) :] = np.nan
        return SharedLatents(labels=tuple(config["conditions"]), **arrays)


@dataclass(frozen=True)
class TrainedModel:
    """A module with all that is needed to use it on other data.

    module : its tensors of sessions have one row for each of `sessions`.
    bin_width : of the bins that it was trained on [s].
    data : options of the configuration's section [data] that the bins were made with.
    """

    module: MetaSSM
    config: ModelConfig
    bin_width: float
    sessions: tuple[SessionEntry, ...]
    shared_latents: SharedLatents
    training: TrainingConfig = field(default_factory=TrainingConfig)
    data: dict = field(default_factory=dict)

    @property
    def latent_blocks(self) -> LatentBlocks:
        """The labels of the latent axis."""
        return LatentBlocks.single(self.config.latent_dim)

    def index(self, session: str) -> int:
        """Row of a session; a ModelFileError lists those there are."""
        keys = [entry.key for entry in self.sessions]
        if session not in keys:
            raise ModelFileError(
                f"the model knows no session {session!r}",
                found=", ".join(keys),
                remedy="metadyn align MODEL FILE -o MODEL2, "
                "or name the file as one of these: KEY=FILE",
            )
        return keys.index(session)

    def file(self) -> ModelFile:
        """The model as bytes, with a digest of all of them."""
        config = self._config()
        # In memory of the host, and in one piece each, as the format wants them
        tensors = {
            name_in_file(name): tensor.detach().cpu().contiguous()
            for name, tensor in self.module.state_dict().items()
        }
        tensors |= self.shared_latents.tensors()
        weights = save(tensors, metadata={"metadyn": json.dumps(config)})
        digest = "sha256:" + hashlib.sha256(weights).hexdigest()
        return ModelFile(ARCHITECTURE, config, weights, digest, self.sessions)

    def _config(self) -> dict[str, Any]:
        """What a file says of its tensors, in its own words."""
        model = self.config.model_dump(mode="json")
        # Written out, so that a reader needs to know no flow's own choice
        model["changed_layers"] = list(
            self.config.changed_layers or flow_class(self.config).changed
        )
        training = self.training.model_dump(mode="json")
        return {
            "format": 2 if beyond_format_1("model", model) else 1,
            "architecture": ARCHITECTURE,
            "bin_width": self.bin_width,
            "model": as_in_format_1("model", model),
            "sessions": [asdict(entry) for entry in self.sessions],
            "training": as_in_format_1("training", training),
            "data": self.data,
            "conditions": list(self.shared_latents.labels),
            "condition_bins": self.shared_latents.condition_bins(),
        }

    @staticmethod
    def from_file(file: ModelFile) -> TrainedModel:
        """Rebuild a model; nothing of the file is ever executed.

        Raises
        ------
        ModelFileError : the file is of a format that this version does not know, or its parts do
            not fit one another.
        """
        if file.architecture != ARCHITECTURE or file.config.get("format") not in FORMATS:
            formats = " and ".join(map(str, FORMATS))
            raise ModelFileError(
                "the stored model is of an architecture or format that this version does not know",
                found=f"{file.architecture}, format {file.config.get('format')}",
                remedy=f"this version reads {ARCHITECTURE}, formats {formats}: "
                "install the version that wrote the file",
            )
        try:
            return rebuilt(file)
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as problem:
            raise ModelFileError(
                "the stored model cannot be rebuilt",
                found=str(problem),
                remedy="fetch the file anew",
            ) from problem


def rebuilt(file: ModelFile) -> TrainedModel:
    """The model of a file; any of several errors where it cannot be."""
    tensors = {name: tensor.float() for name, tensor in load(file.weights).items()}
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise ValueError("weights that are NaN or infinite")
    shared_latents = SharedLatents.taken_from(tensors, file.config)
    config = without_usual_layers(ModelConfig(**file.config["model"]))
    # On the device "meta", sizes that a file only claims cost no memory.
    with torch.device("meta"):
        module = build_model(config, [entry.n_units for entry in file.sessions])
    # A tensor that the model has not keeps its name in the file, by which the error calls it.
    names = {name_in_file(name): name for name in module.state_dict()}
    renamed = {names.get(name, name): tensor for name, tensor in tensors.items()}
    module.load_state_dict(renamed, strict=True, assign=True)
    return TrainedModel(
        module,
        config,
        float(file.config["bin_width"]),
        file.sessions,
        shared_latents,
        TrainingConfig(**file.config["training"]),
        file.config.get("data", {}),
    )


def without_usual_layers(config: ModelConfig) -> ModelConfig:
    """The configuration, with no changed layers named where they are the flow's own choice."""
    usual = config.changed_layers == flow_class(config).changed
    return config.model_copy(update={"changed_layers": None}) if usual else config


def session_entries(config: dict) -> tuple[SessionEntry, ...]:
    """The sessions of a stored configuration."""
    return tuple(SessionEntry.from_json(entry) for entry in config["sessions"])
