"""A trained model with what it knows of its sessions, and its one form as bytes (safetensors, never a pickle)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from metadyn.config import ModelConfig
from metadyn.errors import ModelFileError
from metadyn.model.build import build_model
from metadyn.model.meta_ssm import MetaSSM
from metadyn.records import ModelFile, SessionEntry, Source

ARCHITECTURE, FORMAT = "MetaSSM", 1


@dataclass(frozen=True)
class Frame:
    """Mean latents of each condition, (condition, time, latent), by which a new session finds the common frame.

    weight_var (latent,): variance of the training readouts, the prior of a new one.
    """

    labels: tuple[str, ...]
    latents: np.ndarray
    weight_var: np.ndarray


@dataclass(frozen=True)
class TrainedModel:
    """`module` holds one row of session-specific weights per entry of `sessions`; `data` the options its bins were made with."""

    module: MetaSSM
    config: ModelConfig
    bin_width: float
    sessions: tuple[SessionEntry, ...]
    data: dict = field(default_factory=dict)
    frame: Frame | None = None

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
        config = {
            "format": FORMAT,
            "architecture": ARCHITECTURE,
            "bin_width": self.bin_width,
            "model": self.config.model_dump(mode="json"),
            "sessions": [asdict(entry) for entry in self.sessions],
            "data": self.data,
            "frame": list(self.frame.labels) if self.frame else None,
        }
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.module.state_dict().items()}
        if self.frame:
            tensors["frame.latents"] = torch.as_tensor(self.frame.latents, dtype=torch.float32)
            tensors["frame.weight_var"] = torch.as_tensor(self.frame.weight_var, dtype=torch.float32)
        weights = save(tensors, metadata={"metadyn": json.dumps(config)})
        digest = "sha256:" + hashlib.sha256(weights).hexdigest()
        return ModelFile(ARCHITECTURE, config, weights, digest, self.sessions)

    @staticmethod
    def from_file(file: ModelFile) -> TrainedModel:
        """Build the registered architecture and fill it strictly; nothing of the file is ever executed."""
        if file.architecture != ARCHITECTURE or file.config.get("format") != FORMAT:
            raise ModelFileError(
                "the stored model is of an architecture or format that this version does not know",
                found=f"{file.architecture}, format {file.config.get('format')}",
                remedy=f"this version reads {ARCHITECTURE}, format {FORMAT}: install the version that wrote the file",
            )
        try:
            config = ModelConfig(**file.config["model"])
            tensors = load(file.weights)
            frame = _frame(file.config.get("frame"), tensors)
            module = build_model(config, [entry.n_units for entry in file.sessions])
            module.load_state_dict(tensors, strict=True)
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as problem:
            raise ModelFileError(
                "the stored model cannot be rebuilt", found=str(problem), remedy="fetch the file anew"
            ) from problem
        data = file.config.get("data", {})
        return TrainedModel(module, config, file.config["bin_width"], file.sessions, data, frame)

    def with_module(self, module: MetaSSM) -> TrainedModel:
        return replace(self, module=module)


def _frame(labels: Sequence[str] | None, tensors: dict[str, torch.Tensor]) -> Frame | None:
    latents, weight_var = tensors.pop("frame.latents", None), tensors.pop("frame.weight_var", None)
    return Frame(tuple(labels), latents.numpy(), weight_var.numpy()) if labels else None


def session_entries(config: dict) -> tuple[SessionEntry, ...]:
    """The sessions of a stored configuration."""
    return tuple(
        SessionEntry(entry["key"], entry["n_units"], tuple(entry["unit_rows"]), Source(**entry["source"]))
        for entry in config["sessions"]
    )
