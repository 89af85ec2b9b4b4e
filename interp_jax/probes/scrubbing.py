"""Erasure at every layer in order ("concept scrubbing", Belrose et al. 2023): each for what the earlier ones leave.

    for each layer l:   moments of x_l, the site's activations with erasers 0 … l - 1 applied   ──►   eraser l

Erasers that are fitted to the unedited model and then applied together leave a layer something to read, for it computes the
concept again from what it is given. Erasers and the layer are data, so that all passes are one compiled program; it holds a
block's activations of all layers.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from interp_jax import taps
from interp_jax.activations import moment_harvest
from interp_jax.activations.moment_harvest import Labelled
from interp_jax.activations.moments import Moments, finish
from interp_jax.errors import InputError
from interp_jax.probes.erasure.eraser import Eraser, edit_of

Model = Callable[[Any, Array], Any]
Fit = Callable[[Moments], Eraser]


def scrubbed(
    model: Model,
    params: Any,
    site: str,
    blocks: Callable[[], Iterable[Labelled]],
    fit: Fit,
    rank: int,
    by_position: bool = False,
    dtype: jax.typing.DTypeLike | None = None,
) -> Eraser:
    """An eraser of each layer, with a leading axis of layers: apply them all by `eraser.edit_of(erasers)`.

    Args:
      model: parameters, tokens -> anything, with taps. The same function compiles once.
      params: of the model.
      site: in the stack, with activations [W P D].
      blocks: the data from the beginning, once for every layer.
      fit: the eraser of a layer's moments, `linear.least_change` for one.
      rank: K of those erasers: the number of targets, or D if that is less.
      by_position: whether each position has an eraser of its own, [L P …].
      dtype: of the sums; see `moments.streamed`.

    Raises:
      InputError: no data; a site of another shape; an eraser of another rank; see `moments.finish` and `fit`.
    """
    first = next(iter(blocks()), None)
    if first is None:
        raise InputError(f"scrubbing {site}: no block of windows was given")
    shape = jax.eval_shape(
        lambda p, t: taps.record(model, [site])(p, t)[1][site], params, jnp.asarray(first.tokens)
    ).shape
    if len(shape) != 4:
        raise InputError(f"scrubbing {site}: its activations of all layers have shape {shape}; expected [L W P D]")
    n_layers, _, n_positions, d = shape
    lead = (n_layers, n_positions) if by_position else (n_layers,)
    erasers = Eraser(np.zeros((*lead, d)), np.zeros((*lead, d, rank)), np.zeros((*lead, rank, d)))
    started, further = programs(model, site, by_position, dtype)
    for layer in range(n_layers):
        given, sums = (params, edit_of(erasers), jnp.int32(layer)), None
        for block in blocks():
            sums = further(started(given, block) if sums is None else sums, given, block)
        made = fit(finish(sums[site], f"{site} of layer {layer}"))
        if made.read.shape != erasers.read.shape[1:]:
            raise InputError(f"scrubbing {site}: an eraser is {made.read.shape}; expected {erasers.read.shape[1:]}")
        for held, own in zip(erasers, made, strict=True):
            held[layer] = own
    return erasers


@lru_cache(maxsize=32)
def programs(model: Model, site: str, by_position: bool, dtype: jax.typing.DTypeLike | None) -> tuple:
    """Those of a harvest of `reader`: one pair for a model, however many concepts are scrubbed from it."""
    return moment_harvest.programs(reader(model, site), by_position, dtype)


def reader(model: Model, site: str) -> moment_harvest.Read:
    """What reads the site at one layer of the model as erasers leave it; both are data."""

    def read(given: tuple[Any, taps.Edit, Array], tokens: Array) -> dict[str, Array]:
        params, edit, layer = given
        _, acts = taps.record(taps.edit(model), [site])({site: edit}, params, tokens)
        return {site: jax.lax.dynamic_index_in_dim(acts[site], layer, keepdims=False)}

    return read
