"""Moments of a model's activations over data: several sites in one pass, one program for all blocks, nothing kept.

    block (tokens, targets, weights)  ── model with taps ──►  rows [W·P, D] of each place  ──►  sums of each, on the device

A block's activations are gone when the next is read; the host waits for nothing until all blocks are in. With `by_position`
each position has moments of its own, for as many operations as the moments over all of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from interp_jax.activations.harvest import Place, rows_of
from interp_jax.activations.moment_sums import AXIS, Sums, add, begin, data_mesh
from interp_jax.activations.moments import Moments, finish, merged
from interp_jax.errors import InputError

Model = Callable[[Any, Int[Array, "W P"]], Any]
Read = Callable[[Any, Int[Array, "W P"]], dict[str, Float[Array, "W P D"]]]


class Labelled(NamedTuple):
    """Windows of tokens with what is to be read off them.

    Attributes:
      tokens: of the windows; the last block may have fewer of them, which compiles once more.
      targets: of every token; None for none. For classes: `one_hot`.
      weights: of every token, 0 leaves it out; None weighs all alike.
    """

    tokens: Int[Array | np.ndarray, "W P"]
    targets: Float[Array | np.ndarray, "W P T"] | None = None
    weights: Float[Array | np.ndarray, "W P"] | None = None


def one_hot(labels: Int[Array | np.ndarray, "..."], n_classes: int) -> Float[np.ndarray, "... C"]:
    """Targets that are 1 for the own class and else 0; -1 is none.

    Raises:
      InputError: a label of no class, with its place.
    """
    labels = np.asarray(labels)
    if len(wrong := np.argwhere((labels < -1) | (labels >= n_classes))):
        at = tuple(wrong[0].tolist())
        raise InputError(f"label {int(labels[at])} of example {at}: classes are 0 to {n_classes - 1}")
    return np.float32(labels[..., None] == np.arange(n_classes))


def places_of(model: Model, places: Mapping[str, Place]) -> Read:
    """What reads activations of places, in one pass."""

    def read(params: Any, tokens: Int[Array, "W P"]) -> dict[str, Float[Array, "W P D"]]:
        found = rows_of(lambda tokens: model(params, tokens), tokens, list(places.values()))
        return dict(zip(places, found, strict=True))

    return read


def harvested(
    read: Read,
    params: Any,
    blocks: Iterable[Labelled],
    by_position: bool = False,
    dtype: jax.typing.DTypeLike | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> dict[str, Moments]:
    """The moments of each activation that is read, with a leading axis of positions if `by_position`.

    Args:
      read: see `places_of`; any pure function of parameters and tokens to named activations will do.
      params: of the model.
      blocks: each is read once.
      by_position: whether positions are kept apart.
      dtype: of the sums; see `moments.streamed`.
      devices: those to spread the windows of each block over, a multiple of their number; nothing goes between them, and
        what they have is merged at the end. None: all is done on one.

    Raises:
      InputError: there is no block; an activation that is not finite, with its place and row.
    """
    started, further = programs(read, by_position, dtype, devices)
    sums = None
    for block in blocks:
        if devices is not None and len(block.tokens) % len(devices):
            raise InputError(f"moments: {len(block.tokens)} windows in a block, over {len(devices)} devices")
        sums = further(started(params, block) if sums is None else sums, params, block)
    if sums is None:
        raise InputError("moments: no block of windows was read")
    found = {name: finish(one, name) for name, one in sums.items()}
    return found if devices is None else {name: merged(one) for name, one in found.items()}


def programs(
    read: Read,
    by_position: bool = False,
    dtype: jax.typing.DTypeLike | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> tuple:
    """The two programs of a harvest, `started(params, block)` and `further(sums, params, block)`, for many harvests."""
    n = 1 if devices is None else len(devices)

    def rows(params: Any, block: Labelled) -> tuple[dict[str, Array], Array | None, Array | None]:
        shaped = arranged if by_position else flat
        z, w = (None if v is None else shaped(jnp.asarray(v), i) for v, i in ((block.targets, 1), (block.weights, 0)))
        return {name: shaped(x, 1) for name, x in read(params, block.tokens).items()}, z, w

    def started(params: Any, block: Labelled) -> dict[str, Sums]:
        xs, z, w = rows(params, block)
        before = lambda x: x.shape[-2] * jax.lax.axis_index(AXIS) if n > 1 else 0
        made = {name: begin(x, z, w, dtype) for name, x in xs.items()}
        return {name: one._replace(row=one.row + before(xs[name])) for name, one in made.items()}

    def further(sums: dict[str, Sums], params: Any, block: Labelled) -> dict[str, Sums]:
        xs, z, w = rows(params, block)
        return {name: add(sums[name], x, z, w, n * x.shape[-2]) for name, x in xs.items()}

    if devices is None:
        return jax.jit(started), jax.jit(further, donate_argnums=0)
    lifted = lambda tree: jax.tree.map(lambda v: v[None], tree)
    lowered = lambda tree: jax.tree.map(lambda v: v[0], tree)
    spread = partial(jax.shard_map, mesh=data_mesh(devices), out_specs=P(AXIS), check_vma=False)
    first = spread(lambda *given: lifted(started(*given)), in_specs=(P(), P(AXIS)))
    others = spread(lambda sums, *given: lifted(further(lowered(sums), *given)), in_specs=(P(AXIS), P(), P(AXIS)))
    return jax.jit(first), jax.jit(others, donate_argnums=0)


def flat(v: Array, after: int) -> Array:
    """All tokens in one axis of rows, before so many others."""
    return v.reshape(-1, *v.shape[2:]) if after else v.reshape(-1)


def arranged(v: Array, after: int) -> Array:
    """Positions first, windows as rows."""
    return jnp.swapaxes(v, 0, 1)
