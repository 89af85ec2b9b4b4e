"""How sure a model is of the declared label: its logit less the mean of the others', which no added constant changes.

odds_n = logit_n(label_n) - mean over other labels of logit_n            it does not saturate, as log p does
strongest_n = logit_n(label_n) - the largest of the others           below 0 where it answers something else
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def odds(logits: Float[Array, "N C"], labels: Int[Array | np.ndarray, " N"]) -> Float[Array, " N"]:
    """Against the mean of the others."""
    own = jax.nn.one_hot(labels, logits.shape[1])
    return ((own - (1 - own) / (logits.shape[1] - 1)) * logits).sum(-1)


def strongest(logits: Float[Array, "N C"], labels: Int[Array | np.ndarray, " N"]) -> Float[Array, " N"]:
    """Against the largest of the others."""
    own = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    return jnp.where(own, logits, 0.0).sum(-1) - jnp.where(own, -jnp.inf, logits).max(-1)
