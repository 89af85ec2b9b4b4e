"""Gated features: whether a feature is active and how much are told apart (Rajamanoharan et al. 2024, arXiv:2404.16014).

    π = (x - b_dec) W_encᵀ + b_enc                      f_gate = [π > 0]
    f = f_gate · ReLU(e^r · ((x - b_dec) W_encᵀ) + b_mag)
    loss = ‖x - x̂(f)‖² + λ Σ_i ReLU(π)_i ‖W_dec,i‖ + ‖x - x̂_frozen(ReLU(π))‖²

In the last term the decoder has no gradient: it only teaches the gate to find what reconstructs. Magnitudes share the gate's
rows, scaled by e^r. Rows of the decoder have length 1, as in the paper.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.encoders import pre_activations
from interp_jax.dictionaries.judged import Batch, Judged, Situation, count, error_of, in_use, penalty_weight
from interp_jax.dictionaries.kinds import standard
from interp_jax.dictionaries.parameters import Params, centre, initial, lengths

UNIT_ROWS = True

decode = standard.decode


def init(key: Key[Array, ""], cfg: Dictionary) -> Params:
    """Rows of length 1; gates and magnitudes alike."""
    params = initial(key, cfg)
    return params | {"r_mag": jnp.zeros(cfg.n_features), "b_mag": jnp.zeros(cfg.n_features)}


def encode(params: Params, x: Float[Array, "B D"], cfg: Dictionary) -> Float[Array, "B F"]:
    """Features."""
    return parts(params, x, cfg)[0]


def parts(params: Params, x: Float[Array, "B D"], cfg: Dictionary) -> tuple[Float[Array, "B F"], Float[Array, "B F"]]:
    """Features, and ReLU(π)."""
    z = pre_activations(x, centre(params, cfg), params["W_enc"], jnp.zeros_like(params["b_enc"]))
    gate = jnp.where(in_use(cfg), z + params["b_enc"], -1.0)
    magnitude = jax.nn.relu(jnp.exp(params["r_mag"]) * z + params["b_mag"])
    return jnp.where(gate > 0, magnitude, 0.0), jax.nn.relu(gate)


def loss(params: Params, batch: Batch, cfg: Dictionary, situation: Situation) -> Judged:
    """Error, penalty of the gate, and the gate's own error."""
    f, gate = parts(params, batch.x, cfg)
    error = error_of(batch, decode(params, f, cfg))
    penalty = (gate @ lengths(params, cfg)).mean()
    frozen = jax.lax.stop_gradient(params)
    by_gate = error_of(batch, decode(frozen, gate, cfg))
    total = error + penalty_weight(cfg, situation) * penalty + by_gate
    return Judged(total, {"error": error, "penalty": penalty, "error_of_gate": by_gate}, count(f > 0), {})
