"""A session's first readout, read-in and latents, and the same ones in other coordinates.

y ≈ link(C z + D) and z ≈ W (y − ȳ) + o: y (unit,) the counts of a bin, ȳ their mean, z (latent,).
Latents are known up to an affine map z' = A z + b, which turns C into C A⁻¹, D into D − C A⁻¹ b,
W into A W and o into A o + b. Section 3.1 of Vermani et al., arXiv:2410.05454, eq. 10.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from metadyn.data.storage import Storage

Weights = Float[np.ndarray, "unit latent"]


@dataclass(frozen=True)
class SessionInit:
    """What one session's weights are set to before any training step.

    weight : C of the readout.
    bias : D of the readout.
    mean, sd : of each unit's counts, by which the read-in standardises them.
    projection : W of the read-in.
    log_var : log variance of the observation noise; used by the Gaussian likelihood alone.
    latents : from smoothed counts; without meaning in padding.
    offset : o, the latents of a bin in which every unit fires at its mean.
    """

    weight: Weights
    bias: Float[np.ndarray, " unit"]
    mean: Float[np.ndarray, " unit"]
    sd: Float[np.ndarray, " unit"]
    projection: Float[np.ndarray, "latent unit"]
    log_var: Float[np.ndarray, " unit"]
    latents: Float[np.ndarray, "trial time latent"]
    offset: Float[np.ndarray, " latent"]

    def rotated(self, rotation: Float[np.ndarray, "latent latent"]) -> SessionInit:
        """The same session with latents R z; R is orthogonal."""
        return self.mapped(rotation, np.zeros(len(rotation)))

    def mapped(
        self, matrix: Float[np.ndarray, "latent latent"], offset: Float[np.ndarray, " latent"]
    ) -> SessionInit:
        """The same session with latents A z + b; A has full rank."""
        weight = self.weight @ np.linalg.inv(matrix)
        latents = self.latents @ matrix.T + offset  # (trial, time, latent)
        return replace(
            self,
            weight=weight,
            bias=self.bias - weight @ offset,
            projection=matrix @ self.projection,
            latents=latents.astype(np.float32),
            offset=matrix @ self.offset + offset,
        )

    def scaled(self, factor: float) -> SessionInit:
        """The same session with latents factor · z."""
        n_latents = len(self.offset)
        return self.mapped(factor * np.eye(n_latents), np.zeros(n_latents))

    def stored(self, storage: Storage) -> SessionInit:
        """The same session, its latents in that storage."""
        return replace(self, latents=storage(self.latents))
