"""The rotation of a session's latents that its own movement determines.

T = Σ_t (z_t z_{t+1}ᵀ − z_{t+1} z_tᵀ), antisymmetric (latent, latent). The eigenvectors of i T come
in conjugate pairs, each a plane in which the latents turn at its eigenvalue's rate. This is the
antisymmetric part of jPCA: Churchland et al., Nature 487 (2012), 51–56.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Complex, Float

Rotation = Float[np.ndarray, "latent latent"]


def canonical_rotation(
    latents: Float[np.ndarray, "trial time latent"], observed: Bool[np.ndarray, "trial time"]
) -> Rotation:
    """The rotation to planes ordered by how fast latents turn in them, all turning one way.

    Factor analysis leaves signs and rotations free in each session. In two dimensions this settles
    whether the latents run clockwise, so that sessions can share dynamics.
    """
    _, vectors = np.linalg.eigh(1j * turning(latents, observed))
    vectors = vectors[:, ::-1]  # fastest first; the conjugates stand at the end
    # Each eigenvector is free up to a phase: its largest entry becomes real
    lead = vectors[np.abs(vectors).argmax(0), np.arange(len(vectors))]
    vectors = vectors * (np.conj(lead) / np.abs(lead))
    return nearest_rotation(planes_of(vectors))


def turning(
    latents: Float[np.ndarray, "trial time latent"], observed: Bool[np.ndarray, "trial time"]
) -> Rotation:
    """T of the equation above, over pairs of bins that were both observed."""
    both = (observed[:, 1:] & observed[:, :-1])[..., None]
    before = (latents[:, :-1] * both).reshape(-1, latents.shape[-1])  # (trial · time, latent)
    after = (latents[:, 1:] * both).reshape(-1, latents.shape[-1])
    return before.T @ after - after.T @ before


def planes_of(vectors: Complex[np.ndarray, "latent latent"]) -> Rotation:
    """Real and imaginary part of each eigenvector as two rows; the last of an odd number as one."""
    n_latents = len(vectors)
    half = n_latents // 2
    parts = [vectors[:, :half].real, vectors[:, :half].imag]
    planes = np.stack(parts, -1) * np.sqrt(2)  # (latent, plane, 2)
    remaining = vectors[:, half : n_latents - half].real  # (latent, 0 or 1)
    return np.concatenate([planes.reshape(n_latents, -1), remaining], 1).T


def nearest_rotation(matrix: Rotation) -> Rotation:
    """The nearest orthogonal matrix: planes in which nothing turns are not determined above."""
    left, _, right = np.linalg.svd(matrix)
    return left @ right
