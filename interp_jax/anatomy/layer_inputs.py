"""What heads and MLPs read, as a sum: parts of the stream after the norm before them, with its divisor frozen or their own.

    heads of layer l read    ln1(Σ_c part[c])    of all parts c before the layer
    its MLP reads            ln2(Σ_c part[c])    of those and of the layer's attention; not of that where model.parallel

    frozen:   ln(Σ_c part[c]) = Σ_c (part[c] - mean) (offset + w) / scale + b       scale: the divisor that was recorded
    applied:  ln(part[c]) = (part[c] - mean) (offset + w) / scale[c] + b            scale[c]: that of the part alone

Frozen parts add up: they say what is owed to whom. Applied, a part is what would be read if it were all there is, as the logit
lens has it of a layer's stream; each is brought to the same size, so they do not add up. (Without a mean under RMS norm.)

Parts are `decomposition.components`, heads or neurons of earlier layers, or what else was added to the stream. With
"shortformer" positions, queries and keys read W_pos besides.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax.anatomy.decomposition import Activations, check_is_sum, component_names, recorded
from interp_jax.anatomy.frozen_norms import apply_frozen, shift
from interp_jax.errors import InputError, nearest
from interp_jax.models.norms import apply_norm
from interp_jax.models.transformer import Params, TransformerConfig

NORMS = ("ln1", "ln2")


class LayerInput(NamedTuple):
    """`parts.sum(0) + shift` is what heads (ln1) or neurons (ln2) of a layer read."""

    parts: Float[Array, "*C B P D"]
    shift: Float[Array, "..."]


def n_parts_read(cfg: TransformerConfig, norm: str, layer: int) -> int:
    """How many of `components`, from the first on, a layer's norm reads.

    Raises:
      InputError: post-norms; no such norm or layer.
    """
    _check(cfg, norm, layer)
    per_layer = 2 if cfg.d_mlp else 1
    embedding = len(component_names(cfg)) - per_layer * cfg.n_layers
    return embedding + per_layer * layer + (norm == "ln2" and not cfg.parallel)


def freeze_layer_norm(
    params: Params,
    acts: Activations,
    cfg: TransformerConfig,
    norm: str,
    layer: int,
    parts: Float[Array, "*C B P D"],
) -> LayerInput:
    """Parts of the stream after a layer's norm, its divisor frozen, and the norm's b, which belongs to none of them.

    Args:
      params: of the model.
      acts: with `blocks.<norm>.scale` at all layers.
      cfg: of the model.
      norm: "ln1" (what heads read) or "ln2" (what the MLP reads).
      layer: which.
      parts: the first `n_parts_read` of `components`, or finer ones.

    Raises:
      InputError: post-norms; no such norm or layer; the divisor was not recorded.
    """
    _check(cfg, norm, layer)
    weights = _weights(params, norm, layer)
    scale = recorded(acts, f"blocks.{norm}.scale", cfg)[layer] if cfg.norm != "none" else jnp.ones(())
    return LayerInput(apply_frozen(cfg.norm_rule, weights, scale, parts), shift(weights))


def apply_layer_norm(
    params: Params, cfg: TransformerConfig, norm: str, layer: int, parts: Float[Array, "*C B P D"]
) -> Float[Array, "*C B P D"]:
    """Each part after a layer's norm as if it were the whole stream: divided by its own divisor, with the norm's b.

    Raises:
      InputError: post-norms; no such norm or layer.
    """
    _check(cfg, norm, layer)
    return apply_norm(cfg.norm_rule, _weights(params, norm, layer), parts)


def apply_final_norm(
    params: Params, cfg: TransformerConfig, parts: Float[Array, "*C B P D"]
) -> Float[Array, "*C B P D"]:
    """Each part after ln_final as if it were the whole stream; frozen, it is `decomposition.freeze_final_norm`.

    Raises:
      InputError: no linear head.
    """
    if cfg.head != "linear":
        raise InputError(f"model.head = {cfg.head!r}: ln_final does not normalise the stream")
    return apply_norm(cfg.norm_rule, params["ln_final"], parts)


def _weights(params: Params, norm: str, layer: int) -> Params:
    return jax.tree.map(lambda w: w[layer], params["blocks"][norm])


def _check(cfg: TransformerConfig, norm: str, layer: int) -> None:
    check_is_sum(cfg)
    if norm not in NORMS:
        raise InputError(f"norm = {norm!r}: {nearest(norm, NORMS)}")
    if norm == "ln2" and not cfg.d_mlp:
        raise InputError("norm = 'ln2': a model without MLPs (model.d_mlp = 0) has none")
    if not 0 <= layer < cfg.n_layers:
        raise InputError(f"layer = {layer}: layers go from 0 to {cfg.n_layers - 1}")
