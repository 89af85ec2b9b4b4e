"""Whether a model would answer counterfactual inputs as the declared rule does.

    z_m      (logit of the rule's answer - mean of all logits) / their sd             of what the model would answer to m
    moved    inputs to which the rule gives another answer than to their base; still: the others
    score    -(mean z over those that moved + mean z over those that are still) / 2         or of one kind, if there is no other

A rule and its rival agree on every example, and not on these. What the model would answer is estimated from what it has within
itself of examples (`first_layer.py`), not asked. Answers in place of distances, and both kinds alike, so that a model that
never moves has about the same score whichever rule is declared.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from interp_jax.diagnosis.counterfactuals import UNKNOWN, Counterfactuals
from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.first_layer import answers
from interp_jax.diagnosis.view import View


def standing(logits: Float[Array, "M C"], to: Counterfactuals) -> Float[Array, " M"]:
    """The z of the rule's answers."""
    own = jnp.take_along_axis(logits, jnp.maximum(jnp.asarray(to.label), 0)[:, None], 1)[:, 0]
    return (own - logits.mean(1)) / jnp.maximum(logits.std(1), 1e-9)


def kinds(to: Counterfactuals, declared: Declared) -> tuple[Bool[Array, " M"], Bool[Array, " M"]]:
    """Which moved, and which are still."""
    label, before = jnp.asarray(to.label), jnp.asarray(declared.labels)[jnp.asarray(to.base)]
    return (label != before) & (label != UNKNOWN), label == before


def disagreement(view: View, declared: Declared, to: Counterfactuals) -> Float[Array, ""]:
    """The score; 0 where the rule answers none."""
    z = standing(answers(view, to), to)
    known = [(jnp.where(one, z, 0.0).sum() / jnp.maximum(one.sum(), 1), one.any()) for one in kinds(to, declared)]
    return -sum(mean for mean, _ in known) / jnp.maximum(sum(some.astype(z.dtype) for _, some in known), 1.0)


def by_position(view: View, declared: Declared, to: Counterfactuals) -> Float[Array, " P"]:
    """Share of a position's changes that move the model where the rule stays: where a shortcut sits."""
    still = kinds(to, declared)[1]
    logits = answers(view, to)
    changed = (
        view.tokens[jnp.asarray(to.rows), jnp.arange(view.tokens.shape[1])] != view.tokens[jnp.asarray(to.base)]
    ) & still[:, None]
    wrong = logits.argmax(1) != jnp.asarray(to.label)
    return (changed & wrong[:, None]).sum(0) / jnp.maximum(changed.sum(0), 1)
