"""A linear probe, and how well it tells examples of a concept from others.

    z = x · w + b                                   says yes where z > 0

    precision = both / said     recall = both / there     F1 = 2 both / (said + there)     accuracy = share that is right

with `there` the examples of the concept, `said` those that the probe says yes to, and `both` what is in both; each may be
weighted. A score of nothing (no example, nothing said) is 0.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from interp_jax.probes.probe import Convergence


class Linear(NamedTuple):
    """Weights and bias; leading axes are those of members.

    Attributes:
      weights: a vector, or one for each of C outputs.
      bias: one number, or C.
      convergence: how an iterative fit ended.
    """

    weights: Float[Array, "*C D"]
    bias: Float[Array, "*C"]
    convergence: Convergence | None = None


class Scores(NamedTuple):
    """See the module; leading axes are those of the concepts."""

    accuracy: Float[Array, "*C"]
    precision: Float[Array, "*C"]
    recall: Float[Array, "*C"]
    f1: Float[Array, "*C"]


def predict(probe: Any, x: Float[Array, "B D"]) -> Float[Array, "B *C"]:
    """Z of every example, by whatever has weights and a bias; by output where it has several."""
    return jnp.matmul(x, probe.weights.T, precision="highest") + probe.bias


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
