"""Linear discriminant analysis (Fisher 1936), from moments; of two classes: mass-mean with Σ⁻¹ (Marks and Tegmark 2023).

    Σ = S/n - Σ_c π_c (μ_c - x̄)(μ_c - x̄)ᵀ         Σ_α = (1-α) Σ + α tr(Σ)/D I            (Ledoit and Wolf 2004)
    two classes, y [B]            θ = Σ_α⁻¹ (μ₊ - μ₋), and z the log-odds along it: `discriminant.py`
    classes, y [B C]              z_c = μ_c·Σ_α⁻¹ x - μ_c·Σ_α⁻¹ μ_c / 2 + log π_c

Where classes are Gaussian, of one covariance, no probe is better (α = 0).
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax.probes.discriminant import Discriminant, along, between
from interp_jax.probes.linear import Linear, predict
from interp_jax.probes.moments import moments_like
from interp_jax.probes.positive import solve
from interp_jax.probes.probe import Probe
from interp_jax.probes.targets import BINARY, CLASSES


class Hypers(NamedTuple):
    """`shrinkage` is α, in 0 … 1; above 0 where features depend on each other."""

    shrinkage: Float[Array, "*H"] | float = 1e-3


def from_moments(m: Any, hypers: Hypers) -> Discriminant | Linear:
    """Of one target of 0 and 1, or of classes."""
    if m.cross.ndim == 1:
        _, delta, within = between(m)
        within = shrunk(within, hypers.shrinkage)
        return along(m, solve(within, delta[:, None])[:, 0], within)
    tiny = jnp.finfo(m.cross.dtype).tiny
    shares = jnp.clip(m.target_mean, 0.0, 1.0)
    away = m.cross.T / (m.count * jnp.maximum(shares, tiny))[:, None]
    means = m.mean + away
    within = m.scatter / m.count - jnp.matmul(away.T * shares, away, precision="highest")
    weights = solve(shrunk(within, hypers.shrinkage), means.T).T
    bias = jnp.log(jnp.maximum(shares, tiny)) - (weights * means).sum(1) / 2
    return Linear(weights, bias)


def shrunk(covariance: Float[Array, "D D"], share: Float[Array, ""] | float) -> Float[Array, "D D"]:
    """Σ_α."""
    d = len(covariance)
    return (1 - share) * covariance + share * jnp.trace(covariance) / d * jnp.eye(d, dtype=covariance.dtype)


def fit(
    key: Any, x: Float[Array, "B D"], y: Float[Array, "B *C"], w: Float[Array, " B"], hypers: Hypers
) -> Discriminant | Linear:
    """The probe.

    Args:
      key: not used.
      x: what is read.
      y: 0 or 1; or 1 for the own class and else 0.
      w: of examples.
      hypers: the shrinkage.
    """
    return from_moments(moments_like(x, y, w), hypers)


PROBE = Probe(fit, predict, BINARY, from_moments)
OF_CLASSES = Probe(fit, predict, CLASSES, from_moments)
