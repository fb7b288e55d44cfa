"""A trained model inside a file: provenance, configuration and, optionally, the exact bytes of its
weights."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from hdmf.backends.hdf5 import H5DataIO
from hdmf.data_utils import DataIO
from hdmf.utils import AllowPositional, docval, get_data_shape
from pynwb.core import NWBDataInterface

from ndx_metadyn import weights as stored
from ndx_metadyn.containers.arguments import optional
from ndx_metadyn.containers.registry import neurodata_type
from ndx_metadyn.containers.tables import TrainingAssetsTable


@neurodata_type("LatentDynamicsModel", standalone=True)
class LatentDynamicsModel(NWBDataInterface):
    """A trained model: provenance, configuration, training data and, optionally, its weights.

    Nothing in it is executed: `tensors` and `settings` check bytes and JSON and raise
    `ndx_metadyn.WeightsError` before anything is allocated or built.

    Parameters
    ----------
    name, description : text.
    architecture : name that readers look up in `ndx_metadyn.weights.ARCHITECTURES`.
    source_software, source_software_version : the software that defines the model.
    digest : "sha256:<hex>" of the checkpoint's bytes.
    config : configuration, a JSON object.
    checkpoint_uris : where the checkpoint is, in order of preference.
    weights : (byte,) uint8, the bytes of a safetensors file.
    training_assets : TrainingAssetsTable of the files that it was trained on.

    >>> model = LatentDynamicsModel(description="An LDS.", config='{"bin_width": 0.05}')
    >>> model.settings()
    {'bin_width': 0.05}
    """

    __nwbfields__ = (
        "description",
        "architecture",
        "source_software",
        "source_software_version",
        "digest",
        "config",
        "checkpoint_uris",
        "weights",
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
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(name=kwargs.pop("name"))
        for field, value in kwargs.items():
            setattr(self, field, value)

    @classmethod
    def from_safetensors(
        cls,
        source: bytes | bytearray | memoryview | str | Path,
        config: dict,
        description: str,
        architecture: str,
        *,
        max_bytes: int = stored.MAX_BYTES,
        **fields: Any,
    ) -> LatentDynamicsModel:
        """A model that carries its weights; the digest is taken of their bytes.

        Parameters
        ----------
        source : the bytes of a safetensors file, or its path.
        config : configuration, stored as JSON.
        description, architecture, fields : as of the class.
        max_bytes : refuse more than that; above 50 MB there is a warning.

        Raises
        ------
        WeightsError : the bytes are no safetensors or too many, or the config names code.
        """
        if isinstance(source, (bytes, bytearray, memoryview)):
            data = bytes(source)
        else:
            data = Path(source).read_bytes()
        stored.parse_tensors(data, max_bytes)
        text = json.dumps(config, allow_nan=False)
        stored.parse_config(text)
        if len(data) > stored.WARN_BYTES:
            warnings.warn(
                f"the weights add {len(data):,} bytes to every file that holds them; "
                "consider checkpoint_uris",
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
        """The stored safetensors file.

        Raises
        ------
        WeightsError : there is none, it is no row of bytes, or it has more than `max_bytes` (which
            is found before anything is read).
        """
        if self.weights is None:
            uris = None if self.checkpoint_uris is None else list(self.checkpoint_uris)
            raise stored.WeightsError(
                f"model '{self.name}' is stored without weights",
                found=f"checkpoint_uris {uris}",
                remedy="fetch the checkpoint yourself; nothing is fetched unasked",
            )
        values = self.weights.data if isinstance(self.weights, DataIO) else self.weights
        shape = get_data_shape(values)
        dtype = getattr(values, "dtype", np.dtype(np.uint8))
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
                f"model '{self.name}' has no digest to verify", expected="sha256:<hex>"
            )
        stored.check_digest(self.weights_bytes(max_bytes), self.digest)

    def tensors(self, max_bytes: int = stored.MAX_BYTES) -> dict[str, np.ndarray]:
        """The weights by name, as numpy arrays.

        Raises
        ------
        WeightsError : as `weights_bytes` does, and where the bytes do not have the digest (if there
            is one) or are no valid safetensors file.
        """
        data = self.weights_bytes(max_bytes)
        if self.digest is not None:
            stored.check_digest(data, self.digest)
        return stored.parse_tensors(data, max_bytes)

    def settings(self) -> dict:
        """The configuration.

        Raises
        ------
        WeightsError : there is none, it is no JSON object of bounded size, or it names code.
        """
        if self.config is None:
            raise stored.WeightsError(f"model '{self.name}' is stored without a config")
        return stored.parse_config(self.config)
