"""Spectral signatures: one direction in which examples of equal label and variables fall apart (Tran et al. 2018).

    concentration = mean over layers of λ_max(M) / tr M        M = Σ_ref⁻¹ Σ of what the declared rule leaves: `within.py`
    score = concentration - concentration with the rule's variables dealt out at random

Examples of one class that a model tells apart by something else lie along a line; what is left of a rule that is
followed has no such line.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.view import View
from interp_jax.diagnosis.within import largest, strangeness

TIER, COST = 1, 6


def concentration(M: Float[Array, "L D D"]) -> Float[Array, " L"]:
    """The largest eigenvalue's share."""
    return largest(M) / jnp.maximum(jnp.trace(M, axis1=1, axis2=2), 1e-12)


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """See the module."""
    own, dealt = (concentration(M).mean() for M in strangeness(view, declared, key))
    return own - dealt
