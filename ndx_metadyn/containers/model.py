"""A trained model inside a file: provenance, configuration and, optionally, the exact bytes of its
weights."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
from hdmf.backends.hdf5 import H5DataIO
from hdmf.data_utils import DataIO
from hdmf.utils import AllowPositional, docval, get_data_shape
from pynwb import register_class
from pynwb.core import NWBDataInterface

from ndx_metadyn import NAMESPACE
from ndx_metadyn import weights as stored
from ndx_metadyn.containers.arguments import optional
from ndx_metadyn.containers.tables import TrainingAssetsTable


@register_class("LatentDynamicsModel", NAMESPACE)
class LatentDynamicsModel(NWBDataInterface):
    """A trained model: what it is, where its checkpoint is, what it was trained on and, optionally,
    its weights."""

    __nwbfields__ = (
        *("description", "architecture", "source_software", "source_software_version", "digest"),
        *("config", "checkpoint_uris", "weights"),
        {"name": "training_assets", "child": True, "required_name": "training_assets"},
    )

    @docval(
        {
            "name": "name",
            "type": str,
            "doc": "name of this model",
            "default": "LatentDynamicsModel",
        },
        {"name": "description", "type": str, "doc": "description of the model"},
        *optional(
            architecture=(str, "name of the architecture, looked up in a registry by readers"),
            source_software=(str, "software that defines the model"),
            source_software_version=(str, "version of that software"),
            digest=(str, "'sha256:<hex>' of the checkpoint's bytes"),
            config=(str, "configuration, a JSON object"),
            checkpoint_uris=(
                ("array_data", "data"),
                "where the checkpoint is, in order of preference",
            ),
            weights=(("array_data", "data"), "bytes of a safetensors file, uint8 (byte,)"),
            training_assets=(TrainingAssetsTable, "files the model was trained on"),
        ),
        allow_positional=AllowPositional.WARNING,
    )
    def __init__(self, **kwargs):
        super().__init__(name=kwargs.pop("name"))
        for field, value in kwargs.items():
            setattr(self, field, value)

    @classmethod
    def from_safetensors(
        cls,
        source,
        config: dict,
        description: str,
        architecture: str,
        *,
        max_bytes=stored.MAX_BYTES,
        **fields,
    ) -> LatentDynamicsModel:
        """A model that carries the weights `source`: the bytes of a safetensors file, or its path.

        `config` is stored as JSON, the digest is taken of the bytes, further `fields` are those of
        the class. Raises WeightsError for bytes that are no safetensors, a config that names code,
        or more than `max_bytes`; warns above 50 MB.
        """
        data = (
            bytes(source)
            if isinstance(source, (bytes, bytearray, memoryview))
            else Path(source).read_bytes()
        )
        stored.parse_tensors(data, max_bytes)
        text = json.dumps(config, allow_nan=False)
        stored.parse_config(text)
        if len(data) > stored.WARN_BYTES:
            warnings.warn(
                f"the weights add {len(data):,} bytes to every file that holds them; consider checkpoint_uris",
                stacklevel=2,
            )
        return cls(
            description=description,
            architecture=architecture,
            config=text,
            weights=H5DataIO(np.frombuffer(data, np.uint8), chunks=True, compression="gzip"),
            digest=stored.digest_of(data),
            **fields,
        )

    def weights_bytes(self, max_bytes: int = stored.MAX_BYTES) -> bytes:
        """The stored safetensors file; raises WeightsError where there is none or it exceeds
        `max_bytes` (before reading)."""
        if self.weights is None:
            raise stored.WeightsError(
                f"model '{self.name}' is stored without weights",
                found=f"checkpoint_uris {None if self.checkpoint_uris is None else list(self.checkpoint_uris)}",
                remedy="fetch the checkpoint yourself; nothing is fetched unasked",
            )
        values = self.weights.data if isinstance(self.weights, DataIO) else self.weights
        shape, dtype = get_data_shape(values), getattr(values, "dtype", np.dtype(np.uint8))
        if len(shape) != 1 or dtype != np.uint8:
            raise stored.WeightsError(
                "the weights are no row of bytes",
                found=f"{dtype} {shape}",
                expected="uint8 (byte,)",
            )
        stored.check_size(shape[0], max_bytes)
        return np.asarray(values[:], dtype=np.uint8).tobytes()

    def verify(self, max_bytes: int = stored.MAX_BYTES) -> None:
        """Raise WeightsError unless the digest is that of the stored weights."""
        if self.digest is None:
            raise stored.WeightsError(
                f"model '{self.name}' has no digest to verify", found=None, expected="sha256:<hex>"
            )
        stored.check_digest(self.weights_bytes(max_bytes), self.digest)

    def tensors(self, max_bytes: int = stored.MAX_BYTES) -> dict[str, np.ndarray]:
        """The weights by name, as numpy arrays; the digest, where there is one, is checked first.
        Raises WeightsError."""
        data = self.weights_bytes(max_bytes)
        if self.digest is not None:
            stored.check_digest(data, self.digest)
        return stored.parse_tensors(data, max_bytes)

    def settings(self) -> dict:
        """The configuration, bounded and free of import strings. Raises WeightsError."""
        if self.config is None:
            raise stored.WeightsError(f"model '{self.name}' is stored without a config")
        return stored.parse_config(self.config)
