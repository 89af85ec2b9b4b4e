"""Features that are chosen by their number: what the kinds with a k have in common.

    z = (x - b_dec) W_encᵀ + b_enc;   which entries of z stay is `picked`;   x̂ = Σ of these · W_dec

With "sparse" products only the picked rows of the weights are touched after z; with "dense" ones the matrix of features is made
and multiplied. Over a mesh what is picked is that matrix itself, where it lies (`over_mesh.py`). All give the same numbers.
"auto" takes the faster ones, as measured (`./launch/peers products`): on a CPU sparse ones up to an active feature in 32, on an
accelerator dense ones.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from interp_jax.dictionaries import sparse
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.encoders import pre_activations
from interp_jax.dictionaries.judged import count, in_use
from interp_jax.dictionaries.parameters import Params, centre
from interp_jax.dictionaries.sparse import Entries

DENSE_BEYOND = 32  # features to each that is active
Picked = Entries | Float[Array, "B F"]  # entries in slots; over a mesh the matrix, 0 where nothing is picked


class Reading(NamedTuple):
    """What a dictionary makes of x before it chooses: z without a gradient, -inf for features that are not in use."""

    x: Float[Array, "B D"]
    z: Float[Array, "B F"]


def read(params: Params, x: Float[Array, "B D"], cfg: Dictionary) -> Reading:
    """Z of all features."""
    offsets = jnp.where(in_use(cfg), params["b_enc"], -jnp.inf)
    return Reading(x, jax.lax.stop_gradient(pre_activations(x, centre(params, cfg), params["W_enc"], offsets)))


def is_sparse(cfg: Dictionary) -> bool:
    """Which products: as `products` says, or what is faster."""
    if cfg.products != "auto":
        return cfg.products == "sparse"
    return jax.default_backend() == "cpu" and cfg.most * DENSE_BEYOND <= cfg.n_features


def reconstruct(
    params: Params, reading: Reading, picked: Picked, cfg: Dictionary, groups: int = 1
) -> tuple[Float[Array, "N B O"], Picked]:
    """What the picked entries say, without the bias, by groups of features that reconstruct by themselves; the entries.

    Group g has the features below `group_ends(cfg)[g]` that no group before it has.
    """
    arguments = (reading.x, centre(params, cfg), params["W_enc"], params["b_enc"])
    n = len(reading.x)
    if is_sparse(cfg) and isinstance(picked, Entries):
        entries = sparse.attach(*picked, *arguments)
        if groups == 1:
            return sparse.decode(entries, params["W_dec"])[None], entries
        group = jnp.searchsorted(jnp.array(group_ends(cfg)), entries.feature, side="right")
        rows = jnp.arange(n)[None] if entries.row is None else entries.row
        spread = entries._replace(row=group * n + rows)
        return sparse.decode(spread, params["W_dec"], groups * n).reshape(groups, n, -1), entries
    f = jnp.where(is_picked(picked, cfg.n_features), pre_activations(*arguments), 0.0)
    ends = [0, *group_ends(cfg)] if groups > 1 else [0, cfg.n_features]
    parts = [f[:, a:b] @ params["W_dec"][a:b] for a, b in itertools.pairwise(ends)]
    return jnp.stack(parts), picked


def values_of(picked: Picked) -> Float[Array, "..."]:
    """The picked values, and zeros."""
    return picked.values if isinstance(picked, Entries) else picked


def is_picked(picked: Picked, n_features: int) -> Bool[Array, "B F"]:
    """Where the matrix is not 0."""
    if not isinstance(picked, Entries):
        return picked != 0
    return sparse.dense(picked._replace(values=(picked.values != 0).astype(picked.values.dtype)), n_features) > 0


def matrix(picked: Picked, n_features: int) -> Float[Array, "B F"]:
    """The matrix of features."""
    return sparse.dense(picked, n_features) if isinstance(picked, Entries) else picked


def fired(picked: Picked, n_features: int) -> Int[Array, " F"]:
    """In how many examples each feature is picked."""
    return sparse.fired(picked, n_features) if isinstance(picked, Entries) else count(picked != 0)


def group_ends(cfg: Dictionary) -> list[int]:
    """Where each prefix ends."""
    return [round(share * cfg.n_features) for share in cfg.prefixes]
