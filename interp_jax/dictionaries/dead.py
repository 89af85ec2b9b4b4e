"""Bringing dead features back: they reconstruct what the others leave (Gao et al. 2024, arXiv:2406.04093, appendix A.2).

    e = y - ŷ, without a gradient       ê = Σ a_i W_dec,i over the k_aux dead features of an example with the largest z

    openai     a = ReLU(z)     ‖e - ê‖² / ‖e - mean e‖²
    saelens    a = z           min(1, dead / k_aux) · ‖e - ê‖²

k_aux is half of the width; where fewer features are dead, all of them, and the loss is 0 where none is. SAELens' form (6.x,
`TopKTrainingSAE.calculate_topk_aux_loss`, whose coefficient is 1) takes negative z too.

`resample` is the older way (Bricken et al. 2023): dead features start anew at examples that are badly reconstructed.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.encoders import norms, pre_activations, unit_rows
from interp_jax.dictionaries.judged import Situation, in_use, squared_error
from interp_jax.dictionaries.over_mesh import of_rows
from interp_jax.dictionaries.parameters import Params, centre
from interp_jax.dictionaries.top_k import top_k
from interp_jax.train.mesh import mesh_here

RESAMPLED = ("W_enc", "W_dec", "b_enc")  # rows of which are drawn anew
RESAMPLED_ENCODER = 0.2  # times the mean length of the encoder's living rows


def auxiliary(
    params: Params, x: Float[Array, "B D"], error: Float[Array, "B O"], cfg: Dictionary, situation: Situation
) -> Float[Array, ""]:
    """The auxiliary loss, weighted; computed only where some feature is dead."""
    if cfg.auxiliary == "none" or situation.revives is False:
        return jnp.zeros((), error.dtype)
    dead = situation.dead & in_use(cfg)
    error = jax.lax.stop_gradient(error)

    def some(params: Params) -> Array:
        return cfg.auxiliary_weight * _auxiliary(params, x, error, dead, cfg)

    if situation.revives:
        return some(params)
    return jax.lax.cond(dead.any(), some, lambda params: jnp.zeros((), error.dtype), params)


def _auxiliary(params: Params, x: Array, error: Array, dead: Bool[Array, " F"], cfg: Dictionary) -> Array:
    k = max(1, min(cfg.width_out // 2, cfg.n_features))
    z = pre_activations(x, centre(params, cfg), params["W_enc"], params["b_enc"])
    activations = z if cfg.auxiliary == "saelens" else jax.nn.relu(z)
    chosen = largest_dead(jax.lax.stop_gradient(activations), dead, k)
    left = squared_error(error, jnp.where(chosen, activations, 0.0) @ params["W_dec"])
    if cfg.auxiliary == "saelens":
        return jnp.minimum(1.0, dead.sum() / k) * left
    return left / jnp.maximum(squared_error(error, jnp.broadcast_to(error.mean(0), error.shape)), 1e-12)


def largest_dead(z: Float[Array, "B F"], dead: Bool[Array, " F"], k: int) -> Bool[Array, "B F"]:
    """Each example's k dead features with the largest z; all that are dead where these are fewer."""
    of_dead = jnp.where(dead, z, -jnp.inf)
    if mesh_here():
        return of_rows(of_dead, k, k) & dead
    values, columns = top_k(of_dead, k)
    return jnp.zeros(z.shape, bool).at[jnp.arange(len(z))[:, None], columns].set(values > -jnp.inf)


def resample(
    key: Key[Array, ""], params: Params, x: Float[Array, "B D"], error: Float[Array, "B O"], dead: Bool[Array, " F"]
) -> Params:
    """Dead features started anew, each at an example drawn with a chance that grows as its squared error does.

    Decoder rows point at the example less `b_dec`, as long as before; encoder rows too, a fifth as long as those alive.
    """
    losses = jnp.square(jnp.square(error).sum(-1))
    rows = jax.random.categorical(key, jnp.log(losses + 1e-30), shape=dead.shape)
    direction = unit_rows(x[rows] - params["b_dec"])
    alive = norms(params["W_enc"]) * ~dead
    length = RESAMPLED_ENCODER * alive.sum() / jnp.maximum((~dead).sum(), 1)
    fresh = {"W_enc": length * direction, "W_dec": norms(params["W_dec"])[:, None] * direction}
    fresh |= {"b_enc": jnp.zeros_like(params["b_enc"])}
    changed = {
        name: jnp.where(dead if new.ndim == 1 else dead[:, None], new, params[name]) for name, new in fresh.items()
    }
    return params | changed
