"""k-sparse probes: the k neurons or features that differ most between classes, and a line through them (Gurnee et al. 2023).

d_f = mean of x_f over examples of the class - mean over the others          those with the k largest |d_f| are chosen
score = Σ_i v_i x_{f(i)} + b          logistic regression on these alone, with penalty λ/2 ‖v‖²

x is whatever has columns that mean something: neurons, or a dictionary's features. k is traced, up to `most`; how accuracy
grows with it says in how many columns a variable lies.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from interp_jax.probes import logistic
from interp_jax.probes.probe import Convergence, Probe
from interp_jax.probes.targets import BINARY


class Hypers(NamedTuple):
    """Traced: k, and λ."""

    k: Int[Array, ""] | int = 1
    penalty: Float[Array, ""] | float = 1.0


class KSparse(NamedTuple):
    """The chosen columns, best first, their weights (0 from the k-th on), the bias, and how the fit ended."""

    columns: Int[Array, " most"]
    weights: Float[Array, " most"]
    bias: Float[Array, ""]
    convergence: Convergence


def mean_difference(x: Float[Array, "B F"], y: Array, w: Float[Array, " B"]) -> Float[Array, " F"]:
    """D, of every column; 0 where all examples are of one class."""
    one, other = w * (y > 0), w * ~(y > 0)
    n, others, tiny = one.sum(), other.sum(), jnp.finfo(x.dtype).tiny
    apart = one / jnp.maximum(n, tiny) - other / jnp.maximum(others, tiny)
    return jnp.where((n > 0) & (others > 0), jnp.matmul(apart, x, precision="highest"), 0.0)


def refit(
    columns: Int[Array, " most"],
    x: Float[Array, "B F"],
    y: Array,
    w: Float[Array, " B"],
    hypers: Hypers,
    tolerance: float = 1e-5,
    most_steps: int = 50,
) -> KSparse:
    """The line through the first k of some columns."""
    chosen = jnp.where(jnp.arange(len(columns)) < hypers.k, x[:, columns], 0.0)
    kept, target = logistic.Hypers(hypers.penalty), (y > 0).astype(x.dtype)
    probe = logistic.fit(None, chosen, target, w, kept, tolerance=tolerance, most_steps=most_steps)
    return KSparse(columns, probe.weights, probe.bias, probe.convergence)


def fit(
    key: Key[Array, ""],
    x: Float[Array, "B F"],
    y: Array,
    w: Float[Array, " B"],
    hypers: Hypers,
    most: int = 16,
    tolerance: float = 1e-5,
    most_steps: int = 50,
) -> KSparse:
    """The probe of labels y [B], of the class where they are above 0."""
    columns = jax.lax.top_k(jnp.abs(mean_difference(x, y, w)), min(most, x.shape[1]))[1]
    return refit(columns, x, y, w, hypers, tolerance, most_steps)


def predict(params: KSparse, x: Float[Array, "B F"]) -> Float[Array, " B"]:
    """Log-odds."""
    return jnp.matmul(x[:, params.columns], params.weights, precision="highest") + params.bias


PROBE = Probe(fit, predict, BINARY)
