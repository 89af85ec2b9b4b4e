"""Exchanged tokens: what a model would answer if two tokens changed places, against what the declared rule would.

See `counterfactual_agreement.py`. An exchange leaves what tokens there are as it is, and often makes an input of the kind.
"""

from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.counterfactual_agreement import by_position, disagreement
from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.view import View

TIER, COST = 2, 8


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """See the module."""
    return disagreement(view, declared, declared.exchanged)


def positions(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, " P"]:
    """Where an exchange moves the model and not the rule."""
    return by_position(view, declared, declared.exchanged)
