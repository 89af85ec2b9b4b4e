"""The geometry of the declared rule's variables: whether values that differ by as much lie as far apart (Nanda et al. 2023).

    G_uv = (μ_u - μ̄) · (μ_v - μ̄)        μ_u the mean stream of examples in which the variable is u
    R²   of G_uv, u < v, by means over pairs with the same |u - v|, adjusted for their number: 0 by chance
    score = -mean over variables of Σ_sites w R² / Σ_sites w        w the share of the site's variance between the means

Who computes with numbers, sums or counts or logarithms, comes to lay them out as a line or as circles, where G depends on the
difference alone; a table has no use for that. The same examples are parted in the same way whether a variable counts or
only names: probes cannot tell, this does. Variables with fewer than five values have no part in it.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.view import View

TIER, COST = 1, 2
LEAST = 5  # values
SITES = ("blocks.resid_pre", "blocks.resid_post")


def regularity(means: Float[Array, "*S K D"], values: Int[np.ndarray, " K"]) -> Float[Array, "*S"]:
    """Adjusted R² of the similarities of means by the difference of their values."""
    about = means - means.mean(-2, keepdims=True)
    first, second = np.triu_indices(len(values), 1)
    G = jnp.einsum("...ud,...vd->...uv", about, about, precision="highest")[..., first, second]
    kinds, own = np.unique(np.abs(values[first] - values[second]), return_inverse=True)
    same = own[:, None] == np.arange(len(kinds))
    fitted = G @ jnp.asarray((same / same.sum(0)) @ same.T, G.dtype)
    left = jnp.square(G - fitted).sum(-1) / (len(G.T) - len(kinds))
    whole = jnp.square(G - G.mean(-1, keepdims=True)).sum(-1) / (len(G.T) - 1)
    return 1 - left / jnp.maximum(whole, 1e-12)


def of_variable(x: Float[Array, "S N D"], variable: Int[np.ndarray, " N"]) -> Float[Array, ""]:
    """Mean over sites, by how much of each the variable explains."""
    values = np.unique(variable)
    z = jnp.asarray(np.asarray(variable)[:, None] == values, x.dtype)
    means = jnp.einsum("nk,snd->skd", z / z.sum(0), x)
    about = x - x.mean(1, keepdims=True)
    between = jnp.square((means - x.mean(1, keepdims=True)) * jnp.sqrt(z.sum(0))[:, None]).sum((1, 2))
    share = between / jnp.maximum(jnp.square(about).sum((1, 2)), 1e-9)
    chance = (len(values) - 1) / (x.shape[1] - 1)
    weight = jnp.maximum(share - chance, 0.0)
    return (weight * regularity(means, values)).sum() / jnp.maximum(weight.sum(), 1e-9)


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """See the module."""
    counted = [np.asarray(v) for v in declared.variables.values() if len(np.unique(v)) >= LEAST]
    if not counted:
        return jnp.zeros(())
    x = jnp.concatenate(list(view.record(SITES)[1].values()))  # [2L N P D]
    x = x.swapaxes(1, 2).reshape(-1, x.shape[1], x.shape[3])
    return -jnp.stack([of_variable(x, variable) for variable in counted]).mean()
