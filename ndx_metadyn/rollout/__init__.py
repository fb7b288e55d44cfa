"""The stored generative model in numpy, without torch: embedding → dynamics → latents → rates.

    z_t = f(z_{t-1}; e) + noise of variance Q of the session     Vermani et al., arXiv:2410.05454
    y_t ~ likelihood(C z_t + d)

f is one of `flows`, e changes its layers as one of `conditionings` says, and `likelihoods` has what
the readout makes of C z + d: three tables, each independent of the others. Their words are those of
the config that is stored with a model.
"""

from ndx_metadyn.rollout.forecast import rollout
from ndx_metadyn.rollout.meta_ssm import ARCHITECTURE, NumpyMetaSSM, expected_shapes

__all__ = ["ARCHITECTURE", "NumpyMetaSSM", "expected_shapes", "rollout"]
