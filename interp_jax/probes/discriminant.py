"""The log-odds of two classes along a direction, from moments alone.

    π = ȳ      δ = μ₊ - μ₋ = S_xy / (n π (1-π))      Σ = S/n - π (1-π) δ δᵀ, the covariance within classes

    z = a (θ · x - θ · (μ₊+μ₋)/2) + log π/(1-π)        a = θ · δ / θ·Σθ

These are the log-odds of two Gaussians of one spread along θ; so any direction has scores in the same units, bits and a
threshold. Where θ = Σ⁻¹ δ, a is 1.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class Discriminant(NamedTuple):
    """A linear probe, with the classes that it is between.

    Attributes:
      weights, bias: z = x · weights + bias.
      difference: δ.
      norm: its length.
      separation: its length in units of a feature's spread within classes.
    """

    weights: Float[Array, "*C D"]
    bias: Float[Array, "*C"]
    difference: Float[Array, "*C D"]
    norm: Float[Array, "*C"]
    separation: Float[Array, "*C"]


def between(m: Any) -> tuple[Float[Array, ""], Float[Array, " D"], Float[Array, "D D"]]:
    """π, δ, and Σ, of one target of 0 and 1; δ is 0 where one class has no examples."""
    share = jnp.clip(m.target_mean, 0.0, 1.0)
    spread = share * (1 - share)
    difference = jnp.where(spread > 0, m.cross / (m.count * jnp.where(spread > 0, spread, 1.0)), 0.0)
    return share, difference, m.scatter / m.count - spread * difference[:, None] * difference[None, :]


def along(m: Any, theta: Float[Array, " D"], within: Float[Array, "D D"] | None = None) -> Discriminant:
    """The probe along a direction, of any length; Σ is that of the classes where it is not given."""
    share, delta, own = between(m)
    within = own if within is None else within
    tiny = jnp.finfo(theta.dtype).tiny
    theta = theta / jnp.maximum(jnp.linalg.norm(theta), tiny)
    spread = jnp.maximum(theta @ jnp.matmul(within, theta, precision="highest"), jnp.finfo(theta.dtype).eps ** 2)
    a = (theta @ delta) / spread
    prior = jnp.log(jnp.maximum(share, tiny)) - jnp.log(jnp.maximum(1 - share, tiny))
    norm, feature = jnp.linalg.norm(delta), jnp.sqrt(jnp.maximum(jnp.trace(own) / len(delta), tiny))
    bias = prior - a * (theta @ (m.mean + (0.5 - share) * delta))
    return Discriminant(a * theta, bias, delta, norm, norm / feature)
