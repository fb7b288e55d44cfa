"""Experiments too long for the tests; what they measured is kept in results/."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as the command line does, and so that two runs share two cores fairly
