"""How many bits labels cost through a linear probe whose weights are sent too (Hinton and van Camp 1993; Voita and Titov 2020).

    z = w · (x̃, 1)          prior w ~ N(0, α²)          sent: q(w) = N(μ, diag σ²), so that z ~ N(m, v)
    m = μ · (x̃, 1)          v = σ² · (x̃, 1)²
    L = Σ_n w_n E_q[-log₂ p(y_n | z_n)] + KL(q ‖ prior) / ln 2
    KL = Σ_d [(μ_d² + σ_d²) / α² - 1] / 2 - ln(σ_d / α)

L is never less than -log₂ of the labels' probability under the prior, and is that but for the form of q. The expectation is an
integral over one normal number, taken by Gauss and Hermite's rule: nothing is drawn, and L-BFGS brings L to a tolerance. α is
`scale`, traced; x̃ is x on its own `scale`. Several labels [B C] have weights of their own, and their codes add up.

Hinton and van Camp's bits-back argument makes L a length that can be reached. As a probe it says the mean m.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from interp_jax.probes.descent import minimise
from interp_jax.probes.probe import Convergence, Probe
from interp_jax.probes.scale import Scale, scale, scaled
from interp_jax.probes.targets import BINARY

NODES, SHARES = np.polynomial.hermite_e.hermegauss(32)


class Hypers(NamedTuple):
    """Traced: α."""

    scale: Float[Array, ""] | float = 1.0


class VariationalCode(NamedTuple):
    """What is sent.

    Attributes:
      mean: μ, of the bias last.
      deviation: σ.
      scale: of what is read.
      bits: L, of all labels together.
      bits_of_weights: the part of it that tells the weights.
      convergence: how the fit ended.
    """

    mean: Float[Array, "D1 *C"]
    deviation: Float[Array, "D1 *C"]
    scale: Scale
    bits: Float[Array, ""]
    bits_of_weights: Float[Array, ""]
    convergence: Convergence


def fit(
    key: Key[Array, ""],
    x: Float[Array, "B D"],
    y: Array,
    w: Float[Array, " B"],
    hypers: Hypers,
    tolerance: float = 1e-5,
    most_steps: int = 500,
) -> VariationalCode:
    """The shortest code of labels y, 0 or 1, [B] or [B C]."""
    of_x = scale(x, w)
    rows = with_one(scaled(of_x, x))
    shape = (rows.shape[1], *y.shape[1:])

    def parts(params: tuple[Array, Array]) -> tuple[Array, Array]:
        mean, log_deviation = params
        v = jnp.tensordot(jnp.square(rows), jnp.exp(2 * log_deviation), 1)
        labels = expected(jnp.tensordot(rows, mean, 1), v, y.astype(x.dtype))
        inside = (jnp.square(mean) + jnp.exp(2 * log_deviation)) / jnp.square(hypers.scale)
        divergence = (inside - 1) / 2 - log_deviation + jnp.log(hypers.scale)
        return (w * labels.reshape(len(w), -1).sum(1)).sum(), divergence.sum()

    start = jnp.zeros(shape, x.dtype), jnp.full(shape, jnp.log(hypers.scale) - jnp.log1p(w.sum()) / 2, x.dtype)
    found, convergence = minimise(lambda params: sum(parts(params)) / w.sum(), start, tolerance, most_steps)
    with jax.default_matmul_precision("highest"):
        labels, weights = (nats / np.log(2) for nats in parts(found))
    return VariationalCode(found[0], jnp.exp(found[1]), of_x, labels + weights, weights, convergence)


def expected(m: Float[Array, "B *C"], v: Float[Array, "B *C"], y: Float[Array, "B *C"]) -> Float[Array, "B *C"]:
    """E[log(1 + exp z) - y z] for z ~ N(m, v), in nats."""
    z = m[..., None] + jnp.sqrt(v)[..., None] * jnp.asarray(NODES, m.dtype)
    return jax.nn.softplus(z) @ jnp.asarray(SHARES / SHARES.sum(), m.dtype) - y * m


def with_one(rows: Float[Array, "B D"]) -> Float[Array, "B D1"]:
    """Rows and a column of ones."""
    return jnp.concatenate([rows, jnp.ones((len(rows), 1), rows.dtype)], axis=1)


def predict(params: VariationalCode, x: Float[Array, "B D"]) -> Float[Array, "B *C"]:
    """Mean log-odds."""
    return jnp.tensordot(with_one(scaled(params.scale, x)), params.mean, 1, precision="highest")


PROBE = Probe(fit, predict, BINARY)
