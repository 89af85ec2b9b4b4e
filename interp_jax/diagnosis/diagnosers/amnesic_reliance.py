"""Amnesic reliance: what becomes of the answers where a variable of the declared rule is erased (Elazar et al. 2021).

    x ← x - (x - x̄) Σ⁻¹ C (Cᵀ Σ⁻¹ C)⁻¹ Cᵀ        before a layer ≥ 1, C = Σ_xz [D K-1]: LEACE (Belrose et al. 2023), by products

at each position where more of the variable is read than by chance. The control erases as many random directions of equal
variance at all positions: C of random numbers in the place of z.

    effect = mean fall of the label's odds / mean |odds|        reliance = effect - effect of the control
    score  = -mean over variables and layers of the reliance            who learned a rule cannot do without its variables
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.gradients import STREAM
from interp_jax.diagnosis.odds import odds
from interp_jax.diagnosis.variables import one_hot
from interp_jax.diagnosis.view import Swap, View
from interp_jax.probes.positive import solve

TIER, COST = 2, 24
RIDGE = 1e-3  # of the mean variance, added to each
CHANCE = 2.0  # what is read is to be so many times what chance reads


def covariance(x: Float[Array, "N P D"], z: Float[Array, "N P K"]) -> Float[Array, "P D K"]:
    """Of both, each about its mean."""
    return jnp.einsum("npd,npk->pdk", x - x.mean(0), z - z.mean(0), precision="highest") / len(x)


def eraser(
    x: Float[Array, "N P D"], z: Float[Array, "N P K"]
) -> tuple[tuple[Float[Array, "P D K"], Float[Array, "P K D"]], Bool[Array, " P"]]:
    """LEACE of z, and the positions where x says more of z than chance would."""

    def of(x: Float[Array, "D D"], cross: Float[Array, "D K"], own: Float[Array, "K K"]) -> tuple[Array, Array]:
        ridge = lambda a, share: a + (share * jnp.trace(a) / len(a) + 1e-9) * jnp.eye(len(a), dtype=a.dtype)
        seen = solve(ridge(x, RIDGE), cross)  # Σ⁻¹ C
        inner = jnp.matmul(cross.T, seen, precision="highest")
        said = jnp.trace(solve(ridge(own, RIDGE), inner))
        return jnp.matmul(seen, solve(ridge(inner, 1e-4), jnp.eye(len(own)))), said

    read, said = jax.lax.map(lambda each: of(*each), (covariance(x, x), covariance(x, z), covariance(z, z)))
    rank = (jnp.square(x - x.mean(0)).mean(0).sum(1) > 0) * min(x.shape[2], len(x) - 1)
    return (read, covariance(x, z).swapaxes(1, 2)), said > CHANCE * rank * z.shape[2] / len(x)


def reliances(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, " V"]:
    """Of each variable that varies, at each layer; 0 where there is none."""
    labels, clean, found = jnp.asarray(declared.labels), odds(view.logits(), declared.labels), []

    def effect(layer: int, subspace: tuple[Array, Array], where: Bool[Array, " P"] | None) -> Array:
        where = None if where is None else where[None, :, None]
        after = odds(view.swapped(None, [Swap(STREAM, layer, None, where, subspace)]), labels)
        return (clean - after).mean() / jnp.maximum(jnp.abs(clean).mean(), 1e-6)

    for layer in range(1, view.cfg.n_layers):
        x = view.record({STREAM: (layer,)})[1][STREAM][0]
        for values in declared.variables.values():
            z = jnp.asarray(one_hot(values)[:, :-1], x.dtype)
            if not z.shape[1]:
                continue
            z = jnp.broadcast_to(z[:, None], (*x.shape[:2], z.shape[1]))
            drawn = jax.random.normal(jax.random.fold_in(key, len(found)), z.shape, x.dtype)
            found.append(effect(layer, *eraser(x, z)) - effect(layer, eraser(x, drawn)[0], None))
    return jnp.stack(found) if found else jnp.zeros(1)


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """See the module."""
    return -reliances(view, declared, key).mean()
