"""A trained model with what it knows of its sessions, and its one form as bytes (safetensors, never
a pickle)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from metadyn.choices import FLOWS, class_at
from metadyn.config import ModelConfig, TrainingConfig
from metadyn.errors import ModelFileError
from metadyn.model.build import build_model
from metadyn.model.file_names import name_in_file
from metadyn.model.meta_ssm import MetaSSM
from metadyn.old_words import as_in_format_1, beyond_format_1
from metadyn.records import ModelFile, SessionEntry

ARCHITECTURE = "MetaSSM"
FORMATS = (1, 2)  # of 0.1.0, and with keys that it does not know (`old_words.NEW_KEYS`)
SHARED_TENSORS = ("latent_sd", "weight_var", "latents", "centers", "trial_spread")


@dataclass(frozen=True)
class SharedLatents:
    """What the training sessions have in common, by which a new session finds the model's latent
    space.

    latent_sd (latent,): SD of their latents; weight_var (latent,): variance of their readouts, the
    prior of a new one; labels and latents (condition, time, latent): the mean latents of each
    condition, NaN behind the bins that enough of its windows have, empty where they share none;
    centers (session, latent): mean latent of each training session; trial_spread (latent, latent):
    covariance within sessions of a trial's mean latent. Models of before these two were kept know
    no center.
    """

    latent_sd: np.ndarray
    weight_var: np.ndarray
    labels: tuple[str, ...]
    latents: np.ndarray
    centers: np.ndarray
    trial_spread: np.ndarray


@dataclass(frozen=True)
class TrainedModel:
    """`module` holds one row of session-specific weights per entry of `sessions`; `data` the
    options its bins came of."""

    module: MetaSSM
    config: ModelConfig
    bin_width: float
    sessions: tuple[SessionEntry, ...]
    shared_latents: SharedLatents
    training: TrainingConfig = field(default_factory=TrainingConfig)
    data: dict = field(default_factory=dict)

    def index(self, session: str) -> int:
        """Row of a session; a ModelFileError lists those there are."""
        keys = [entry.key for entry in self.sessions]
        if session not in keys:
            raise ModelFileError(
                f"the model knows no session {session!r}",
                found=", ".join(keys),
                remedy="metadyn align MODEL FILE -o MODEL2, or name the file as one of these: KEY=FILE",
            )
        return keys.index(session)

    def file(self) -> ModelFile:
        """The model as bytes; the digest covers weights and configuration."""
        model = self.config.model_dump(mode="json")
        model["changed_layers"] = list(
            self.config.changed_layers or self.module.dynamics.flow.changed
        )
        config = {
            "format": 2 if beyond_format_1("model", model) else 1,
            "architecture": ARCHITECTURE,
            "bin_width": self.bin_width,
            "model": as_in_format_1("model", model),
            "sessions": [asdict(entry) for entry in self.sessions],
            "training": as_in_format_1("training", self.training.model_dump(mode="json")),
            "data": self.data,
            "conditions": list(self.shared_latents.labels),
            "condition_bins": np.isfinite(self.shared_latents.latents).all(-1).sum(1).tolist(),
        }
        tensors = {
            name_in_file(name): tensor.detach().cpu().contiguous()
            for name, tensor in self.module.state_dict().items()
        }
        for name in SHARED_TENSORS:
            tensors[f"frame.{name}"] = torch.as_tensor(
                getattr(self.shared_latents, name), dtype=torch.float32
            ).nan_to_num()
        weights = save(tensors, metadata={"metadyn": json.dumps(config)})
        digest = "sha256:" + hashlib.sha256(weights).hexdigest()
        return ModelFile(ARCHITECTURE, config, weights, digest, self.sessions)

    @staticmethod
    def from_file(file: ModelFile) -> TrainedModel:
        """Build the registered architecture and fill it strictly; nothing of the file is ever
        executed."""
        if file.architecture != ARCHITECTURE or file.config.get("format") not in FORMATS:
            raise ModelFileError(
                "the stored model is of an architecture or format that this version does not know",
                found=f"{file.architecture}, format {file.config.get('format')}",
                remedy=f"this version reads {ARCHITECTURE}, formats {' and '.join(map(str, FORMATS))}: install the version that wrote the file",
            )
        try:
            config = without_usual_layers(ModelConfig(**file.config["model"]))
            tensors = {name: tensor.float() for name, tensor in load(file.weights).items()}
            if not all(tensor.isfinite().all() for tensor in tensors.values()):
                raise ValueError("weights that are NaN or infinite")
            parts = {
                name: tensors.pop(f"frame.{name}").numpy()
                for name in SHARED_TENSORS
                if f"frame.{name}" in tensors
            }
            parts.setdefault("centers", np.zeros((0, config.latent_dim), np.float32))
            parts.setdefault("trial_spread", np.diag(parts["latent_sd"] ** 2))
            for latents, n_bins in zip(
                parts["latents"], file.config.get("condition_bins", ()), strict=False
            ):
                latents[int(n_bins) :] = np.nan
            shared = SharedLatents(labels=tuple(file.config["conditions"]), **parts)
            training = TrainingConfig(**file.config["training"])
            with torch.device(
                "meta"
            ):  # sizes that the file claims cost no memory before its tensors bear them out
                module = build_model(config, [entry.n_units for entry in file.sessions])
            names = {name_in_file(name): name for name in module.state_dict()}
            renamed = {names.get(name, name): tensor for name, tensor in tensors.items()}
            module.load_state_dict(renamed, strict=True, assign=True)
            bin_width, data = float(file.config["bin_width"]), file.config.get("data", {})
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as problem:
            raise ModelFileError(
                "the stored model cannot be rebuilt",
                found=str(problem),
                remedy="fetch the file anew",
            ) from problem
        return TrainedModel(module, config, bin_width, file.sessions, shared, training, data)


def without_usual_layers(config: ModelConfig) -> ModelConfig:
    """The configuration that names no changed layers where they are the flow's own choice, which
    files write out."""
    place, _ = FLOWS[config.dynamics]
    usual = config.changed_layers == class_at(place).changed
    return config.model_copy(update={"changed_layers": None}) if usual else config


def session_entries(config: dict) -> tuple[SessionEntry, ...]:
    """The sessions of a stored configuration."""
    return tuple(SessionEntry.from_json(entry) for entry in config["sessions"])
