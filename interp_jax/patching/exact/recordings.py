"""What a model computes on the two runs of a contrast: all that a patched run starts from, and what is put in."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from interp_jax import taps
from interp_jax.models.attention import take
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching.exact.nodes import LOOKS
from interp_jax.patching.prompts import Input, Prompts, stream


class Recording(NamedTuple):
    """A run.

    Attributes:
      streams: the stream before each layer, and after the last.
      k, v: keys (turned, where positions are rotary) and values.
      final: the stream after the last layer at the measured column.
    """

    streams: Float[Array, "N B P D"]
    k: Float[Array, "L B P G E"]
    v: Float[Array, "L B P G E"]
    final: Float[Array, "B D"]


def key_site(cfg: TransformerConfig) -> str:
    """The site of keys as they are looked at."""
    if cfg.positions == "rotary":
        return "blocks.attn.rot_k"
    return "blocks.attn.k_norm" if cfg.qk_norm else "blocks.attn.k"


def record_base(params: Params, given: Input, cfg: TransformerConfig, prompts: Prompts) -> Recording:
    """What a patched run starts from."""
    sites = ("blocks.resid_pre", key_site(cfg), "blocks.attn.v")
    final, acts = taps.record(stream, sites)(params, given, cfg, prompts)
    streams = jnp.concatenate([acts["blocks.resid_pre"], final[None]])
    return Recording(streams, acts[key_site(cfg)], acts["blocks.attn.v"], take(final, prompts.at[:, None])[:, 0])


def record_source(
    params: Params, given: Input, cfg: TransformerConfig, prompts: Prompts, sites: Iterable[str]
) -> dict[str, Array]:
    """Activations that are put in, at all layers."""
    return taps.record(stream, tuple(sites))(params, given, cfg, prompts)[1]


def mean_source(acts: Mapping[str, Array], like: int, positions: Int[Array, "#B P"] | None = None) -> dict[str, Array]:
    """The mean of a reference set's activations over its examples, for every one of `like` examples: mean ablation.

    `positions` are those of the reference set: what stands on its padding (-1) does not count; where all do not, 0 stands.
    """
    return {site: jnp.repeat(_mean(a, site, positions), like, 1) for site, a in acts.items()}


def _mean(a: Float[Array, "L B ..."], site: str, positions: Array | None) -> Float[Array, "L 1 ..."]:
    if positions is None:
        return a.mean(1, keepdims=True)
    axis = 3 if site in LOOKS else 2  # of a pattern [L B H Q K] the rows that look
    real = jnp.expand_dims(positions >= 0, [i for i in range(a.ndim) if i not in (1, axis)])
    return jnp.where(real, a, 0).sum(1, keepdims=True) / jnp.maximum(real.sum(1, keepdims=True), 1)


def zero_source(acts: Mapping[str, Array]) -> dict[str, Array]:
    """Nothing: zero ablation."""
    return jax.tree.map(jnp.zeros_like, dict(acts))
