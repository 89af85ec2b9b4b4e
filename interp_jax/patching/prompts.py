"""The two runs of a contrast: prompts that differ where the cause is sought, and what is measured of them.

*Denoising* patches activations of the clean run into the corrupted one: what suffices to restore the behaviour. *Noising*
patches those of the corrupted run into the clean one: what is necessary for it. The run that is patched is the base, the other
the source.
"""

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
from interp_jax.models.bounds import check_rows
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching.metrics import Metric, check_tokens

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


def prompts_of(clean: Any, corrupted: Any, positions: Any = None, at: Any = None, noise: Any = None) -> Prompts:
    """Prompts, measured at the last token of each unless `at` [B] says otherwise; see `Prompts`.

    Raises:
      InputError: prompts of unequal length, or a column that is not there or is padding.
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
    if at is not None and np.shape(at) not in ((), (len(clean),)):
        raise InputError(
            f"at is {np.shape(at)}, prompts are {clean.shape}: give one column for each example, or one for all"
        )
    at = last if at is None else np.broadcast_to(np.asarray(at), len(clean))
    check_columns(at, np.broadcast_to(positions, clean.shape))
    if noise is not None and (np.ndim(noise) != 3 or np.shape(noise)[:2] != clean.shape):
        raise InputError(f"noise is {np.shape(noise)}, prompts are {clean.shape}: it must be [B, P, D]")
    noise = None if noise is None else jnp.asarray(noise)
    return Prompts(*(jnp.asarray(x, jnp.int32) for x in (clean, corrupted, positions, at)), noise)


def check_columns(at: Int[np.ndarray, " B"], positions: Int[np.ndarray, "B P"]) -> None:
    """Raise `InputError` where an example is measured at a column that is not there or is padding."""
    if len(empty := np.flatnonzero((positions < 0).all(1))):
        raise InputError(f"example {empty[0]} is nothing but padding")
    if len(bad := np.flatnonzero((at < 0) | (at >= positions.shape[1]))):
        raise InputError(
            f"example {bad[0]} is measured at column {at[bad[0]]}: columns are 0 to {positions.shape[1] - 1}"
        )
    if len(bad := np.flatnonzero(positions[np.arange(len(at)), at] < 0)):
        raise InputError(f"example {bad[0]} is measured at column {at[bad[0]]}, which is padding")


def check_question(params: Params, cfg: TransformerConfig, prompts: Prompts, metric: Metric) -> None:
    """Raise `InputError` for prompts that the model cannot read, or a metric that is not of them; traced values pass."""
    n = len(prompts.at)
    for leaf in jax.tree.leaves(metric):
        if np.shape(leaf)[:1] != (n,):
            given = np.shape(leaf)[0] if np.ndim(leaf) else "no"
            raise InputError(f"the metric {metric.name!r} has data of {given} examples, the prompts are {n}")
    if prompts.noise is not None and prompts.noise.shape[2] != cfg.d_model:
        raise InputError(f"noise is {prompts.noise.shape}: the model's embeddings have width {cfg.d_model}")
    for tokens in (prompts.clean, prompts.corrupted):
        check_rows(params, tokens, cfg, prompts.positions)
    if not is_traced((prompts.at, prompts.positions)):
        check_columns(np.asarray(prompts.at), np.broadcast_to(prompts.positions, prompts.clean.shape))
    if not is_traced(metric):
        check_tokens(metric, cfg.d_vocab)


def is_traced(values: Any) -> bool:
    """Whether any array of them is abstract."""
    return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(values))


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


def measure(
    params: Params, given: Input, cfg: TransformerConfig, prompts: Prompts, metric: Metric
) -> Float[Array, " B"]:
    """The metric of a run: one row of each example goes through the unembedding.

    Raises:
      InputError: a model without logits.
    """
    rows = take(stream(params, given, cfg, prompts), prompts.at[:, None])[:, 0]
    return metric(transformer.unembed(params, rows, cfg, metric.tokens))


def ordered(base: Any, source: Any, direction: str) -> tuple[Any, Any]:
    """What is of the base run and of the source run, as what is of the clean run and of the corrupted one."""
    return (source, base) if direction == DENOISING else (base, source)
