"""Matching pursuit: one feature after another takes its part of what is left (Costa et al. 2025, arXiv:2506.03093; Mallat and
Zhang 1993).

    r_0 = x - b_dec;   j_t = argmax_i r_t · W_dec,i;   f_{j_t} += c_t = ReLU(r_t · W_dec,j_t);   r_{t+1} = r_t - c_t W_dec,j_t

k times. The decoder, with rows of length 1, is the encoder too; the derivative goes through all steps. All correlations are
kept and changed by a row of the Gram matrix W_dec W_decᵀ at each step, so that a step costs B F in place of B D F operations.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.encoders import unit_rows
from interp_jax.dictionaries.judged import Batch, Judged, Situation, count, error_of, in_use, k_now
from interp_jax.dictionaries.kinds import standard
from interp_jax.dictionaries.parameters import Params

UNIT_ROWS = True

decode = standard.decode


def init(key: Key[Array, ""], cfg: Dictionary) -> Params:
    """Rows of length 1."""
    W_dec = unit_rows(jax.random.normal(key, (cfg.n_features, cfg.d_in)))
    return {"W_dec": W_dec, "b_dec": jnp.zeros(cfg.d_in)}


def encode(params: Params, x: Float[Array, "B D"], cfg: Dictionary) -> Float[Array, "B F"]:
    """Features."""
    return pursue(params, x, jnp.asarray(cfg.k), cfg)


def pursue(params: Params, x: Float[Array, "B D"], k: Int[Array, ""], cfg: Dictionary) -> Float[Array, "B F"]:
    """K steps."""
    W, rows = params["W_dec"], jnp.arange(len(x))
    gram = W @ W.T

    def step(carry: Any, t: Array) -> Any:
        left, f = carry
        found = jax.lax.stop_gradient(jnp.where(in_use(cfg), left, -jnp.inf)).argmax(1)
        c = jnp.where(t < k, jax.nn.relu(left[rows, found]), 0.0)
        return (left - c[:, None] * gram[found], f.at[rows, found].add(c)), None

    start = (x - params["b_dec"]) @ W.T
    (_, f), _ = jax.lax.scan(step, (start, jnp.zeros_like(start)), jnp.arange(cfg.most))
    return f


def loss(params: Params, batch: Batch, cfg: Dictionary, situation: Situation) -> Judged:
    """The error."""
    f = pursue(params, batch.x, k_now(cfg, situation), cfg)
    error = error_of(batch, decode(params, f, cfg))
    return Judged(error, {"error": error}, count(f > 0), {})
