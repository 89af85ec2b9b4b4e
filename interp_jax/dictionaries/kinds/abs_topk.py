"""AbsTopK: the k features of each example that are largest in size, with their sign (Zhu et al. 2025, arXiv:2510.00404).

    f = the entries of (x - b_dec) W_encᵀ + b_enc whose sizes are the k largest of their row          x̂ = f W_dec + b_dec

A feature and its opposite are one direction, where ReLU features need two.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from interp_jax.dictionaries.chosen import Picked, fired, matrix, read, reconstruct
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.dead import auxiliary
from interp_jax.dictionaries.judged import Batch, Judged, Situation, error_of, k_now
from interp_jax.dictionaries.kinds import topk
from interp_jax.dictionaries.over_mesh import of_rows
from interp_jax.dictionaries.parameters import Params
from interp_jax.dictionaries.sparse import Entries
from interp_jax.dictionaries.top_k import top_k
from interp_jax.train.mesh import mesh_here

UNIT_ROWS = True

init, decode = topk.init, topk.decode


def pick(z: Float[Array, "B F"], k: Int[Array, ""], cfg: Dictionary) -> Picked:
    """The k entries of each row with the largest sizes; features not in use (-inf) never."""
    used = jnp.isfinite(z)
    sizes = jnp.where(used, jnp.abs(z), -1.0)
    if mesh_here():
        return jnp.where(of_rows(sizes, k, cfg.most) & used, z, 0.0)
    _, feature = top_k(sizes, cfg.most)
    values = jnp.take_along_axis(jnp.where(used, z, 0.0), feature, 1)
    return Entries(jnp.where(jnp.arange(cfg.most) < k, values, 0.0).T, feature.T)


def encode(params: Params, x: Float[Array, "B D"], cfg: Dictionary) -> Float[Array, "B F"]:
    """Features."""
    return matrix(pick(read(params, x, cfg).z, jnp.asarray(cfg.k), cfg), cfg.n_features)


def loss(params: Params, batch: Batch, cfg: Dictionary, situation: Situation) -> Judged:
    """Error and auxiliary loss."""
    reading = read(params, batch.x, cfg)
    picked = pick(reading.z, k_now(cfg, situation), cfg)
    (said,), entries = reconstruct(params, reading, picked, cfg)
    said = said + params["b_dec"]
    left, error = batch.y - said, error_of(batch, said)
    revived = auxiliary(params, batch.x, left, cfg, situation)
    terms = {"error": error, "auxiliary": revived}
    return Judged(error + revived, terms, fired(entries, cfg.n_features), {}, left)
