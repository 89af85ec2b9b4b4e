"""Random dictionaries for the tests of formats: every parameter is random, and thresholds are positive."""

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary

D, F, B, K = 6, 16, 9, 3
WIDTHS = {"d_in": D, "n_features": F, "most": K, "k": K, "prefixes": (0.25, 1.0)}


def made(**changes):
    """Parameters and config."""
    cfg = Dictionary(**(WIDTHS | changes))
    cfg.check()
    params = dictionary.init(jax.random.key(0), cfg)
    rng = np.random.default_rng(1)
    params = {name: jnp.asarray(rng.normal(size=x.shape), jnp.float32) for name, x in params.items()}
    positive = {name: jnp.abs(x) for name, x in params.items() if name == "threshold"}
    return params | positive, cfg


def examples():
    return np.random.default_rng(2).normal(size=(B, D)).astype(np.float32)


def same(first, second):
    """Whether two sets of parameters are the same bits."""
    assert first.keys() == second.keys()
    for name in first:
        a, b = np.asarray(first[name]), np.asarray(second[name])
        assert a.dtype == b.dtype and np.array_equal(a, b), name


def says(params, cfg, x):
    """Features and reconstruction."""
    return [np.asarray(y) for y in dictionary.reconstruct(params, jnp.asarray(x), cfg)][::-1]
