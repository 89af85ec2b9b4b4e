"""Probes of the declared rule's variables, beyond the label and each other, less what untrained twins give.

    said = mean over variables and layers ≥ 1 of R²(model) - R²(twins)          R² partial, left out: `left_out.py`
    score = -said                                                        who learned a rule has what it computes on its way

at the last position, where the answer is formed. A variable that is the label on all examples has no part in it; a rule
of which nothing is left scores 0. Twins have weights drawn anew: what of a variable the examples' tokens give away
to any network is no evidence.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.left_out import read
from interp_jax.diagnosis.twins import twins
from interp_jax.diagnosis.variables import parted
from interp_jax.diagnosis.view import View

TIER, COST = 1, 6
TWINS = 2
SITES = ("blocks.resid_mid", "blocks.resid_post")


def streams(view: View, position: int = -1) -> Float[Array, "S N D"]:
    """The stream at a position, in the middle and at the end of every layer."""
    _, seen = view.record([site for site in SITES if view.cfg.d_mlp or site != SITES[0]])
    return jnp.concatenate([there[:, :, position] for there in seen.values()])


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """See the module."""
    own, controls = streams(view), [streams(one) for one in twins(view, key, TWINS)]
    said = [
        (read(own, one) - sum(read(other, one) for other in controls) / TWINS).mean()
        for one in parted(declared).values()
        if one.share > 0
    ]
    return -jnp.stack(said).mean() if said else jnp.zeros(())
