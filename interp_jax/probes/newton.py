"""The minimum of a penalised convex loss of linear scores, by Newton's method with products of matrices only.

    L(W, b) = Σ_n w_n ℓ(z_n, y_n) + λ/2 ‖W‖²               z = x Wᵀ + b; the bias has no penalty
    g = Σ_n w_n ℓ'_n (x_n, 1) + λ (W, 0)                   H v = Σ_n w_n ℓ''_n (v · (x_n, 1)) (x_n, 1) + λ (v, 0)

A step goes along -H⁻¹ g by conjugate gradients, to a tenth of the gradient and at most `INNER` products with H (truncated
Newton: Dembo and Steihaug 1983). They are preconditioned by P = c Σ_n x_n x_nᵀ + λ, of all rows about their mean and with c the
largest ℓ'' (Böhning 1992): it depends on neither targets nor weights, so `vmap` shares it among labels, folds and controls,
whose products with x become one. Scores are linear in the step, so its length costs no product: 1, halved until the loss falls
enough (Armijo 1966). It ends where no entry of the mean gradient of an example exceeds `tolerance`, and after `most_steps`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax.probes.linear import Linear
from interp_jax.probes.positive import solve
from interp_jax.probes.probe import Convergence

SLOPE = 1e-4  # share of the promised fall of the loss that a step must keep
HALVINGS = 12
INNER, INNER_SHARE = 40, 0.1


class Loss(NamedTuple):
    """Of scores z [B C] and targets y [B C].

    Attributes:
      value: ℓ [B].
      slope: ℓ' [B C].
      curve: (z, y) -> what multiplies a change of z by ℓ'', [B C] -> [B C].
      largest: c, at least every eigenvalue of ℓ''.
    """

    value: Callable[[Array, Array], Array]
    slope: Callable[[Array, Array], Array]
    curve: Callable[[Array, Array], Callable[[Array], Array]]
    largest: float


class State(NamedTuple):
    """Weights, biases, scores, gradient, steps, and whether no length lowers the loss."""

    W: Array
    b: Array
    z: Array
    g: tuple[Array, Array]
    steps: Array
    stuck: Array


def minimum(
    loss: Loss,
    x: Float[Array, "B D"],
    y: Float[Array, "B C"],
    w: Float[Array, " B"],
    penalty: Float[Array, ""] | float,
    tolerance: float,
    most_steps: int,
    inverse: Float[Array, "D D"] | None = None,
) -> Linear:
    """The weights [C D] and biases [C].

    Args:
      loss: see `Loss`.
      x: what is read. A column that is constant has weight 0.
      y: targets.
      w: of examples; 0 leaves one out.
      penalty: λ, above 0: where classes can be told apart without error, no finite weights are best without it.
      tolerance: of the mean gradient of an example.
      most_steps: at which it ends in any case.
      inverse: P⁻¹, where it is known.
    """
    with jax.default_matmul_precision("highest"):
        point = x.mean(0)
        rows, total = x - point, jnp.where(w.sum() > 0, w.sum(), 1.0)
        inverse = preconditioner(loss, x, penalty) if inverse is None else inverse

        def gradient(W: Array, z: Array) -> tuple[Array, Array]:
            e = w[:, None] * loss.slope(z, y)
            return e.T @ rows + penalty * W, e.sum(0)

        def left(g: tuple[Array, Array]) -> Array:
            return jnp.maximum(jnp.abs(g[0]).max(), jnp.abs(g[1]).max()) / total

        def going(s: State) -> Array:
            return (left(s.g) > tolerance) & (s.steps < most_steps) & ~s.stuck

        def step(s: State) -> State:
            curve = loss.curve(s.z, y)
            times = lambda dz: w[:, None] * curve(dz)
            (dW, db), dz = direction(times, rows, s.g, penalty, inverse, loss.largest * total)
            promised = (s.g[0] * dW).sum() + (s.g[1] * db).sum()
            now, bend = loss.value(s.z, y), penalty * jnp.square(dW).sum()
            slack = 8 * jnp.finfo(x.dtype).eps * (w * jnp.abs(now)).sum()  # what rounding alone may add

            def enough(t: Array) -> Array:
                rise = (w * (loss.value(s.z + t * dz, y) - now)).sum()
                return rise + t * (penalty * (s.W * dW).sum() + t * bend / 2) <= SLOPE * t * promised + slack

            t, found = length(enough, x.dtype)
            t = jnp.where(found, t, 0.0)
            W, b, z = s.W + t * dW, s.b + t * db, s.z + t * dz
            return State(W, b, z, gradient(W, z), s.steps + 1, ~found)

        C = y.shape[1]
        W, z = jnp.zeros((C, x.shape[1]), x.dtype), jnp.zeros(y.shape, x.dtype)
        start = State(W, jnp.zeros(C, x.dtype), z, gradient(W, z), jnp.int32(0), jnp.bool_(False))
        end = jax.lax.while_loop(going, step, start)
        how = Convergence(left(end.g), end.steps, left(end.g) <= tolerance)
        return Linear(end.W, end.b - end.W @ point, how)


def preconditioner(loss: Loss, x: Float[Array, "B D"], penalty: Any) -> Float[Array, "D D"]:
    """P⁻¹ of all rows."""
    rows, d = x - x.mean(0), x.shape[1]
    P = loss.largest * jnp.matmul(rows.T, rows, precision="highest")
    ridge = penalty + 8 * jnp.finfo(P.dtype).eps * jnp.trace(P) + jnp.finfo(P.dtype).tiny
    inverse = solve(P + ridge * jnp.eye(d, dtype=P.dtype), jnp.eye(d, dtype=P.dtype))
    return (inverse + inverse.T) / 2


def direction(
    times: Callable[[Array], Array],
    rows: Array,
    g: tuple[Array, Array],
    penalty: Any,
    inverse: Array,
    of_bias: Array,
) -> tuple[tuple[Array, Array], Array]:
    """-H⁻¹ g about, and by how much scores change along it."""

    def preconditioned(r: tuple[Array, Array]) -> tuple[Array, Array]:
        return r[0] @ inverse, r[1] / of_bias

    def dot(a: tuple[Array, Array], b: tuple[Array, Array]) -> Array:
        return (a[0] * b[0]).sum() + (a[1] * b[1]).sum()

    def going(c: tuple[Any, ...]) -> Array:
        *_, size, n = c
        return (size > INNER_SHARE**2 * first) & (n < INNER)

    def step(c: tuple[Any, ...]) -> tuple[Any, ...]:
        d, dz, r, p, size, n = c
        pz = rows @ p[0].T + p[1]
        e = times(pz)
        hp = (e.T @ rows + penalty * p[0], e.sum(0))
        bend = dot(p, hp)
        a = jnp.where(bend > 0, size / jnp.where(bend > 0, bend, 1.0), 0.0)
        along = lambda u, v, k: (u[0] + k * v[0], u[1] + k * v[1])
        d, dz, r = along(d, p, a), dz + a * pz, along(r, hp, -a)
        q = preconditioned(r)
        now = jnp.where(bend > 0, dot(r, q), 0.0)
        return d, dz, r, along(q, p, now / size), now, n + 1

    r = (-g[0], -g[1])
    p = preconditioned(r)
    first = dot(r, p)
    start = ((jnp.zeros_like(r[0]), jnp.zeros_like(r[1])), jnp.zeros((len(rows), len(r[1])), rows.dtype), r, p, first)
    d, dz, *_ = jax.lax.while_loop(going, step, (*start, jnp.int32(0)))
    return d, dz


def length(enough: Callable[[Array], Array], dtype: Any) -> tuple[Array, Array]:
    """The first of 1, 1/2, … that is enough, and whether there is one."""

    def going(c: tuple[Array, Array, Array]) -> Array:
        _, n, found = c
        return ~found & (n < HALVINGS)

    def halve(c: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        t, n, _ = c
        return t / 2, n + 1, enough(t / 2)

    t = jnp.ones((), dtype)
    t, _, found = jax.lax.while_loop(going, halve, (t, jnp.int32(0), enough(t)))
    return t, found
