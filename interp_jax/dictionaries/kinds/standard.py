"""The standard dictionary: ReLU features under an L1 penalty (Bricken et al. 2023; Conerly et al. 2024).

    f = ReLU((x - b_dec) W_encᵀ + b_enc)          x̂ = f W_dec + b_dec
    loss = ‖x - x̂‖² + λ Σ_i f_i ‖W_dec,i‖

Weighted by the decoder's rows, the penalty does not gain from long rows and small features; rows are free.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.encoders import pre_activations
from interp_jax.dictionaries.judged import Batch, Judged, Situation, count, error_of, in_use, penalty_weight
from interp_jax.dictionaries.parameters import Params, centre, initial, lengths

UNIT_ROWS = False


def init(key: Key[Array, ""], cfg: Dictionary) -> Params:
    """Rows of length `first_norm`."""
    return initial(key, cfg, cfg.first_norm)


def encode(params: Params, x: Float[Array, "B D"], cfg: Dictionary) -> Float[Array, "B F"]:
    """Features."""
    z = pre_activations(x, centre(params, cfg), params["W_enc"], params["b_enc"])
    return jnp.where(in_use(cfg), jax.nn.relu(z), 0.0)


def decode(params: Params, f: Float[Array, "B F"], cfg: Dictionary) -> Float[Array, "B O"]:
    """The reconstruction."""
    return f @ params["W_dec"] + params["b_dec"]


def loss(params: Params, batch: Batch, cfg: Dictionary, situation: Situation) -> Judged:
    """Error and penalty, each the mean over examples."""
    f = encode(params, batch.x, cfg)
    error = error_of(batch, decode(params, f, cfg))
    penalty = (f @ lengths(params, cfg)).mean()
    total = error + penalty_weight(cfg, situation) * penalty
    return Judged(total, {"error": error, "penalty": penalty}, count(f > 0), {})
