"""How often the model contradicts the declared rule on the examples: 0 of all that pass, which is why one must look inside."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.view import View

TIER, COST = 0, 1


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """The share of examples that it answers otherwise."""
    return (view.logits().argmax(-1) != declared.labels).mean(dtype=jnp.float32)
