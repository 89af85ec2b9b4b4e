"""Ridge regression in closed form, of many targets by one factorisation (Hoerl and Kennard 1970).

w, b = argmin Σ_n s_n (x_n · w + b - y_n)² + λ ‖w‖²                              the bias has no penalty
w = (Xᵀ S X + λ I)⁻¹ Xᵀ S y,   b = ȳ - x̄ · w                                     X and y about their weighted means
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax.probes.linear import Linear
from interp_jax.probes.positive import solve


def ridge(
    x: Float[Array, "N D"],
    y: Float[Array, "C N"],
    penalty: Float[Array, ""] | float = 1.0,
    weights: Float[Array, " N"] | float = 1.0,
) -> Linear:
    """One probe for each row of targets.

    Args:
      x: what is read.
      y: the targets of each concept.
      penalty: λ, which must be above 0 where columns of x depend on each other.
      weights: s, of examples; 0 leaves an example out.
    """
    s = jnp.broadcast_to(jnp.asarray(weights, x.dtype), x.shape[:1])
    x_mean, y_mean = s @ x / s.sum(), y @ s / s.sum()
    centred = x - x_mean
    gram = jnp.einsum("nd,n,ne->de", centred, s, centred, precision="highest") + penalty * jnp.eye(
        x.shape[1], dtype=x.dtype
    )
    moments = jnp.einsum("nd,n,cn->dc", centred, s, y - y_mean[:, None], precision="highest")
    W = solve(gram, moments).T
    return Linear(W, y_mean - W @ x_mean)
