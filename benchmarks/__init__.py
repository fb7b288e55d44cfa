"""Experiments too long for the tests; what they measured is kept in results/."""

import os

import metadyn  # noqa: F401 - sets how threads wait, before torch is loaded

os.environ.setdefault("OMP_NUM_THREADS", "1")  # so that two runs share two cores fairly
