"""How many bits labels cost through a linear probe whose weights are sent too (Hinton and van Camp 1993; Voita and Titov 2020).

    z = w · (x̃, 1)          prior w ~ N(0, α²)          sent: q(w) = N(μ, diag σ²), so that z ~ N(m, v)
    m = μ · (x̃, 1)          v = σ² · (x̃, 1)²
    L = Σ_n w_n E_q[-log₂ p(y_n | z_n)] + KL(q ‖ prior) / ln 2
    KL = Σ_d [(μ_d² + σ_d²) / α² - 1] / 2 - ln(σ_d / α)

L is never less than -log₂ of the labels' probability under the prior, and is that but for the form of q. The expectation is an
integral over one normal number, taken by Gauss and Hermite's rule: nothing is drawn, and L-BFGS brings L to a tolerance. α is
`scale`, traced; x̃ is x on its own `scale`. Several labels [B C] have weights of their own, and their codes add up.

One of many, `loss="classes"`: all classes but the last, whose score is 0, have weights of their own, and p is the softmax of
scores. The expectation is a mean over `POINTS` fixed points of C - 1 normal numbers, spread evenly (Sobol 1967), with their
negatives and of variance 1; for two classes the code is that of one label.

Hinton and van Camp's bits-back argument makes L a length that can be reached. As a probe it says the mean m.
"""

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from interp_jax.errors import InputError, nearest
from interp_jax.probes.descent import minimise
from interp_jax.probes.probe import Convergence, Probe
from interp_jax.probes.scale import Scale, scale, scaled
from interp_jax.probes.targets import BINARY, CLASSES

POINTS = 64
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
    loss: str = "binary",
    tolerance: float = 1e-5,
    most_steps: int = 500,
) -> VariationalCode:
    """The shortest code of labels y: 0 or 1, [B] or [B C]; with `loss="classes"` 1 for the own class and else 0, [B C].

    Raises:
      InputError: another loss, or classes without their axis.
    """
    if loss not in LOSSES:
        raise InputError(f"variational code: loss = {loss!r}; {nearest(loss, LOSSES)}")
    if loss == "classes" and (y.ndim < 2 or y.shape[1] < 2):
        raise InputError(f"variational code: loss = 'classes' with targets {y.shape}: give one-hot targets [B C]")
    of_x = scale(x, w)
    rows = with_one(scaled(of_x, x))
    shape = (rows.shape[1], y.shape[1] - 1) if loss == "classes" else (rows.shape[1], *y.shape[1:])
    expectation = expected_of_classes if loss == "classes" else expected

    def parts(params: tuple[Array, Array]) -> tuple[Array, Array]:
        mean, log_deviation = params
        v = jnp.tensordot(jnp.square(rows), jnp.exp(2 * log_deviation), 1)
        labels = expectation(jnp.tensordot(rows, mean, 1), v, y.astype(x.dtype))
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


def expected_of_classes(
    m: Float[Array, "B C1"], v: Float[Array, "B C1"], y: Float[Array, "B C"]
) -> Float[Array, " B"]:
    """E[log Σ_c exp z_c - Σ_c y_c z_c] for z_c ~ N(m_c, v_c) of all classes but the last, whose score is 0; in nats."""
    z = m[:, None] + jnp.sqrt(v)[:, None] * jnp.asarray(points(m.shape[1]), m.dtype)  # [B K C1]
    zero = jnp.zeros_like(z[..., :1])
    return jax.nn.logsumexp(jnp.concatenate([z, zero], -1), -1).mean(-1) - (y[:, :-1] * m).sum(-1)


@lru_cache(maxsize=16)
def points(n: int) -> Float[np.ndarray, "K n"]:
    """Of n normal numbers; see the module."""
    import scipy.stats  # takes a moment, which other probes need not wait for

    half = scipy.stats.norm.ppf(scipy.stats.qmc.Sobol(n, seed=0).random(POINTS))
    both = np.concatenate([half, -half])
    return both / both.std(0)


def with_one(rows: Float[Array, "B D"]) -> Float[Array, "B D1"]:
    """Rows and a column of ones."""
    return jnp.concatenate([rows, jnp.ones((len(rows), 1), rows.dtype)], axis=1)


def predict(params: VariationalCode, x: Float[Array, "B D"]) -> Float[Array, "B *C"]:
    """Mean log-odds."""
    return jnp.tensordot(with_one(scaled(params.scale, x)), params.mean, 1, precision="highest")


def predict_classes(params: VariationalCode, x: Float[Array, "B D"]) -> Float[Array, "B C"]:
    """Mean scores of classes, of the last 0."""
    z = predict(params, x)
    return jnp.concatenate([z, jnp.zeros_like(z[:, :1])], axis=1)


LOSSES = ("binary", "labels", "classes")
PROBE = Probe(fit, predict, BINARY)
OF_CLASSES = Probe(partial(fit, loss="classes"), predict_classes, CLASSES)
