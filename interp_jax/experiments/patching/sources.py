"""What is put in: the activation of the pair's other run, its mean over all other pairs, or nothing.

    run     source                                                    what the two prompts of a pair do not share
    mean    Σ over the other pairs of their sources there / number    mean ablation: what a pair does not share with the others
    zero    0                                                         zero ablation

A source is what the other run computes: the clean one in denoising, the corrupted one in noising. A mean is taken column by
column, over pairs that have a token there, and without the pair itself: with few pairs its own part would show as an effect.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Float, Integer

from interp_jax.errors import InputError
from interp_jax.experiments.patching.batches import batches
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching.exact.recordings import record_source
from interp_jax.patching.prompts import Input, Prompts, roles

RUN, MEAN, ZERO = SOURCES = ("run", "mean", "zero")
Activations = dict[str, Float[np.ndarray, "..."]]  # by site, [L B P …]


def sources_of(
    kind: str, params: Params, cfg: TransformerConfig, prompts: Prompts, direction: str, sites: Sequence[str]
) -> Activations | None:
    """What takes the place of the other run's activations; None where these are put in.

    Raises:
      InputError: a mean of no other pair.
    """
    if kind == RUN:
        return None
    n, parts = len(prompts.at), []
    for _, some in batches(prompts, n):
        found = _record(params, roles(some, direction)[1], cfg, some, tuple(sites))
        parts.append({site: np.asarray(a) for site, a in found.items()})
    acts = {site: np.concatenate([part[site] for part in parts], 1)[:, :n] for site in sites}
    if kind == ZERO:
        return {site: np.zeros_like(a) for site, a in acts.items()}
    return mean_of_others(acts, np.asarray(prompts.positions))


def mean_of_others(acts: Mapping[str, np.ndarray], positions: Integer[np.ndarray, "#B P"]) -> Activations:
    """For every pair the mean over all others, of those that have a token in the column.

    Raises:
      InputError: a pair that alone has one.
    """
    n = next(iter(acts.values())).shape[1]
    real = np.broadcast_to(positions >= 0, (n, positions.shape[1]))
    others = real.sum(0) - real
    if len(alone := np.argwhere(real & (others == 0))):
        pair, column = map(int, alone[0])
        raise InputError(
            f"source = 'mean': pair {pair} is the only one with a token in column {column}: choose a frame, or another source"
        )
    found = {}
    for site, a in acts.items():
        shape = (1, *real.shape, *(1,) * (a.ndim - 3))
        own = np.where(real.reshape(shape), a, 0)
        found[site] = ((own.sum(1, keepdims=True) - own) / np.maximum(others, 1).reshape(shape)).astype(a.dtype)
    return found


@partial(jax.jit, static_argnums=(2, 4))
def _record(
    params: Params, given: Input, cfg: TransformerConfig, prompts: Prompts, sites: tuple[str, ...]
) -> dict[str, Array]:
    return record_source(params, given, cfg, prompts, sites)
