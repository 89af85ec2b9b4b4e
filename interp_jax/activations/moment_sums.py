"""Sums of products of rows, streamed on the device: what `moments.py` makes means and covariances of.

    v = (x - c, z - d, 1)        S = Σ_n w_n v_n v_nᵀ                          [M M], M = D + T + 1: one product per block

A block of rows is multiplied in pieces of `PIECE` rows, about a shift (c, d) that is the mean of the first of them, and pieces
are added with compensation: `high` + `low` is their sum as if in twice the digits (Knuth 1969, "TwoSum"). So what rounds is the
product of one piece alone, however many rows there are.

Large sites are taken one after another and their sums changed where they lie: in one batch, these and what is made of rows
would be copied. Leading axes are sites, positions, folds, classes: `x`, `z` and `w` broadcast over them. Per class:
`w * (y == c)` with an axis of classes; a fold: 0 where it is held out.
"""

import math
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
WHOLE = 512  # width up to which cutting brings nothing
LARGE = 2**18  # multiplications of a piece from which on sites are taken one by one: each keeps all cores busy
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
    """Sums of no row yet, about the mean of these, which are to be the first that are added: of their first piece, without w.

    Args:
      x: what is read, [*S B D].
      z: targets, [*S B T]; None for none.
      w: weights of examples, [*S B]; 0 leaves a row out, whatever is in it. None weighs all alike.
      dtype: of the sums; None takes that of x.
    """
    some = slice(PIECE if w is None else None)  # which, with weights, might have none
    x, z, w = whole(x, z, w)
    x, z, w = x[..., some, :], z[..., some, :], w[..., some]
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
    alike = w is None and x.shape[-2] % min(PIECE, x.shape[-2]) == 0  # what need not be multiplied by 1
    block, n = cut(*whole(x, z, w), sums.bad.shape), x.shape[-2]
    lead, sites = sums.bad.shape, math.prod(sums.bad.shape)
    shifts = [v.reshape(sites, -1) for v in (sums.x_shift, sums.z_shift)]
    held = tuple(v.reshape(sites, *v.shape[len(lead) :]) for v in (sums.high, sums.low, sums.bad))

    def further(s: Int[Array, ""] | int, held: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        """What is held of a site, with its rows."""

        def piece(i: Int[Array, ""], own: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            high, low, bad = own
            rows, targets, weights = (v.astype(high.dtype) for v in piece_of(block, s, i))
            more = products(rows, targets, None if alike else weights, *(shift[s] for shift in shifts))
            sound = jnp.isfinite(jnp.diagonal(more)).all() & (weights >= 0).all()
            here = jax.lax.cond(sound, lambda *_: jnp.int32(SOUND), first_bad, rows, targets, weights)
            bad = jnp.where((bad == SOUND) & (here != SOUND), sums.row + i * block.size + here, bad)
            return *compensated(high, low, more), bad

        return jax.lax.fori_loop(0, block.x.shape[1] // block.size, piece, tuple(v[s] for v in held))

    def in_place(s: Int[Array, ""], held: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        return tuple(v.at[s].set(new) for v, new in zip(held, further(s, held), strict=True))

    if sites == 1:
        held = tuple(v[None] for v in further(0, held))
    elif block.size * held[0][0].size < LARGE:
        held = jax.vmap(further, in_axes=(0, None))(jnp.arange(sites), held)
    else:
        held = jax.lax.fori_loop(0, sites, in_place, held)
    high, low, bad = (v.reshape(*lead, *v.shape[1:]) for v in held)
    return Sums(sums.x_shift, sums.z_shift, high, low, sums.row + (stride or n), bad)


class Block(NamedTuple):
    """Rows in pieces of `size`, the last filled up with weights of 0; each site has an entry of each array, `which`."""

    x: Float[Array, "X B D"]
    z: Float[Array, "Z B T"]
    w: Float[Array, "W B"]
    which: tuple[Int[Array, " S"], ...]
    size: int


def cut(x: Array, z: Array, w: Array, lead: tuple[int, ...]) -> Block:
    """Rows of all sites, of which each array may serve several."""
    size = min(PIECE, x.shape[-2])
    more, each, which = -x.shape[-2] % size, [], []
    for v, axes in ((x, 2), (z, 2), (w, 1)):
        own = v.shape[: v.ndim - axes]
        v = v.reshape(math.prod(own), *v.shape[v.ndim - axes :])
        each.append(jnp.pad(v, [(0, 0), (0, more), (0, 0)][: v.ndim]) if more else v)
        numbers = np.arange(math.prod(own), dtype=np.int32).reshape(own)
        which.append(jnp.asarray(np.broadcast_to(numbers, lead).ravel()))
    return Block(*each, tuple(which), size)


def piece_of(block: Block, s: Int[Array, ""] | int, i: Int[Array, ""]) -> list[Array]:
    """The x, z and w of a site's i-th piece."""
    found = []
    for v, at in zip((block.x, block.z, block.w), block.which, strict=True):
        start = (at[s], i * block.size, *[0] * (v.ndim - 2))
        found.append(jax.lax.dynamic_slice(v, [jnp.int32(k) for k in start], (1, block.size, *v.shape[2:]))[0])
    return found


def first_bad(x: Array, z: Array, w: Array) -> Int[Array, ""]:
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


def products(x: Array, z: Array, w: Array | None, x_shift: Array, z_shift: Array) -> Array:
    """Σ w v vᵀ of a piece; all w are 1 where there are none."""
    v = jnp.concatenate([x - x_shift, z - z_shift, jnp.ones((len(x), 1), x.dtype)], axis=1)
    if w is None:
        return gram(v, v)
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
