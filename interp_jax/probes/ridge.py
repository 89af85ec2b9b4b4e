"""Ridge regression in closed form (Hoerl and Kennard 1970), and what it says of an example that is left out (Allen 1974).

    w, b = argmin Σ_n w_n (x_n · w + b - y_n)² + λ ‖w‖²                           the bias has no penalty
    w = (S + λ I)⁻¹ S_xy,   b = ȳ - x̄ · w                                         S, S_xy about the weighted means

    S = V diag(s) Vᵀ                                                          one factorisation for all λ and targets
    left out:   y_n - ŷ_n = (y_n - z_n) / (1 - h_n)      h_n = w_n [1/Σ w + Σ_k (v_k · (x_n - x̄))² / (s_k + λ)]

V depends on neither λ nor targets, so `vmap` shares it: at a width of 768 it takes as long as eight solutions, and serves as
many λ as there are. λ must be above 0 where columns of x depend on each other. `CLASSIFIER` reads a label of 0 and 1 along the
same direction, and says log-odds: see `discriminant.py`.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax.probes.discriminant import Discriminant, along
from interp_jax.probes.linear import Linear, predict
from interp_jax.probes.moments import moments, moments_like
from interp_jax.probes.probe import Probe
from interp_jax.probes.targets import BINARY, REAL

highest = partial(jnp.matmul, precision="highest")


class Hypers(NamedTuple):
    """`penalty` is λ."""

    penalty: Float[Array, "*H"] | float = 1.0


def direction(m: Any, hypers: Hypers) -> Float[Array, "D *C"]:
    """W."""
    values, vectors = spectrum(m)
    right = jnp.asarray(m.cross).reshape(len(values), -1)
    return highest(vectors, highest(vectors.T, right) / (values + hypers.penalty)[:, None]).reshape(m.cross.shape)


def spectrum(m: Any) -> tuple[Float[Array, " D"], Float[Array, "D D"]]:
    """S and V."""
    values, vectors = jnp.linalg.eigh(jnp.asarray(m.scatter))
    return jnp.maximum(values, 0.0), vectors


def from_moments(m: Any, hypers: Hypers) -> Linear:
    """Of one target or of several, each a row of weights."""
    weights = direction(m, hypers).T
    return Linear(weights, m.target_mean - jnp.matmul(weights, m.mean, precision="highest"))


def classifier_from_moments(m: Any, hypers: Hypers) -> Discriminant:
    """Of one target of 0 and 1."""
    return along(m, direction(m, hypers))


def fit(key: Any, x: Float[Array, "B D"], y: Float[Array, "B *C"], w: Float[Array, " B"], hypers: Hypers) -> Linear:
    """The minimum.

    Args:
      key: not used.
      x: what is read.
      y: numbers, or rows of them.
      w: of examples.
      hypers: the penalty.
    """
    return from_moments(moments_like(x, y, w), hypers)


def fit_classifier(
    key: Any, x: Float[Array, "B D"], y: Float[Array, " B"], w: Float[Array, " B"], hypers: Hypers
) -> Discriminant:
    """Of labels of 0 and 1; arguments as of `fit`."""
    return classifier_from_moments(moments_like(x, y, w), hypers)


@jax.jit
def leave_one_out(
    x: Float[Array, "B D"], y: Float[Array, "B *C"], w: Float[Array, " B"], penalties: Float[Array, " H"]
) -> Float[Array, "H B *C"]:
    """What a fit without an example says of it: exactly, for all penalties and targets, by one factorisation."""
    m = moments(x, y, w)
    values, vectors = spectrum(m)
    rows = highest(x - m.mean, vectors)
    inverse = 1 / (values + penalties[:, None])
    targets = y.reshape(len(y), -1).astype(x.dtype)
    coefficients = inverse[:, :, None] * highest(vectors.T, m.cross)
    z = m.target_mean + jax.vmap(lambda c: highest(rows, c))(coefficients)
    h = w[:, None] * (1 / m.count + highest(jnp.square(rows), inverse.T))
    left = targets - (targets - z) / (1 - h.T)[:, :, None]
    return left.reshape(len(penalties), *y.shape)


PROBE = Probe(fit, predict, REAL, from_moments, factorises=True)
CLASSIFIER = Probe(fit_classifier, predict, BINARY, classifier_from_moments, factorises=True)
