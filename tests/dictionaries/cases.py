"""Small dictionaries of every kind, with random parameters and examples in float64, for the tests of kinds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import BY_K, KINDS, Dictionary
from interp_jax.dictionaries.judged import Situation

B, D, F = 7, 5, 12
SHAPE = {"d_in": D, "n_features": F, "most": 4, "k": 3, "prefixes": (0.25, 0.5, 1.0), "sparsity": 0.3, "target": 2.0}
PLAIN = [kind for kind in KINDS if kind != "cross_layer"]  # which has a file of tests of its own
CASES = [Dictionary(kind=kind, **SHAPE) for kind in PLAIN]
CASES += [Dictionary(kind="jumprelu", penalty=penalty, **SHAPE) for penalty in ("tanh", "target")]
CASES += [Dictionary(kind="jumprelu", thresholds="linear", **SHAPE)]
CASES += [Dictionary(kind=kind, pieces=5, **SHAPE) for kind in ("standard", "p_anneal", "gated")]
CASES += [Dictionary(kind="jumprelu", penalty="tanh", pieces=5, **SHAPE)]
CASES += [dataclasses.replace(case, products="sparse") for case in CASES if case.kind in BY_K[:-1]]
PROGRESS = 0.6


def named(case):
    return "-".join((case.kind, case.penalty, case.products, case.thresholds, str(case.pieces)))


def made(case, seed=0):
    """Random parameters and examples, in float64 within the context."""
    params = dictionary.init(jax.random.key(seed), case)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    leaves = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), jax.tree.unflatten(tree, leaves))
    params |= (
        {"threshold": jnp.abs(params["threshold"])} if case.thresholds == "linear" and case.kind == "jumprelu" else {}
    )
    if dictionary.has_unit_rows(case):
        params["W_dec"] = params["W_dec"] / jnp.linalg.norm(params["W_dec"], axis=1, keepdims=True)
    x = jnp.asarray(np.random.default_rng(seed).normal(size=(B, D)))
    return params, x


def situation(n_dead=0):
    return Situation(jnp.asarray(PROGRESS), jnp.arange(F) < n_dead)
