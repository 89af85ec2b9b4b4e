"""Activations about their mean and of size one, so that starts, penalties and tolerances mean the same at every site.

    x̃ = (x - x̄) / s          x̄ = Σ_n w_n x_n / Σ_n w_n          s² = Σ_n w_n ‖x_n - x̄‖² / (D Σ_n w_n)

One s serves all dimensions: what is large stays large, and no dimension that is nearly constant is blown up.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class Scale(NamedTuple):
    """The mean, and the size about it."""

    mean: Float[Array, " D"]
    size: Float[Array, ""]


def scale(x: Float[Array, "*B D"], w: Float[Array, "*B"]) -> Scale:
    """That of vectors, by their weights."""
    share = (w / w.sum()).astype(x.dtype)[..., None]
    mean = (share * x).reshape(-1, x.shape[-1]).sum(0)
    square = (share * jnp.square(x - mean)).sum() / x.shape[-1]
    return Scale(mean, jnp.where(square > 0, jnp.sqrt(square), 1.0).astype(x.dtype))


def scaled(scale: Scale, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """Activations on that scale."""
    return (x - scale.mean) / scale.size
