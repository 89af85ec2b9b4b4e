"""Dictionaries of any kind by one set of functions; `cfg.kind` says which file of `kinds/` they are from.

params = init(key, cfg);   f = encode(params, x, cfg);   x̂ = decode(params, f, cfg);   loss(params, batch, cfg, situation)
"""

from types import ModuleType

from jaxtyping import Array, Float, Key

from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.judged import Batch, Judged, Situation
from interp_jax.dictionaries.kinds import (
    abs_topk,
    batch_topk,
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
}


def init(key: Key[Array, ""], cfg: Dictionary) -> Params:
    """First parameters: `W_dec` [F O], `b_dec` [O], and what else the kind has."""
    return MODULES[cfg.kind].init(key, cfg)


def encode(params: Params, x: Float[Array, "B D"], cfg: Dictionary) -> Float[Array, "B F"]:
    """Features of examples, each by itself."""
    return MODULES[cfg.kind].encode(params, x, cfg)


def decode(params: Params, f: Float[Array, "B F"], cfg: Dictionary) -> Float[Array, "B O"]:
    """What features say."""
    return MODULES[cfg.kind].decode(params, f, cfg)


def loss(params: Params, batch: Batch, cfg: Dictionary, situation: Situation) -> Judged:
    """The training loss."""
    return MODULES[cfg.kind].loss(params, batch, cfg, situation)


def has_unit_rows(cfg: Dictionary) -> bool:
    """Whether rows of the decoder are kept at length 1."""
    return MODULES[cfg.kind].UNIT_ROWS
