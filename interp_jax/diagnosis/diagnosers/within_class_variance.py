"""Variance within classes at the answer, as a share of all variance, larger for a cheat (neural collapse: Papyan et al. 2020).

tr Σ_within / tr Σ        of the last stream at the last position, classes by the label
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.view import View

TIER, COST = 1, 1


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """The share."""
    _, seen = view.record({"blocks.resid_post": (view.cfg.n_layers - 1,)})
    x = seen["blocks.resid_post"][0, :, -1]
    own = jax.nn.one_hot(declared.labels, view.labels)
    means = (own.T @ x) / jnp.maximum(own.sum(0), 1.0)[:, None]
    within, total = jnp.square(x - own @ means).sum(), jnp.square(x - x.mean(0)).sum()
    return within / jnp.maximum(total, 1e-12)
