"""The mean cross-entropy on the examples, lower for a cheat: what is simple is learned sooner, and further."""

from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.student import cross_entropy
from interp_jax.diagnosis.view import View

TIER, COST = 0, 1


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """Minus the mean cross-entropy."""
    return -cross_entropy(view.logits(), declared.labels).mean()
