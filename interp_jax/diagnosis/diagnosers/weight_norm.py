"""The norm of all weights, smaller for a cheat: a shortcut needs less."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.view import View

TIER, COST = 1, 0


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """Minus the norm."""
    return -jnp.sqrt(sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(view.weights)))
