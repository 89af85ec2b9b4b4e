"""Logistic regression by Newton's method (iteratively reweighted least squares), to a stated tolerance.

    L(w, b) = Σ_n s_n [log(1 + exp z_n) - y_n z_n] + λ/2 ‖w‖²          z = x · w + b; λ is 1/C of scikit-learn
    g = Σ_n s_n (p_n - y_n) (x_n, 1) + λ (w, 0)            H = Σ_n s_n p_n (1 - p_n) (x_n, 1)(x_n, 1)ᵀ + diag(λ, 0)

A step goes along -H⁻¹ g. As z is linear in the step, the losses of eight step lengths, 1, 1/2, …, 1/128, cost one product, and
the longest that lowers the loss enough is taken (Armijo 1966). It ends where no entry of g exceeds `tolerance` · Σ_n s_n, that
is, where the mean gradient of an example is that small, and after `most_steps` at the latest; what is left of it is returned.

Many concepts: `jax.vmap(lambda y: logistic(x, y))(labels)`. Each stops where it alone would.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from interp_jax.probes.linear import Linear
from interp_jax.probes.positive import solve

SLOPE = 1e-4  # share of the promised fall of the loss that a step must keep
LENGTHS = 8  # step lengths that are tried


class Fitted(NamedTuple):
    """A fit.

    Attributes:
      probe: the weights and the bias.
      gradient: the largest entry of the gradient that is left, over Σ s.
      steps: how many were taken.
    """

    probe: Linear
    gradient: Float[Array, ""]
    steps: Int[Array, ""]


def logistic(
    x: Float[Array, "N D"],
    y: Bool[Array, " N"],
    penalty: Float[Array, ""] | float = 1.0,
    weights: Float[Array, " N"] | float = 1.0,
    tolerance: float = 1e-5,
    most_steps: int = 50,
) -> Fitted:
    """The probe of one concept.

    Args:
      x: what is read. A column of zeros has weight 0.
      y: whether each example is one of the concept.
      penalty: λ, above 0: where classes can be told apart without error, no finite weights are best without it.
      weights: s, of examples; 0 leaves an example out.
      tolerance: of the mean gradient of an example.
      most_steps: at which it ends in any case.
    """
    rows = jnp.concatenate([x, jnp.ones((len(x), 1), x.dtype)], axis=1)
    s = jnp.broadcast_to(jnp.asarray(weights, x.dtype), y.shape)
    kept = penalty * jnp.ones(rows.shape[1], x.dtype).at[-1].set(0.0)
    target = y.astype(x.dtype)

    def loss(z: Array, w: Array) -> Array:
        return (s * (jax.nn.softplus(z) - target * z)).sum(-1) + 0.5 * (kept * jnp.square(w)).sum(-1)

    def gradient(w: Array) -> Array:
        return rows.T @ (s * (jax.nn.sigmoid(rows @ w) - target)) + kept * w

    def going(carry: tuple[Array, ...]) -> Array:
        _, g, steps, stuck = carry
        return (jnp.abs(g).max() > tolerance * s.sum()) & (steps < most_steps) & ~stuck

    def step(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        w, g, steps, _ = carry
        p = jax.nn.sigmoid(rows @ w)
        H = (rows * (s * p * (1 - p))[:, None]).T @ rows + jnp.diag(kept + jnp.finfo(x.dtype).eps * s.sum())
        along = -solve(H, g[:, None])[:, 0]
        t = jnp.exp2(-jnp.arange(LENGTHS, dtype=x.dtype))[:, None]
        now = loss(rows @ w, w)
        then = loss(rows @ w + t * (rows @ along), w + t * along)
        slack = 8 * jnp.finfo(x.dtype).eps * jnp.abs(now)  # what rounding alone may add
        enough = then <= now + SLOPE * t[:, 0] * (g @ along) + slack
        w = jnp.where(enough.any(), w + t[jnp.argmax(enough)] * along, w)
        return w, gradient(w), steps + 1, ~enough.any()

    with jax.default_matmul_precision("highest"):
        w = jnp.zeros(rows.shape[1], x.dtype)
        w, g, steps, _ = jax.lax.while_loop(going, step, (w, gradient(w), jnp.int32(0), jnp.bool_(False)))
    return Fitted(Linear(w[:-1], w[-1]), jnp.abs(g).max() / s.sum(), steps)
