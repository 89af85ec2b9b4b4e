"""Dictionaries that are trained through the model: what counts is what the model does with what they say (Braun et al. 2024,
arXiv:2405.12241).

    error(x̂) = KL(p(x) ‖ p(x̂)) + β Σ_l ‖s_l(x) - s_l(x̂)‖² / D         mean over positions that count

p is the model's distribution of the next token and s_l its stream after each later layer, when the stream here is x or what the
dictionary says of it; β = 0 is "end-to-end", β > 0 "with downstream reconstruction". Any kind is trained so, by `Batch.error`;
its sparsity is its own. Positions that do not count keep their activation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Stream = Float[Array, "W P D"]


class Onwards(NamedTuple):
    """What a model makes of a stream: logits [W P V], and the streams after the later layers [N W P D]."""

    logits: Float[Array, "W P V"]
    later: Float[Array, "N W P D"]


Rest = Callable[[Stream], Onwards]


def error_through(
    rest: Rest, x: Stream, counts: Bool[Array, "W P"], later: Float[Array, ""] | float
) -> Callable[[Float[Array, "N D"]], Float[Array, ""]]:
    """The error of what is said of the stream `x`, row by row.

    Args:
      rest: of the model, from there on.
      x: the stream as it is.
      counts: the positions where the dictionary speaks.
      later: β.
    """
    clean = jax.tree.map(jax.lax.stop_gradient, rest(x))
    log_p = jax.nn.log_softmax(clean.logits)

    def mean(values: Float[Array, "W P"]) -> Float[Array, ""]:
        return jnp.where(counts, values, 0.0).sum() / jnp.maximum(counts.sum(), 1)

    def error(said: Float[Array, "N D"]) -> Float[Array, ""]:
        found = rest(jnp.where(counts[..., None], said.reshape(x.shape), x))
        kl = (jnp.exp(log_p) * (log_p - jax.nn.log_softmax(found.logits))).sum(-1)
        apart = jnp.square(found.later - clean.later).mean(-1).sum(0)
        return mean(kl) + later * mean(apart)

    return error


def rest_of(blocks: Callable[[Stream, int], Stream], unembed: Callable[[Stream], Any], layers: range) -> Rest:
    """The rest of a model whose layers are taken one by one.

    Args:
      blocks: (stream, layer) -> the stream after that layer.
      unembed: stream -> logits.
      layers: those that come after.
    """

    def rest(x: Stream) -> Onwards:
        streams = []
        for layer in layers:
            x = blocks(x, layer)
            streams.append(x)
        later = jnp.stack(streams) if streams else jnp.zeros((0, *x.shape), x.dtype)
        return Onwards(unembed(x), later)

    return rest
