"""Products with few features: what a dictionary costs where only k of F features of an example are not 0.

    decode     x̂ = Σ_j values[j] W_dec[feature[j]]                                    2 B k D operations in place of 2 B F D
    attach     values that were chosen from z = (x - b_dec) W_encᵀ + b_enc, with the gradient that they have in these weights

The product z is dense: which features are chosen is not known before. All that follows it, and every gradient, touches k rows
of the weights for each example. Entries come in K slots of B: slot j of example b where every example has k of them (`row` is
None), or any B·K entries of the batch, of which `row` says whose each is. What is past the chosen has value 0.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

UNROLL = 4  # slots of a loop's step
TOGETHER, LEAST_TOGETHER = 64, 16  # examples whose entries are added in turn


class Entries(NamedTuple):
    """Entries of a matrix [B, F] that is 0 elsewhere."""

    values: Float[Array, "K B"]
    feature: Int[Array, "K B"]
    row: Int[Array, "K B"] | None = None


def dense(entries: Entries, n_features: int) -> Float[Array, "B F"]:
    """The matrix."""
    values, feature, row = entries
    rows = jnp.arange(values.shape[1])[None] if row is None else row
    return jnp.zeros((values.shape[1], n_features), values.dtype).at[rows, feature].add(values)


def fired(entries: Entries, n_features: int) -> Int[Array, " F"]:
    """How many of the examples each feature is not 0 in."""
    return jnp.zeros(n_features, jnp.int32).at[entries.feature].add((entries.values != 0).astype(jnp.int32))


def decode(entries: Entries, W_dec: Float[Array, "F D"], n_rows: int = 0) -> Float[Array, "R D"]:
    """The sum of each row's features, weighted: of B rows, or of `n_rows` where `row` speaks of more."""
    values, feature, row = entries
    return _decode(n_rows or values.shape[1], values, W_dec, feature, row)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _decode(n_rows: int, values: Array, W_dec: Array, feature: Array, row: Array | None) -> Array:
    def add(j: Any, total: Array) -> Array:
        part = values[j][:, None] * W_dec[feature[j]]
        return total + part if row is None else total.at[row[j]].add(part)

    return lax.fori_loop(0, len(values), add, jnp.zeros((n_rows, W_dec.shape[1]), W_dec.dtype), unroll=UNROLL)


def _decode_forward(n_rows: int, values: Array, W_dec: Array, feature: Array, row: Any) -> tuple[Array, Any]:
    return _decode(n_rows, values, W_dec, feature, row), (values, W_dec, feature, row)


def _decode_backward(n_rows: int, kept: Any, g: Float[Array, "R D"]) -> tuple[Any, ...]:
    values, W_dec, feature, row = kept
    ones = jnp.ones(W_dec.shape[1], W_dec.dtype)  # a product with them is a faster sum
    d_values = lax.map(lambda slot: (W_dec[slot[0]] * _rows(g, slot[1])) @ ones, (feature, row), batch_size=UNROLL)
    return d_values, scatter(values, feature, row, g, W_dec.shape), None, None


_decode.defvjp(_decode_forward, _decode_backward)


def attach(
    values: Float[Array, "K B"],
    feature: Int[Array, "K B"],
    row: Int[Array, "K B"] | None,
    x: Float[Array, "B D"],
    b_dec: Float[Array, " D"],
    W_enc: Float[Array, "F D"],
    b_enc: Float[Array, " F"],
) -> Entries:
    """The entries `values` of z = (x - b_dec) W_encᵀ + b_enc, which were computed without a gradient, with theirs."""
    return Entries(_attach(values, feature, row, x, b_dec, W_enc, b_enc), feature, row)


@jax.custom_vjp
def _attach(values: Array, feature: Array, row: Any, x: Array, b_dec: Array, W_enc: Array, b_enc: Array) -> Array:
    return values


def _attach_forward(values: Array, feature: Array, row: Any, *affine: Array) -> tuple[Array, Any]:
    return values, (values != 0, feature, row, *affine)


def _attach_backward(kept: Any, d_values: Float[Array, "K B"]) -> tuple[Any, ...]:
    chosen, feature, row, x, b_dec, W_enc, b_enc = kept
    d_values = jnp.where(chosen, d_values, 0)  # what is past the chosen stays 0
    d_bias = jnp.zeros_like(b_enc).at[feature].add(d_values)
    d_weight = scatter(d_values, feature, row, x - b_dec, W_enc.shape, zero=-0.0)
    d_x = _decode(len(x), d_values, W_enc, feature, row)  # dropped where nobody asks for it
    return None, None, None, d_x, -d_bias @ W_enc, d_weight, d_bias


_attach.defvjp(_attach_forward, _attach_backward)


def scatter(
    values: Float[Array, "K B"],
    feature: Int[Array, "K B"],
    row: Int[Array, "K B"] | None,
    x: Float[Array, "R D"],
    shape: tuple[int, ...],
    zero: float = 0.0,
) -> Float[Array, "F D"]:
    """Σ over entries of value · x[row], each added to the row of its feature.

    Where each example has its own slots, a few examples at a time are added, which then stay in the cache. `zero` is what they
    are added to, 0 or -0: of two scatters that begin alike, XLA makes the zeros once, and copies them for each.
    """
    n, width = values.shape
    total = jnp.full(shape, zero, x.dtype)
    if row is not None:
        return _add(total, values, feature, lambda j: x[row[j]])
    together = math.gcd(width, TOGETHER)
    together = together if together >= LEAST_TOGETHER else width

    def add(i: Any, total: Array) -> Array:
        first = i * together
        of_piece = lambda entries: lax.dynamic_slice(entries, (0, first), (n, together))
        rows = lax.dynamic_slice_in_dim(x, first, together)
        return _add(total, of_piece(values), of_piece(feature), lambda j: rows)

    return lax.fori_loop(0, width // together, add, total)


def _add(total: Array, values: Array, feature: Array, rows: Callable[[Any], Array]) -> Array:
    one = lambda j, total: total.at[feature[j]].add(values[j][:, None] * rows(j))
    return lax.fori_loop(0, len(values), one, total)


def _rows(x: Array, row: Array | None) -> Array:
    return x if row is None else x[row]
