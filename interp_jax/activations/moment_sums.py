"""Sums of products of rows, streamed on the device: what `moments.py` makes means and covariances of.

    v = (x - c, z - d, 1)        S = Σ_n w_n v_n v_nᵀ                          [M M], M = D + T + 1: one product per block

A block of rows is multiplied in pieces of `PIECE` rows, about a shift (c, d) that is the mean of the first block, and pieces
are added with compensation: `high` + `low` is their sum as if in twice the digits (Knuth 1969, "TwoSum"). So what rounds is the
product of one piece alone, however many rows there are.

Leading axes are sites, positions, folds, classes: `x`, `z` and `w` broadcast over them. Per class: `w * (y == c)` with an axis
of classes; a fold: 0 where it is held out.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from interp_jax.errors import InputError

PIECE = 2048  # rows that are multiplied before their product is added with compensation
BLOCK = 128  # widths are cut at multiples of it
WHOLE = 640  # width up to which cutting brings nothing
AXIS = "data"
SOUND = -1  # no row is bad
Rows = Float[Array | np.ndarray, "..."]


class Sums(NamedTuple):
    """On the device: the products of the rows so far.

    Attributes:
      x_shift, z_shift: c and d.
      high, low: S, and what rounding took off it.
      row: number of the next row.
      bad: number of the first row that is not finite or whose weight is negative, or `SOUND`.
    """

    x_shift: Float[Array, "*S D"]
    z_shift: Float[Array, "*S T"]
    high: Float[Array, "*S M M"]
    low: Float[Array, "*S M M"]
    row: Int[Array, "..."]
    bad: Int[Array, "*S"]


def begin(x: Rows, z: Rows | None = None, w: Rows | None = None, dtype: jnp.dtype | None = None) -> Sums:
    """Sums of no row yet, about the mean of these, which are to be the first that are added.

    Args:
      x: what is read, [*S B D].
      z: targets, [*S B T]; None for none.
      w: weights of examples, [*S B]; 0 leaves a row out, whatever is in it. None weighs all alike.
      dtype: of the sums; None takes that of x.
    """
    x, z, w = whole(x, z, w)
    dtype = x.dtype if dtype is None else dtype
    lead = jnp.broadcast_shapes(x.shape[:-2], z.shape[:-2], w.shape[:-1])
    size = x.shape[-1] + z.shape[-1] + 1
    whole_numbers = (z == jnp.round(z)).all()  # classes: products of whole numbers about whole numbers are exact
    z_middle = jnp.where(whole_numbers, jnp.round(middle(z, w)), middle(z, w))
    x_shift, z_shift = (jnp.broadcast_to(m.astype(dtype), (*lead, m.shape[-1])) for m in (middle(x, w), z_middle))
    zeros = jnp.zeros((*lead, size, size), dtype)
    return Sums(x_shift, z_shift, zeros, zeros.copy(), jnp.int32(0), jnp.full(lead, SOUND, jnp.int32))


def add(sums: Sums, x: Rows, z: Rows | None = None, w: Rows | None = None, stride: int = 0) -> Sums:
    """The sums with a block of further rows; see `begin`.

    Args:
      sums: so far.
      x: of the block.
      z: likewise.
      w: likewise.
      stride: rows from the first of this block to the first of the next; 0 is as many as the block has.
    """
    x, z, w = whole(x, z, w)
    n, dtype = x.shape[-2], sums.high.dtype
    size = min(PIECE, n)
    more = -n % size
    x, z = (jnp.pad(v, ((0, 0),) * (v.ndim - 2) + ((0, more), (0, 0))) if more else v for v in (x, z))
    w = jnp.pad(w, ((0, 0),) * (w.ndim - 1) + ((0, more),)) if more else w

    def piece(i: Int[Array, ""] | int, held: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        high, low, bad = held
        rows, targets = (jax.lax.dynamic_slice_in_dim(v, i * size, size, v.ndim - 2).astype(dtype) for v in (x, z))
        weights = jax.lax.dynamic_slice_in_dim(w, i * size, size, w.ndim - 1).astype(dtype)
        here = first_bad(rows, targets, weights)
        bad = jnp.where((bad == SOUND) & (here != SOUND), sums.row + i * size + here, bad)
        return *compensated(high, low, products(rows, targets, weights, sums.x_shift, sums.z_shift)), bad

    pieces = (n + more) // size
    held = (sums.high, sums.low, sums.bad)
    high, low, bad = piece(0, held) if pieces == 1 else jax.lax.fori_loop(0, pieces, piece, held)
    return Sums(sums.x_shift, sums.z_shift, high, low, sums.row + (stride or n), bad)


def first_bad(x: Array, z: Array, w: Array) -> Int[Array, "..."]:
    """The first row that counts and is not finite, or has a negative weight, or `SOUND`."""
    sound = (jnp.isfinite(x).all(-1) & jnp.isfinite(z).all(-1) & jnp.isfinite(w) & (w > 0)) | (w == 0)
    return jnp.where(sound.all(-1), SOUND, jnp.argmin(sound, axis=-1).astype(jnp.int32))


def whole(x: Rows, z: Rows | None, w: Rows | None) -> tuple[Array, Array, Array]:
    """Arrays for what was left out.

    Raises:
      InputError: numbers of rows differ.
    """
    x = jnp.asarray(x)
    z = jnp.zeros((x.shape[-2], 0), x.dtype) if z is None else jnp.asarray(z).astype(x.dtype)
    w = jnp.ones(x.shape[-2], x.dtype) if w is None else jnp.asarray(w).astype(x.dtype)
    if not x.shape[-2] == z.shape[-2] == w.shape[-1]:
        raise InputError(f"moments: {x.shape[-2]} rows of x, {z.shape[-2]} of z, {w.shape[-1]} of w")
    return x, z, w


def middle(v: Float[Array, "... B D"], w: Float[Array, "... B"]) -> Float[Array, "... D"]:
    """The weighted mean; 0 where there is no weight."""
    total = jnp.where(w[..., None] > 0, w[..., None] * v, 0).sum(-2)
    return total / jnp.maximum(w.sum(-1), jnp.finfo(w.dtype).tiny)[..., None]


@partial(jnp.vectorize, signature="(b,d),(b,t),(b),(d),(t)->(m,m)")
def products(x: Array, z: Array, w: Array, x_shift: Array, z_shift: Array) -> Array:
    """Σ w v vᵀ of a piece."""
    v = jnp.concatenate([x - x_shift, z - z_shift, jnp.ones((len(x), 1), x.dtype)], axis=1)
    v = jnp.where(w[:, None] > 0, v, 0)
    return gram(w[:, None] * v, v)


def gram(a: Float[Array, "B M"], b: Float[Array, "B M"]) -> Float[Array, "M M"]:
    """Of aᵀb, which is symmetric, the blocks on and above the diagonal; those below are theirs."""
    m = a.shape[1]
    if m <= WHOLE:
        return jnp.matmul(a.T, b, precision="highest")
    half = -(-m // (2 * BLOCK)) * BLOCK
    off = jnp.matmul(a[:, :half].T, b[:, half:], precision="highest")
    return jnp.block([[gram(a[:, :half], b[:, :half]), off], [off.T, gram(a[:, half:], b[:, half:])]])


def compensated(high: Array, low: Array, more: Array) -> tuple[Array, Array]:
    """High + low + more as such a pair again, its second part being what the first has no digits for."""
    total = high + more
    back = total - high
    rest = low + ((high - (total - back)) + (more - back))
    high = total + rest
    return high, rest - (high - total)


def data_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """The one-axis mesh over which rows are spread."""
    return Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))


def over_devices(devices: Sequence[jax.Device] | None = None) -> tuple:
    """`(begin, add)` for blocks whose rows are spread over devices, and nothing goes between these: sums have a leading axis.

    The number of rows of a block must be a multiple of that of the devices. `add` uses the memory of the sums that it is given.
    """
    devices = jax.devices() if devices is None else devices
    mesh = data_mesh(devices)

    def rows(v: Array, after: int) -> P:
        return P(*[None] * (v.ndim - 1 - after), AXIS)

    def on_each(own, x: Array, z: Array, w: Array) -> Sums:
        made = own(x, z, w)
        return jax.tree.map(lambda v: v[None], made)

    def begun(x: Rows, z: Rows | None = None, w: Rows | None = None, dtype: jnp.dtype | None = None) -> Sums:
        def own(x: Array, z: Array, w: Array) -> Sums:
            made = begin(x, z, w, dtype)
            return made._replace(row=made.row + jax.lax.axis_index(AXIS) * x.shape[-2])

        x, z, w = whole(x, z, w)
        specs = (rows(x, 1), rows(z, 1), rows(w, 0))
        return jax.shard_map(partial(on_each, own), mesh=mesh, in_specs=specs, out_specs=P(AXIS), check_vma=False)(
            x, z, w
        )

    def added(sums: Sums, x: Rows, z: Rows | None = None, w: Rows | None = None) -> Sums:
        def own(sums: Sums, x: Array, z: Array, w: Array) -> Sums:
            sums = jax.tree.map(lambda v: v[0], sums)
            return on_each(lambda *block: add(sums, *block, stride=len(devices) * x.shape[-2]), x, z, w)

        x, z, w = whole(x, z, w)
        specs = (P(AXIS), rows(x, 1), rows(z, 1), rows(w, 0))
        return jax.shard_map(own, mesh=mesh, in_specs=specs, out_specs=P(AXIS), check_vma=False)(sums, x, z, w)

    return jax.jit(begun, static_argnames="dtype"), jax.jit(added, donate_argnums=0)
