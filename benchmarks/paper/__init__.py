"""The paper's experiments on simulated data (Vermani et al., sections 2 and 5, App. A-C): python -m
benchmarks.paper NAME."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded; why: metadyn/__main__.py
