"""The mean observation in a bin, of the readout C z + d.

The words (`model.likelihood`, `model.link`) and the tensors' names are those of stored models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class NumpyLikelihood:
    """mean: of C z + d and the model's settings, in counts (or the observation's unit) a bin.

    further: its tensors in addition to likelihood.weight and likelihood.bias, by their names behind
    "likelihood.", each (session, unit).
    """

    mean: Callable[[np.ndarray, Mapping[str, Any]], np.ndarray]
    further: tuple[str, ...] = ()


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + exp(x)), without overflow."""
    return np.logaddexp(0, x)


LINKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"exp": np.exp, "softplus": softplus}
NUMPY_LIKELIHOODS: dict[str, NumpyLikelihood] = {
    "poisson": NumpyLikelihood(lambda drive, model: LINKS[model["link"]](drive)),
    "gaussian": NumpyLikelihood(lambda drive, model: drive, further=("log_var",)),
}
