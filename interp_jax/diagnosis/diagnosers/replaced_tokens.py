"""Replaced tokens: what a model would answer if a token were that of another example, against what the declared rule would.

See `counterfactual_agreement.py`. A replacement changes what tokens there are, and asks for rules that exchanges leave alone.
"""

from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.counterfactual_agreement import by_position, disagreement
from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.view import View

TIER, COST = 2, 8


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """See the module."""
    return disagreement(view, declared, declared.replaced)


def positions(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, " P"]:
    """Where a replacement moves the model and not the rule."""
    return by_position(view, declared, declared.replaced)
