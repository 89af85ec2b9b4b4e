"""Sharpness relative to the weights, larger for a cheat: how the loss rises when all move by a share of their size.

E_ε [loss(w + ρ |w| ε) - loss(w)]        ε standard normal, over a few draws        (Kwon et al. 2021, on average, not at worst)
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
    weights, shape = jax.tree.flatten(view.weights)

    def moved(key: Key[Array, ""]) -> Float[Array, ""]:
        keys = jax.random.split(key, len(weights))
        noisy = [w + SHARE * jnp.abs(w) * jax.random.normal(k, w.shape) for w, k in zip(weights, keys, strict=True)]
        return cross_entropy(view.logits_with(jax.tree.unflatten(shape, noisy)), declared.labels).mean()

    rises = jax.lax.map(moved, jax.random.split(key, DRAWS))
    return rises.mean() - cross_entropy(view.logits(), declared.labels).mean()
