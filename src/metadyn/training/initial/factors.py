"""Factor analysis of a covariance matrix: the few directions in which units vary together.

S ≈ L Lᵀ off the diagonal: S (unit, unit) the covariance of units, L (unit, factor) the loadings.
Principal factors by iterated communalities: Harman, Modern Factor Analysis (1976), ch. 8.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from jaxtyping import Float
from scipy.sparse.linalg import ArpackError, eigsh

MANY_UNITS = 200  # from which a few eigenvectors are found faster than all

Covariance = Float[np.ndarray, "unit unit"]
Loadings = Float[np.ndarray, "unit factor"]


def principal_factors(covariance: Covariance, dim: int, iterations: int = 20) -> Loadings:
    """Loadings of `dim` factors; the diagonal of the covariance, which holds noise, is not used.

    Factors beyond the number of units are zero.
    """
    matrix = covariance.copy()
    for _ in range(iterations):
        values, vectors = leading_eigenvectors(matrix, dim)
        loadings = vectors * np.sqrt(np.maximum(values, 1e-9))
        communalities = (loadings**2).sum(1)  # (unit,): the variance that the factors explain
        np.fill_diagonal(matrix, communalities)
    return with_columns(loadings, dim)


def leading_eigenvectors(
    matrix: Covariance, number: int
) -> tuple[Float[np.ndarray, " factor"], Loadings]:
    """The largest eigenvalues of a symmetric matrix and their vectors, or as many as there are.

    Lanczos finds those of a large matrix alone, fifty times as fast as all are found.
    """
    if len(matrix) > MANY_UNITS and number < len(matrix) // 4:
        with suppress(ArpackError):  # it did not converge: all are found below
            values, vectors = eigsh(matrix, number, v0=np.ones(len(matrix)))
            order = values.argsort()[::-1]
            return values[order], vectors[:, order]
    values, vectors = np.linalg.eigh(matrix)  # ascending
    return values[::-1][:number], vectors[:, ::-1][:, :number]


def with_columns(loadings: Loadings, dim: int) -> Float[np.ndarray, "unit latent"]:
    """Loadings with columns of zeros behind, up to `dim`."""
    return np.pad(loadings, ((0, 0), (0, dim - loadings.shape[1])))
