"""The two runs of a contrast: prompts that differ where the cause is sought, and what a model computes on them.

*Denoising* patches activations of the clean run into the corrupted one: what suffices to restore the behaviour. *Noising*
patches those of the corrupted run into the clean one: what is necessary for it. The run that is patched is the base, the other
the source.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax import taps
from interp_jax.data.tokens import last_rows
from interp_jax.errors import InputError, nearest
from interp_jax.models import transformer
from interp_jax.models.attention import take
from interp_jax.models.transformer import Params, TransformerConfig

DENOISING, NOISING = "denoising", "noising"
DIRECTIONS = (DENOISING, NOISING)


class Prompts(NamedTuple):
    """Aligned prompts.

    Attributes:
      clean, corrupted: ids.
      positions: of both, -1 on padding.
      at: the column of each example whose logits are measured.
      noise: what the corrupted run adds to its embeddings, for corruption by noise (Meng et al. 2022).
    """

    clean: Int[Array, "B P"]
    corrupted: Int[Array, "B P"]
    positions: Int[Array, "#B P"]
    at: Int[Array, " B"]
    noise: Float[Array, "B P D"] | None = None


class Input(NamedTuple):
    """What a run begins with."""

    tokens: Int[Array, "B P"]
    noise: Float[Array, "B P D"] | None


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


def prompts_of(clean: Any, corrupted: Any, positions: Any = None, at: Any = None, noise: Any = None) -> Prompts:
    """Prompts, measured at the last token of each unless `at` [B] says otherwise; see `Prompts`.

    Raises:
      InputError: prompts of unequal length, or a column that is not there.
    """
    clean, corrupted = np.asarray(clean, np.int32), np.asarray(corrupted, np.int32)
    if clean.shape != corrupted.shape or clean.ndim != 2:
        raise InputError(
            f"clean prompts are {clean.shape}, corrupted ones {corrupted.shape}: both must be [B, P], position by position"
        )
    if not clean.size:
        raise InputError(f"prompts of shape {clean.shape}: there is nothing to patch")
    positions = np.arange(clean.shape[1])[None] if positions is None else np.asarray(positions)
    if positions.shape[1:] != clean.shape[1:] or positions.shape[0] not in (1, len(clean)):
        raise InputError(f"positions are {positions.shape}, prompts {clean.shape}: give [B, P] or [1, P]")
    last = np.broadcast_to(np.asarray(last_rows(jnp.asarray(positions, jnp.int32))), len(clean))
    at = last if at is None else np.broadcast_to(np.asarray(at), len(clean))
    if len(bad := np.flatnonzero((at < 0) | (at >= clean.shape[1]))):
        raise InputError(f"example {bad[0]} is measured at column {at[bad[0]]}: columns are 0 to {clean.shape[1] - 1}")
    if noise is not None and noise.shape[:2] != clean.shape:
        raise InputError(f"noise is {noise.shape}, prompts are {clean.shape}: it must be [B, P, D]")
    return Prompts(*(jnp.asarray(x, jnp.int32) for x in (clean, corrupted, positions, at)), noise)


def roles(prompts: Prompts, direction: str) -> tuple[Input, Input]:
    """Inputs of the base run and of the source run.

    Raises:
      InputError: an unknown direction.
    """
    if direction not in DIRECTIONS:
        raise InputError(f"direction = {direction!r}: {nearest(direction, DIRECTIONS)}")
    corrupted, clean = Input(prompts.corrupted, prompts.noise), Input(prompts.clean, None)
    return (corrupted, clean) if direction == DENOISING else (clean, corrupted)


def stream(params: Params, given: Input, cfg: TransformerConfig, prompts: Prompts) -> Float[Array, "B P D"]:
    """The stream after the last layer."""
    if given.noise is None:
        return transformer.stream(params, given.tokens, cfg, prompts.positions)
    noisy = {"embed": taps.Edit("add", given.noise)}
    return taps.edit(transformer.stream)(noisy, params, given.tokens, cfg, prompts.positions)


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


def mean_source(acts: Mapping[str, Array], like: int) -> dict[str, Array]:
    """The mean of a reference set's activations over its examples, for every one of `like` examples: mean ablation."""
    return {site: jnp.broadcast_to(a.mean(1, keepdims=True), (len(a), like, *a.shape[2:])) for site, a in acts.items()}


def zero_source(acts: Mapping[str, Array]) -> dict[str, Array]:
    """Nothing: zero ablation."""
    return jax.tree.map(jnp.zeros_like, dict(acts))
