"""Linear discriminant of classes with equal priors (Fisher 1936; Rao 1948), by one factorisation for all targets and penalties.

    Σ = S/n - Σ_c (n_c/n) δ_c δ_cᵀ + λ s I        δ_c = x̄_c - x̄; covariance within classes, and a share of s = tr S / (n D)
    z_c = (x - x̄) · Σ⁻¹ δ_c - ½ δ_cᵀ Σ⁻¹ δ_c      the largest is said; each class counts alike, however rare

    Σ⁻¹ = A⁻¹ + A⁻¹ U (I - Uᵀ A⁻¹ U)⁻¹ Uᵀ A⁻¹     A = S/n + λ s I = V diag(a) Vᵀ,  U = [√(n_c/n) δ_c]      (Woodbury 1950)

Rows of no class, all of whose targets are 0, count as a class of their own that is never said.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax.probes.linear import Linear, predict
from interp_jax.probes.moments import moments
from interp_jax.probes.positive import solve
from interp_jax.probes.probe import Probe, Target
from interp_jax.probes.targets import share

NEVER = -1e30  # score of a class without examples


class Hypers(NamedTuple):
    """`penalty` is λ, above 0."""

    penalty: Float[Array, "*H"] | float = 1e-3


class Measures(NamedTuple):
    """`balanced`: mean over classes of the share that is told right; rows of no class do not count."""

    balanced: Float[Array, "..."]


def measure(z: Float[Array, "B C"], y: Float[Array, "B C"], w: Float[Array, " B"]) -> Measures:
    """Of the largest score."""
    right = (z.argmax(1) == y.argmax(1)).astype(z.dtype)
    return Measures(jnp.nanmean(share((w * right) @ y, w @ y)))


def from_moments(m: Any, hypers: Hypers) -> Linear:
    """Of moments of rows and of targets that are 1 for the own class."""
    n_of = m.target_mean  # shares of rows
    delta = (m.cross / m.count) / jnp.where(n_of > 0, n_of, 1.0)  # [D C]
    none = jnp.maximum(1 - n_of.sum(), 0.0)
    rest = -(delta @ n_of) / jnp.where(none > 0, none, 1.0)
    U = jnp.concatenate([jnp.sqrt(n_of) * delta, (jnp.sqrt(none) * rest)[:, None]], axis=1)
    values, vectors = jnp.linalg.eigh(m.scatter / m.count)
    values = jnp.maximum(values, 0.0)
    a = values + hypers.penalty * values.mean()
    highest = lambda a, b: jnp.matmul(a, b, precision="highest")
    of = highest(vectors.T, jnp.concatenate([delta, U], axis=1)) / jnp.sqrt(a)[:, None]
    d, u = of[:, : delta.shape[1]], of[:, delta.shape[1] :]
    inner = jnp.eye(u.shape[1], dtype=u.dtype) - highest(u.T, u)
    d = d + highest(u, solve(inner + jnp.finfo(u.dtype).eps * jnp.eye(len(inner), dtype=u.dtype), highest(u.T, d)))
    weights = highest(vectors, d / jnp.sqrt(a)[:, None])  # [D C]
    bias = -0.5 * (delta * weights).sum(0) - m.mean @ weights
    return Linear(weights.T, jnp.where(n_of > 0, bias, NEVER))


def fit(key: Any, x: Float[Array, "B D"], y: Float[Array, "B C"], w: Float[Array, " B"], hypers: Hypers) -> Linear:
    """The discriminant.

    Args:
      key: not used.
      x: what is read.
      y: 1 for the own class, else 0.
      w: of examples.
      hypers: the penalty.
    """
    return from_moments(moments(x, y, w), hypers)


PROBE = Probe(fit, predict, Target(measure), from_moments)
