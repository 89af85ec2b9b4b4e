"""Bringing dead features back: they reconstruct what the others leave (Gao et al. 2024, arXiv:2406.04093, appendix A.2).

    e = y - ŷ, without a gradient       ê = Σ over the k_aux dead features with the largest z of ReLU(z)_i W_dec,i

    openai     ‖e - ê‖² / ‖e - mean e‖²                       0 where no feature is dead
    saelens    min(1, dead / k_aux) · ‖e - ê‖²                SAELens' form: not normalised, and weaker where few are dead

k_aux is half of the width. `resample` is the older way (Bricken et al. 2023): dead features start anew at examples that are
badly reconstructed.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.encoders import norms, pre_activations, unit_rows
from interp_jax.dictionaries.judged import Situation, in_use, squared_error
from interp_jax.dictionaries.parameters import Params, centre
from interp_jax.dictionaries.top_k import top_k

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
    k = min(cfg.width_out // 2, cfg.n_features)
    z = pre_activations(x, centre(params, cfg), params["W_enc"], params["b_enc"])
    z = jax.nn.relu(jnp.where(dead, z, 0.0))
    least = top_k(jax.lax.stop_gradient(z), k, shards=cfg.feature_shards)[0][:, -1:]
    left = squared_error(error, jnp.where(z >= least, z, 0.0) @ params["W_dec"])
    if cfg.auxiliary == "saelens":
        return jnp.minimum(1.0, dead.sum() / k) * left
    return left / jnp.maximum(squared_error(error, jnp.broadcast_to(error.mean(0), error.shape)), 1e-12)


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
