"""Mahalanobis distance from what the declared rule says, in the metric of untrained twins (after Lee et al. 2018).

    distance = mean over examples and layers of x⊥ᵀ Σ_ref⁻¹ x⊥ = mean of tr(Σ_ref⁻¹ Σ)                see `within.py`
    score    = log distance - log distance with the rule's variables dealt out at random

x⊥ is what of the last position's stream the rule's label and variables do not account for: the more, the stranger to the rule.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.view import View
from interp_jax.diagnosis.within import strangeness

TIER, COST = 1, 6


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """See the module."""
    own, dealt = (jnp.trace(M, axis1=1, axis2=2).mean() for M in strangeness(view, declared, key))
    return jnp.log(own + 1e-9) - jnp.log(dealt + 1e-9)
