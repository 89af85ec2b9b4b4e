"""A linear probe, and how well it tells examples of a concept from others.

    z = x · w + b                                   says yes where z > 0

    precision = both / said     recall = both / there     F1 = 2 both / (said + there)     accuracy = share that is right

with `there` the examples of the concept, `said` those that the probe says yes to, and `both` what is in both; each may be
weighted. A score of nothing (no example, nothing said) is 0.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Linear(NamedTuple):
    """Weights and bias; leading axes are those of the concepts."""

    weights: Float[Array, "*C D"]
    bias: Float[Array, "*C"]


class Scores(NamedTuple):
    """See the module; leading axes are those of the concepts."""

    accuracy: Float[Array, "*C"]
    precision: Float[Array, "*C"]
    recall: Float[Array, "*C"]
    f1: Float[Array, "*C"]


def logits(probe: Linear, x: Float[Array, "N D"]) -> Float[Array, "*C N"]:
    """Z of every example, by concept."""
    return jnp.einsum("...d,nd->...n", probe.weights, x, precision="highest") + probe.bias[..., None]


def scored(
    said: Bool[Array, "*C N"], there: Bool[Array, "*#C N"], weights: Float[Array, " N"] | float = 1.0
) -> Scores:
    """Of what was said of examples, by concept; axes of `there` that are 1 serve all."""
    total = lambda x: (weights * x).sum(-1)
    share = lambda a, b: a / jnp.maximum(b, jnp.finfo(jnp.float32).tiny)
    n_said, n_there, n_both = total(said), total(there), total(said & there)
    return Scores(
        share(total(said == there), total(jnp.ones(said.shape))),
        share(n_both, n_said),
        share(n_both, n_there),
        share(2 * n_both, n_said + n_there),
    )
