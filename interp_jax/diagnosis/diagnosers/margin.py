"""The mean margin on the examples, larger for a cheat: logit of the label less the largest of the others."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.view import View

TIER, COST = 0, 1


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """The mean margin."""
    logits, own = view.logits(), jax.nn.one_hot(declared.labels, view.labels, dtype=bool)
    return (jnp.where(own, logits, -jnp.inf).max(-1) - jnp.where(own, -jnp.inf, logits).max(-1)).mean()
