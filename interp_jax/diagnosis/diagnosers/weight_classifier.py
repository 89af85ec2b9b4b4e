"""A classifier of weights, trained on other families (after Kolouri et al. 2020, Langosco et al. 2024).

score = log-odds of a logistic regression on `weight_features.py`, standardised over its families, each of which weighs the same

It never saw the family that it judges, and its features do not depend on a family's size; what is there to be learned across
families is how weights lie to the declared rule.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.examination import Reference
from interp_jax.diagnosis.view import View
from interp_jax.diagnosis.weight_features import features
from interp_jax.probes import logistic

TIER, COST = 1, 2
PENALTY = 0.02  # of standardised weights, beside the mean loss


class Classifier(NamedTuple):
    """Weights of features as they come, and a bias."""

    weights: Float[np.ndarray, " Z"]
    bias: Float[np.ndarray, ""]


def fit(references: Sequence[Reference], key: Key[Array, ""]) -> Classifier:
    """From models of other families, each with either rule declared."""
    x, y, w = [], [], []
    for one in references:
        found = told(one)
        x.append(found.reshape(-1, found.shape[-1]))
        y.append(np.asarray(one.cheated, np.float64).reshape(-1))
        w.append(np.full(len(y[-1]), 1 / (len(y[-1]) * len(references))))
    rows, labels, weight = (np.concatenate(parts) for parts in (x, y, w))
    mean = weight @ rows
    size = np.sqrt(weight @ np.square(rows - mean))
    size = np.where(size > 1e-6, size, np.inf)
    n = len(rows)
    fitted = logistic.fit(
        None,
        jnp.asarray((rows - mean) / size, jnp.float32),
        jnp.asarray(labels, jnp.float32),
        jnp.asarray(weight * n, jnp.float32),
        logistic.Hypers(PENALTY * n),
    )
    weights = np.asarray(fitted.weights, np.float64) / size
    return Classifier(weights, np.asarray(fitted.bias, np.float64) - weights @ mean)


def told(reference: Reference) -> Float[np.ndarray, "R 2 Z"]:
    """Features of all its models with either rule declared."""
    own = reference.examinees

    def one(params: Any) -> Float[Array, "2 Z"]:
        view = View(params, own.cfg, own.labels, own.x, TIER, "weight classifier")
        return jnp.stack([features(view, declared) for declared in own.declared])

    return np.asarray(jax.jit(lambda params: jax.lax.map(one, params))(own.params), np.float64)


def score(view: View, declared: Declared, key: Key[Array, ""], classifier: Classifier) -> Float[Array, ""]:
    """The log-odds of a cheat."""
    return features(view, declared) @ jnp.asarray(classifier.weights, jnp.float32) + jnp.float32(classifier.bias)
