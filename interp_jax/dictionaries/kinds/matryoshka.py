"""Matryoshka: the first features reconstruct by themselves, more of them better (Bussmann et al. 2025, arXiv:2503.17547).

    f = BatchTopK over all features        x̂_m = Σ_{i < m} f_i W_dec,i + b_dec
    loss = mean over prefixes m of ‖x - x̂_m‖² + the auxiliary loss

So the first features are general ones, and a later, narrower feature cannot take over a part of them (absorption).
"""

import jax.numpy as jnp

from interp_jax.dictionaries.chosen import read, reconstruct
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.judged import Batch, Judged, Situation, error_of, k_now
from interp_jax.dictionaries.kinds import batch_topk
from interp_jax.dictionaries.parameters import Params

UNIT_ROWS = True

init, encode, decode, pick = batch_topk.init, batch_topk.encode, batch_topk.decode, batch_topk.pick


def loss(params: Params, batch: Batch, cfg: Dictionary, situation: Situation) -> Judged:
    """The mean error of all prefixes, and the auxiliary loss of the whole."""
    reading = read(params, batch.x, cfg)
    picked = pick(reading.z, k_now(cfg, situation), cfg)
    parts, _ = reconstruct(params, reading, picked, cfg, len(cfg.prefixes))
    nested = jnp.cumsum(parts, 0) + params["b_dec"]
    errors = jnp.stack([error_of(batch, said) for said in nested])
    return batch_topk.judge(params, batch, cfg, situation, picked, nested[-1], errors.mean())
