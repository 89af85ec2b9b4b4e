"""Dictionaries of any kind by one set of functions; `cfg.kind` says which file of `kinds/` they are from.

    params = init(key, cfg);   f = encode(params, x, cfg);   x̂ = decode(params, f, cfg);   loss(params, batch, cfg, situation)

What is read and what is said need not be the same activation, nor one activation. So every kind (f, and its penalty Ω, are the
kind's own) is also

    a transcoder        f of x W_encᵀ + b_enc              ŷ = f W_dec + b_dec                    loss = ‖y - ŷ‖² + λ Ω
                        x what an MLP reads, y what it writes: `d_out` is y's width, and the decoder's bias is not taken off
                        what is read (Dunefsky, Chlenski and Nanda 2024, arXiv:2406.11944)
    a skip transcoder   ŷ = f W_dec + b_dec + x W_skipᵀ: `skip`. The map, which begins at 0, has what is linear in the MLP: the
                        kind is asked for y - x W_skipᵀ (Paulo, Shabalin and Belrose 2025, arXiv:2501.18823)
    a crosscoder        f of Σ_p x_p W_enc,pᵀ + b_enc      x̂_p = f W_dec,p + b_dec,p              loss = Σ_p ‖x_p - x̂_p‖² + λ Ω
                        one set of features for `pieces` activations, of layers or of two models, side by side in x and x̂. In
                        Ω a row counts as Σ_p ‖W_dec,p,i‖: a feature gains from leaving pieces out, so that what is of one
                        layer or model alone is found (Lindsey et al. 2024, "Sparse crosscoders for cross-layer features and
                        model diffing")

What reads each layer and writes to it and all later ones is a kind of its own, `kinds/cross_layer.py`.
"""

from types import ModuleType

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.dictionaries.config import WITH_THRESHOLDS, Dictionary
from interp_jax.dictionaries.encoders import unit_rows
from interp_jax.dictionaries.judged import Batch, Judged, Situation
from interp_jax.dictionaries.kinds import (
    abs_topk,
    batch_topk,
    cross_layer,
    gated,
    jumprelu,
    matching_pursuit,
    matryoshka,
    p_anneal,
    standard,
    topk,
)
from interp_jax.dictionaries.parameters import Params

MODULES: dict[str, ModuleType] = {
    "standard": standard,
    "p_anneal": p_anneal,
    "gated": gated,
    "topk": topk,
    "batch_topk": batch_topk,
    "matryoshka": matryoshka,
    "abs_topk": abs_topk,
    "jumprelu": jumprelu,
    "matching_pursuit": matching_pursuit,
    "cross_layer": cross_layer,
}


def init(key: Key[Array, ""], cfg: Dictionary) -> Params:
    """First parameters: `W_dec` [F O], `b_dec` [O], and what else the kind has."""
    params = MODULES[cfg.kind].init(key, cfg)
    return params | {"W_skip": jnp.zeros((cfg.width_out, cfg.d_in))} if cfg.skip else params


def encode(params: Params, x: Float[Array, "B D"], cfg: Dictionary) -> Float[Array, "B F"]:
    """Features of examples, each by itself."""
    return MODULES[cfg.kind].encode(params, x, cfg)


def decode(params: Params, f: Float[Array, "B F"], cfg: Dictionary) -> Float[Array, "B O"]:
    """What features say."""
    return MODULES[cfg.kind].decode(params, f, cfg)


def rows(params: Params, cfg: Dictionary) -> Float[Array, "F O"]:
    """What each feature says, of all pieces side by side."""
    return cross_layer.rows(params, cfg) if cfg.kind == "cross_layer" else params["W_dec"]


def reconstruct(
    params: Params, x: Float[Array, "B D"], cfg: Dictionary
) -> tuple[Float[Array, "B O"], Float[Array, "B F"]]:
    """All that is said of examples, and their features."""
    f = encode(params, x, cfg)
    return decode(params, f, cfg) + skipped(params, x, cfg), f


def skipped(params: Params, x: Float[Array, "B D"], cfg: Dictionary) -> Float[Array, "B O"] | float:
    """What the linear map says; 0 where there is none."""
    return x @ params["W_skip"].T if cfg.skip else 0.0


def loss(params: Params, batch: Batch, cfg: Dictionary, situation: Situation) -> Judged:
    """The training loss."""
    if cfg.skip:
        besides, error = skipped(params, batch.x, cfg), batch.error
        of_all = None if error is None else lambda said: error(said + besides)
        batch = batch._replace(y=batch.y - besides, error=of_all)
    return MODULES[cfg.kind].loss(params, batch, cfg, situation)


def constrained(params: Params, cfg: Dictionary) -> Params:
    """Parameters after a step, back on what constrains them: unit rows, thresholds of at least 0."""
    held = {"W_dec": unit_rows(params["W_dec"])} if has_unit_rows(cfg) else {}
    if cfg.kind in WITH_THRESHOLDS and cfg.thresholds == "linear":
        held["threshold"] = jnp.maximum(params["threshold"], 0.0)
    return params | held


def has_unit_rows(cfg: Dictionary) -> bool:
    """Whether rows of the decoder are kept at length 1."""
    return MODULES[cfg.kind].UNIT_ROWS
