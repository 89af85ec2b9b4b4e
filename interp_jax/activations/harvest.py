"""Activations as rows: harvested over windows of tokens at several sites in one pass, and shuffled into the batches of steps.

    stretch b:  windows of (seed, b)  ── model with taps ──►  rows [W·P, D] of each site
                rows that count, in an order drawn by (seed, b)  ──►  [T, B, D] of each site, the same rows of all

A stretch holds T steps' batches and is a function of (seed, b) alone, so that nothing is carried from one to the next: a run
that goes on from step t reads what it would have read, bit for bit. Rows are mixed within a stretch, over all of its windows.

Rows do not count where the token is excluded (an end of text, padding), at the first few positions, which in many models are
sinks of attention and enormous, and where a row is longer than `largest` times the median, if that is asked.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from interp_jax import randomness, taps
from interp_jax.errors import InputError
from interp_jax.parts import part
from interp_jax.randomness import Scalar

Model = Callable[[Int[Array, "W P"]], Array]
Windows = Callable[[Scalar, Scalar, int], Int[Array, "W P"]]  # (seed, stretch, how many) -> tokens
FOREMOST = 4  # windows' worth of rows beyond those that are asked for: some do not count


@part
class Harvest:
    """How activations are harvested.

    Attributes:
      windows: run through the model at once.
      skip_first: positions at the beginning of each window whose rows do not count.
      excluded: tokens whose rows do not count.
      largest: times the median length, of rows that count; 0 for any length.
      spare: share of windows beyond those that are needed if all rows count.
    """

    windows: int = 32
    skip_first: int = 1
    excluded: tuple = ()
    largest: float = 0.0
    spare: float = 0.25

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if self.windows < 1 or self.skip_first < 0 or not self.largest >= 0 or not self.spare >= 0:
            raise InputError("harvest: windows must be at least 1; skip_first, largest and spare at least 0")
        if not all(type(token) is int and token >= 0 for token in self.excluded):
            raise InputError(f"harvest.excluded: {self.excluded} must be ids of tokens")


class Place(NamedTuple):
    """A site of a layer."""

    site: str
    layer: int


def rows_of(model: Model, tokens: Int[Array, "W P"], places: Sequence[Place]) -> list[Float[Array, "W P D"]]:
    """Activations at several places, in one pass; heads side by side."""
    layers: dict[str, tuple[int, ...]] = {}
    for place in places:
        layers[place.site] = tuple(sorted({*layers.get(place.site, ()), place.layer}))
    _, acts = taps.record(model, layers)(tokens)
    found = [acts[place.site][layers[place.site].index(place.layer)] for place in places]
    return [x.reshape(*tokens.shape, -1) for x in found]


def needed(harvest: Harvest, n_rows: int, length: int) -> int:
    """Windows of a stretch of so many rows, a multiple of those that are run at once.

    Raises:
      InputError: no position counts.
    """
    if length <= harvest.skip_first:
        raise InputError(
            f"harvest.skip_first = {harvest.skip_first}: windows have {length} positions, so none is left"
        )
    wanted = math.ceil((1 + harvest.spare) * n_rows / (length - harvest.skip_first)) + FOREMOST
    return -(-wanted // harvest.windows) * harvest.windows


def stretch(
    model: Model,
    windows: Windows,
    places: Mapping[str, Place],
    harvest: Harvest,
    shape: tuple[int, int, int],
    seed: Scalar,
    b: Scalar,
) -> dict[str, Float[Array, "T B D"]]:
    """The batches of T steps.

    Args:
      model: tokens -> anything, with taps.
      windows: of the text.
      places: by name; all have the same rows, in the same order.
      harvest: how.
      shape: steps T, rows of a batch B, tokens of a window P.
      seed: of the stream.
      b: which stretch of it.
    """
    T, B, length = shape
    n = needed(harvest, T * B, length)
    tokens = windows(seed, b, n).reshape(-1, harvest.windows, length)
    parts = jax.lax.map(lambda some: rows_of(model, some, list(places.values())), tokens)
    rows = [x.reshape(-1, x.shape[-1]) for x in parts]
    counts = counting(harvest, tokens, rows[0])
    chosen = draw(randomness.key(seed, "harvest", b), counts, T * B)
    return {name: x[chosen].reshape(T, B, -1) for name, x in zip(places, rows, strict=True)}


def counting(harvest: Harvest, tokens: Int[Array, "... P"], rows: Float[Array, "N D"]) -> Bool[Array, " N"]:
    """Which rows count, one of each token, in the order of the tokens: in training, and where dictionaries are measured."""
    counts = jnp.broadcast_to(jnp.arange(tokens.shape[-1]) >= harvest.skip_first, tokens.shape).reshape(-1)
    if harvest.excluded:
        counts &= ~jnp.isin(tokens.reshape(-1), jnp.asarray(harvest.excluded, jnp.int32))
    return counts & short(rows, counts, harvest.largest) if harvest.largest else counts


def short(rows: Float[Array, "N D"], counts: Bool[Array, " N"], largest: float) -> Bool[Array, " N"]:
    """Whether a row is no longer than so many times the median of those that count; what is not finite stays, to be found."""
    lengths = jnp.linalg.norm(rows, axis=1)
    longest = largest * jnp.nanmedian(jnp.where(counts, lengths, jnp.nan))
    return (lengths <= longest) | ~jnp.isfinite(lengths)


def draw(key: Key[Array, ""], counts: Bool[Array, " N"], n: int) -> Int[Array, " n"]:
    """Rows that count, without repetition in an order that is drawn; from the beginning again where they are too few."""
    order = jnp.argsort(jnp.where(counts, jax.random.uniform(key, counts.shape), 2.0))
    return order[jnp.arange(n) % jnp.maximum(counts.sum(), 1)]
