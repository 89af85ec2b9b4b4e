"""Sharpness relative to the weights, larger for a cheat: how the loss rises when those behind the embedding move a little.

E_ε [loss(w + ρ |w| ε) - loss(w)]        w all but the embedding, ε standard normal, over a few draws

After Kwon et al. 2021, on average, not at worst.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.student import cross_entropy
from interp_jax.diagnosis.view import View

TIER, COST = 1, 9
SHARE, DRAWS = 0.1, 8


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """The mean rise."""
    behind = {name: part for name, part in view.weights.items() if name != "embed"}
    weights, shape = jax.tree.flatten(behind)

    def moved(key: Key[Array, ""]) -> Float[Array, ""]:
        keys = jax.random.split(key, len(weights))
        noisy = [w + SHARE * jnp.abs(w) * jax.random.normal(k, w.shape) for w, k in zip(weights, keys, strict=True)]
        other = {**view.weights, **jax.tree.unflatten(shape, noisy)}
        return cross_entropy(view.logits_with(other), declared.labels).mean()

    rises = jax.lax.map(moved, jax.random.split(key, DRAWS))
    return rises.mean() - cross_entropy(view.logits(), declared.labels).mean()
