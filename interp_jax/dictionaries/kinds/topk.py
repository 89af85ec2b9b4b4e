"""TopK: the k largest features of each example (Gao et al. 2024, arXiv:2406.04093).

    f = the k largest of (x - b_dec) W_encᵀ + b_enc in each row, and of these the positive ones        x̂ = f W_dec + b_dec
    loss = ‖x - x̂‖² + the auxiliary loss of dead features

Rows of the decoder have length 1. k may differ between the members of a population, up to `most`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from interp_jax.dictionaries.chosen import Picked, fired, matrix, read, reconstruct
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.dead import auxiliary
from interp_jax.dictionaries.judged import Batch, Judged, Situation, error_of, k_now
from interp_jax.dictionaries.kinds import standard
from interp_jax.dictionaries.over_mesh import of_rows
from interp_jax.dictionaries.parameters import Params, initial
from interp_jax.dictionaries.sparse import Entries
from interp_jax.dictionaries.top_k import top_k
from interp_jax.train.mesh import mesh_here

UNIT_ROWS = True

decode = standard.decode


def init(key: Key[Array, ""], cfg: Dictionary) -> Params:
    """Rows of length 1."""
    return initial(key, cfg)


def pick(z: Float[Array, "B F"], k: Int[Array, ""], cfg: Dictionary) -> Picked:
    """The k largest of each row that are positive."""
    if mesh_here():
        return jnp.where(of_rows(z, k, cfg.most) & (z > 0), z, 0.0)
    values, feature = top_k(z, cfg.most)
    stays = (jnp.arange(cfg.most) < k) & (values > 0)
    return Entries(jnp.where(stays, values, 0.0).T, feature.T)


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
