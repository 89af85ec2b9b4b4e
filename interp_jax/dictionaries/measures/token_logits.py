"""Which tokens a feature makes likely by itself: its row of the decoder read by the unembedding ("direct").

With the last norm's divisor held at what it is, logits are linear in the stream (`anatomy/logit_attribution.py`), so that one
unit of a feature adds to them, averaged over a stream of tokens,

    logits[f] = frozen(W_dec,f) W_U        frozen(x) = (x - mean(x)) (offset + w) · mean(1 / scale)        by the norm's rule

What later layers make of it is not counted: `measures/clamped.py` does that. Logits are those before a cap.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from interp_jax.anatomy.decomposition import check_is_sum
from interp_jax.anatomy.frozen_norms import apply_frozen
from interp_jax.errors import InputError
from interp_jax.models.transformer import Params, TransformerConfig

ROWS = 64  # features read at once
ADDED = ("blocks.resid_pre", "blocks.resid_mid", "blocks.resid_post", "blocks.attn.out", "blocks.mlp.out")


class TokenLogits(NamedTuple):
    """Of every feature.

    Attributes:
      top_ids, top: the tokens that it makes likeliest, the largest logit first; of equal ones the first token.
      bottom_ids, bottom: likewise, the smallest first.
      heights: how many tokens lie in each of K equal bins from `low` to `high`, the smallest and the largest logit.
    """

    top_ids: Int[Array, "F T"]
    top: Float[Array, "F T"]
    bottom_ids: Int[Array, "F T"]
    bottom: Float[Array, "F T"]
    heights: Int[Array, "F K"]
    low: Float[Array, " F"]
    high: Float[Array, " F"]


def is_added(site: str, cfg: TransformerConfig) -> bool:
    """Whether what stands at a site is a part of the final stream, which a linear head reads."""
    return site in ADDED and cfg.placement != "post" and cfg.head == "linear"


def direct_logits(
    params: Params, cfg: TransformerConfig, inverse_scale: Float[Array, ""] | float, rows: Float[Array, "F D"]
) -> Float[Array, "F V"]:
    """What one unit of each row, added to the stream, adds to the logits; `inverse_scale` is the mean of 1 / ln_final.scale.

    Raises:
      InputError: post-norms, or no linear head.
    """
    check_is_sum(cfg)
    if cfg.head != "linear":
        raise InputError(f"model.head = {cfg.head!r}: what is in the stream is not read by W_U alone")
    said = apply_frozen(cfg.norm_rule, params["ln_final"], 1.0 / inverse_scale, rows)
    W_U = params["embed"]["W_E"].T if cfg.tied else params["unembed"]["W_U"]
    return jnp.einsum("fd,dv->fv", said, W_U, precision="highest")


def token_logits(
    params: Params,
    cfg: TransformerConfig,
    inverse_scale: Float[Array, ""] | float,
    rows: Float[Array, "F D"],
    n: int,
    bins: int,
) -> TokenLogits:
    """The n tokens at either end, and a histogram of all; some features at a time, as logits of all are large."""

    def of(row: Float[Array, " D"]) -> Any:
        logits = direct_logits(params, cfg, inverse_scale, row[None])[0]
        (top, top_ids), (bottom, bottom_ids) = jax.lax.top_k(logits, n), jax.lax.top_k(-logits, n)
        low, high = logits.min(), logits.max()
        place = jnp.floor((logits - low) / jnp.maximum(high - low, 1e-12) * bins).astype(jnp.int32)
        heights = jnp.zeros(bins, jnp.int32).at[jnp.clip(place, 0, bins - 1)].add(1)
        return TokenLogits(top_ids, top, bottom_ids, -bottom, heights, low, high)

    return jax.lax.map(of, rows, batch_size=ROWS)
