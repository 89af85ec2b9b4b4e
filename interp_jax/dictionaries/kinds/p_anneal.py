"""A penalty that becomes sharper: Σ f^p, with p falling from 1 (Karvonen et al. 2024, arXiv:2408.00113).

    loss = ‖x - x̂‖² + λ s Σ_i (f_i ‖W_dec,i‖)^p          s = Σ f ‖W_dec‖ / Σ (f ‖W_dec‖)^p, without a gradient

p is 1 until `anneal_start` and then falls linearly to `last_power`. The factor s keeps the penalty as large as the L1 one, as
the paper's coefficient does, which is multiplied at each change of p by the ratio of the two sums.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.judged import Batch, Judged, Situation, count, error_of, penalty_weight
from interp_jax.dictionaries.kinds import standard
from interp_jax.dictionaries.parameters import Params, lengths

UNIT_ROWS = False
SMALLEST = 1e-6  # of a feature whose derivative of f^p is taken

init, encode, decode = standard.init, standard.encode, standard.decode


def loss(params: Params, batch: Batch, cfg: Dictionary, situation: Situation) -> Judged:
    """Error and penalty."""
    f = encode(params, batch.x, cfg)
    error = error_of(batch, decode(params, f, cfg))
    sizes, p = f * lengths(params, cfg), power(cfg, situation)
    powers = jnp.where(sizes > SMALLEST, jnp.maximum(sizes, SMALLEST) ** p, 0.0)
    scale = jax.lax.stop_gradient(sizes.sum() / jnp.maximum(powers.sum(), 1e-12))
    penalty = scale * powers.sum(-1).mean()
    total = error + penalty_weight(cfg, situation) * penalty
    return Judged(total, {"error": error, "penalty": penalty, "power": p}, count(f > 0), {})


def power(cfg: Dictionary, situation: Situation) -> Float[Array, ""]:
    """P."""
    share = (situation.progress - cfg.anneal_start) / jnp.maximum(1.0 - cfg.anneal_start, 1e-9)
    return 1.0 + (cfg.last_power - 1.0) * jnp.clip(share, 0.0, 1.0)
