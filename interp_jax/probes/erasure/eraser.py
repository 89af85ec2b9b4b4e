"""An eraser: an affine map of low rank, and the edit of the forward pass that applies it.

    r(x) = x - (x - c) R W              rows x [D], centre c [D], read R [D K], write W [K D]; R W is a projection: W R = I

What is read of r(x), (r(x) - c) R, is 0. Where c is another example's activation, x takes what that one has in the subspace: an
interchange. A column of R that is 0 does nothing, so that erasers of several ranks make one array. Leading axes are layers,
positions, subspaces.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax.errors import InputError
from interp_jax.taps import Edit

Numbers = Array | np.ndarray


class Eraser(NamedTuple):
    """See the module."""

    centre: Float[Numbers, "*S D"]
    read: Float[Numbers, "*S D K"]
    write: Float[Numbers, "*S K D"]


def erased(eraser: Eraser, x: Float[Numbers, "*S B D"]) -> Float[Numbers, "*S B D"]:
    """r(x), in NumPy where all is NumPy."""
    xp = np if all(isinstance(a, np.ndarray) for a in (x, *eraser)) else jnp
    there = xp.matmul(x - eraser.centre[..., None, :], eraser.read, **precision(xp))
    return x - xp.matmul(there, eraser.write, **precision(xp))


def precision(xp: Any) -> dict[str, str]:
    """Products on a device are to be as exact as its numbers."""
    return {} if xp is np else {"precision": "highest"}


def edit_of(eraser: Eraser, layer: Any = None, where: Any = None) -> Edit:
    """The edit that applies it at a site.

    Args:
      eraser: of one layer; with a leading axis of layers where `layer` is None and the site lies in the stack.
      layer: which, traced or not.
      where: examples and positions at which it acts; everywhere if None.
    """
    return Edit("erase", tuple(jnp.asarray(a, jnp.result_type(float)) for a in eraser), where, layer)


def interchanged(eraser: Eraser, source: Float[Numbers, "*S B D"]) -> Eraser:
    """That puts in what the source has in the subspace, example by example."""
    return eraser._replace(centre=source)


def ranks(eraser: Eraser) -> Int[np.ndarray, "*S"]:
    """How many directions each takes out."""
    return np.asarray((np.asarray(eraser.read) != 0).any(-2).sum(-1))


def nothing(eraser: Eraser) -> Eraser:
    """Of the same shape, that does nothing."""
    return Eraser(*(np.zeros_like(a) for a in eraser))


def stacked(erasers: list[Eraser]) -> Eraser:
    """Several with a leading axis, of the largest rank among them.

    Raises:
      InputError: there is none.
    """
    if not erasers:
        raise InputError("no eraser was given")
    most = max(one.read.shape[-1] for one in erasers)

    def filled(a: Numbers, axis: int) -> np.ndarray:
        more = [(0, 0)] * a.ndim
        more[axis] = (0, most - a.shape[axis])
        return np.pad(np.asarray(a), more)

    return Eraser(
        np.stack([np.asarray(one.centre) for one in erasers]),
        np.stack([filled(one.read, -1) for one in erasers]),
        np.stack([filled(one.write, -2) for one in erasers]),
    )
