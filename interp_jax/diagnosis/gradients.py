"""The stream before a layer ≥ 1, and the gradient there of a number of each example's answers.

    x + (x_mean - x) · r w        r = (x_mean - x) / ‖x_mean - x‖² [D 1],  w [1 D]:  this is x + w, so ∂/∂w at 0 is ∂/∂x

An intervention that changes nothing, of tier 2, and its derivative. Where all examples have the same there, it is 0.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax.diagnosis.view import Swap, View

STREAM = "blocks.resid_pre"


def gradient_at(
    view: View, layer: int, of: Callable[[Float[Array, "B C"]], Float[Array, " B"]]
) -> tuple[Float[Array, "N P D"], Float[Array, "N P D"]]:
    """See the module.

    Args:
      view: of tier 2 or more.
      layer: 1 or more.
      of: answers -> a number of each.
    """
    _, seen = view.record({STREAM: (layer,)})
    x = seen[STREAM][0]
    away = x.mean(0, keepdims=True) - x
    size = jnp.square(away).sum(-1, keepdims=True)
    read = jnp.where(size > 1e-12, away / jnp.maximum(size, 1e-12), 0.0)[..., None]

    def told(write: Float[Array, "N P 1 D"]) -> Float[Array, ""]:
        return of(view.swapped(None, [Swap(STREAM, layer, None, None, (read, write))])).sum()

    return x, jax.grad(told)(jnp.zeros((*x.shape[:2], 1, x.shape[2]), x.dtype))[:, :, 0]
