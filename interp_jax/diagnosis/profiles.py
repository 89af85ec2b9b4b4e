"""Where a model looks, against what the declared rule reads: distributions over positions, and how far they are apart.

    distance = ½ Σ_i |a_i - b_i|        a, b ≥ 0, each with sum 1: 0 for the same, 1 for nothing in common

Positions that hold the same token in all examples decide nothing and are left out. A profile that is zero everywhere is even.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.view import View


def distribution(weight: Float[Array, " P"], x: Int[Array, "N P"]) -> Float[Array, " P"]:
    """Weights of positions, none below 0, made to sum to 1 over those whose token varies."""
    varies = (x != x[:1]).any(0)
    weight = jnp.where(varies, jnp.maximum(weight, 0.0), 0.0)
    total = weight.sum()
    return jnp.where(total > 0, weight / jnp.where(total > 0, total, 1.0), varies / jnp.maximum(varies.sum(), 1))


def distance(weight: Float[Array, " P"], view: View, declared: Declared) -> Float[Array, ""]:
    """That of a model's weights of positions and the declared rule's influence."""
    rule = jnp.asarray(declared.influence).mean(0)
    return 0.5 * jnp.abs(distribution(weight, view.tokens) - distribution(rule, view.tokens)).sum()


def excess(weight: Float[Array, " P"], view: View, declared: Declared) -> Float[Array, " P"]:
    """What positions have more than the declared rule gives them: where a shortcut sits, if there is one."""
    rule = jnp.asarray(declared.influence).mean(0)
    return distribution(weight, view.tokens) - distribution(rule, view.tokens)


def others(view: View, declared: Declared, n: int) -> Int[Array, "n N"]:
    """For each example n others with another label, as far apart as may be in the order of the examples."""
    labels, rows = jnp.asarray(declared.labels), jnp.arange(view.n)
    differs = labels[:, None] != labels[None]
    # rotated, so that each example begins to look at another place
    order = (rows[None] + rows[:, None] * 7 + 1) % view.n
    ranked = jnp.argsort(~jnp.take_along_axis(differs, order, 1), axis=1, stable=True)
    steps = jnp.maximum(differs.sum(1) // n, 1)
    chosen = jnp.arange(n)[:, None] * steps[None]
    return jnp.take_along_axis(order, jnp.take_along_axis(ranked, chosen.T % view.n, 1), 1).T
