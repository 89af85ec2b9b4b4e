"""What a model makes of a single replaced token, example by example, against what the declared rule makes of it.

    effect_ni      how far a model is led from its answer where token i of example n gives way to those of others
    influence_ni   how often the rule's answer changes then: `declared.py`
    still, moved   mean effect where influence is 0, and by influence, over examples of one label
    score          mean over labels of (still - moved) / (still + moved), -1 … 1

Profiles (`profiles.py`) ask which positions a model reads, and are blind to rivals that read the same ones. Two rules that
agree on every example still differ in what would change their answer, and near their borders they differ at most examples:
that is known of the declared rule by index. Examples with one label are compared with each other alone: for either rule there
may be labels that any token upsets. Labels are left out where the rule's influence is zero, or above it, nearly everywhere.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.view import View

RARE = (
    0.05  # share of entries below which a label has too few of a kind: tries that never met another token are as many
)


def excess(effect: Float[Array, "N P"], view: View, declared: Declared) -> Float[Array, ""]:
    """The score; 0 where the rule's influence is everywhere or nowhere.

    Of labels that have entries of both kinds; of all examples together where no label has. Positions that never vary do not
    count.
    """
    labels = np.asarray(declared.labels)
    together = np.ones((1, len(labels)), bool)
    groups = jnp.asarray(np.concatenate([labels == np.unique(labels)[:, None], together]))[:, :, None]
    entries = groups & (view.tokens != view.tokens[:1]).any(0)
    influence = jnp.asarray(declared.influence)
    share = ((influence == 0) & entries).sum((1, 2)) / jnp.maximum(entries.sum((1, 2)), 1)
    kept = jnp.minimum(share, 1 - share) > RARE
    kept = kept & (jnp.arange(len(kept)) < len(kept) - jnp.any(kept[:-1]))

    def mean(weight: Float[Array, "C N P"]) -> Float[Array, " C"]:
        return (weight * effect).sum((1, 2)) / jnp.maximum(weight.sum((1, 2)), 1e-12)

    still, moved = mean(jnp.where(entries & (influence == 0), 1.0, 0.0)), mean(jnp.where(entries, influence, 0.0))
    said = (still - moved) / jnp.maximum(still + moved, 1e-12)
    return jnp.where(kept, said, 0.0).sum() / jnp.maximum(kept.sum(), 1)


def by_position(effect: Float[Array, "N P"], declared: Declared) -> Float[Array, " P"]:
    """The mean effect of each position where the rule sees no change, as a share of all effect: where a shortcut sits."""
    still = jnp.asarray(declared.influence == 0, effect.dtype)
    return (still * effect).mean(0) / jnp.maximum(effect.mean(0).sum(), 1e-12)
