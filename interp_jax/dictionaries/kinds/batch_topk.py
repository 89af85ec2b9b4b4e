"""BatchTopK: the B·k largest features of a batch: an example may have more or fewer (Bussmann et al. 2024, arXiv:2412.06410).

    f = the B·k largest of (x - b_dec) W_encᵀ + b_enc in the whole batch that are positive            x̂ = f W_dec + b_dec

Outside of training an example has no batch: a feature is then active where it exceeds `threshold`, the mean over training of
the smallest one that was active (a moving average over about a hundred steps, from its first value on).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from interp_jax.dictionaries.chosen import Picked, fired, read, reconstruct, values_of
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.dead import auxiliary
from interp_jax.dictionaries.judged import Batch, Judged, Situation, error_of, k_now
from interp_jax.dictionaries.kinds import standard
from interp_jax.dictionaries.over_mesh import of_all
from interp_jax.dictionaries.parameters import Params, initial
from interp_jax.dictionaries.sparse import Entries
from interp_jax.dictionaries.top_k import largest
from interp_jax.train.mesh import mesh_here

UNIT_ROWS = True
KEPT = 0.99  # of the moving average, at each step
UNSET = -1.0

decode = standard.decode


def init(key: Key[Array, ""], cfg: Dictionary) -> Params:
    """Rows of length 1, and no threshold yet."""
    return initial(key, cfg) | {"threshold": jnp.asarray(UNSET)}


def encode(params: Params, x: Float[Array, "B D"], cfg: Dictionary) -> Float[Array, "B F"]:
    """Features, each example by itself."""
    z = read(params, x, cfg).z
    return jnp.where(z > jnp.maximum(params["threshold"], 0.0), z, 0.0)


def pick(z: Float[Array, "B F"], k: Int[Array, ""], cfg: Dictionary) -> Picked:
    """The B·k largest entries that are positive."""
    n = len(z)
    if mesh_here():
        return jnp.where(of_all(z, n * k) & (z > 0), z, 0.0)
    values, row, feature = largest(z, n * k, n * cfg.most)
    slots = (cfg.most, n)
    return Entries(jnp.maximum(values, 0.0).reshape(slots), feature.reshape(slots), row.reshape(slots))


def loss(params: Params, batch: Batch, cfg: Dictionary, situation: Situation) -> Judged:
    """Error and auxiliary loss."""
    reading = read(params, batch.x, cfg)
    picked = pick(reading.z, k_now(cfg, situation), cfg)
    (said,), _ = reconstruct(params, reading, picked, cfg)
    return judge(params, batch, cfg, situation, picked, said + params["b_dec"], None)


def judge(
    params: Params,
    batch: Batch,
    cfg: Dictionary,
    situation: Situation,
    picked: Picked,
    said: Float[Array, "B O"],
    error: Float[Array, ""] | None,
) -> Judged:
    """The loss of a reconstruction; its error counts, unless another one is given that does."""
    own, left = error_of(batch, said), batch.y - said
    revived = auxiliary(params, batch.x, left, cfg, situation)
    total = (own if error is None else error) + revived
    threshold = next_threshold(params["threshold"], picked)
    terms = {"error": own, "auxiliary": revived, "threshold": threshold}
    return Judged(total, terms, fired(picked, cfg.n_features), {"threshold": threshold}, left)


def next_threshold(threshold: Float[Array, ""], picked: Picked) -> Float[Array, ""]:
    """The moving average of the smallest active feature."""
    values = values_of(picked)
    smallest = jnp.where(values > 0, values, jnp.inf).min()
    smallest = jnp.where(jnp.isfinite(smallest), smallest, 0.0)
    moved = jnp.where(threshold == UNSET, smallest, KEPT * threshold + (1 - KEPT) * smallest)
    return jax.lax.stop_gradient(moved)
