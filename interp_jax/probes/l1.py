"""Probes of few columns by an L1 penalty: lasso and logistic regression, one penalty or a whole path (Tibshirani 1996).

W, b = argmin Σ_n w_n loss(x_n W + b, y_n) + λ Σ |W|          λ is 1/C of scikit-learn, and Σ w · α of its lasso

Accelerated proximal gradient steps, begun anew where the momentum points uphill (Beck and Teboulle 2009; O'Donoghue and Candès
2015), on columns about their mean and of deviation 1, each with the threshold λ/σ_f that this makes of λ:

U ← soft(V - t g(V), t λ/σ)          soft(a, c) = sign(a) max(|a| - c, 0)          t = 1 / (curvature · λ_max(X̃ᵀ W X̃ / Σ w))

It ends where a step of length t moves no entry by more than t · `tolerance`: the gradient that is left, in those columns and
per example. `path` takes many λ one after another, each from where the one before ended; those of a path should fall.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.probes.descent import largest, mean_loss
from interp_jax.probes.probe import Convergence, Probe
from interp_jax.probes.targets import BINARY

CURVATURE = {"binary": 0.25, "classes": 0.5, "labels": 0.25, "real": 1.0}  # the most that a loss bends
POWERS, MARGIN = 100, 1.1  # steps to the largest eigenvalue, and what is added to it


class Hypers(NamedTuple):
    """Traced: λ."""

    penalty: Float[Array, ""] | float = 1.0


class Sparse(NamedTuple):
    """Weights [D] or [D C], of which most are 0, the bias, and how the fit ended; those of a path with a leading axis of λ."""

    weights: Float[Array, "..."]
    bias: Float[Array, "..."]
    convergence: Convergence


class Columns(NamedTuple):
    """Columns of mean 0 and deviation 1, and what made them so; columns that never change are 0."""

    rows: Float[Array, "B D"]
    mean: Float[Array, " D"]
    deviation: Float[Array, " D"]


def fit(key: Key[Array, ""], x: Float[Array, "B D"], y: Array, w: Float[Array, " B"], hypers: Hypers,
        loss: str = "binary", tolerance: float = 1e-5, most_steps: int = 5_000) -> Sparse:  # fmt: skip
    """The probe of labels y [B] or [B C]; `loss` is one of `descent.LOSSES`."""
    found = path(x, y, w, jnp.asarray(hypers.penalty, x.dtype)[None], loss, tolerance, most_steps)
    return jax.tree.map(lambda part: part[0], found)


def path(
    x: Float[Array, "B D"],
    y: Array,
    w: Float[Array, " B"],
    penalties: Float[Array, " n"],
    loss: str = "binary",
    tolerance: float = 1e-5,
    most_steps: int = 5_000,
) -> Sparse:
    """The probes of all penalties, each begun at the one before."""
    with jax.default_matmul_precision("highest"):
        columns, of_scores = standardised(x, w), mean_loss(loss, w, y)
        t = 1 / (CURVATURE[loss] * MARGIN * jnp.maximum(1.0, stretch(columns.rows, w / w.sum())))
        kept = (columns.deviation > 0).reshape(-1, *[1] * (y.ndim - 1))
        size = jnp.where(kept, columns.deviation.reshape(kept.shape), 1.0)
        slope = jax.grad(lambda U, b: of_scores(jnp.tensordot(columns.rows, U, 1) + b), argnums=(0, 1))

        def onwards(carry: tuple[Array, Array], penalty: Array) -> tuple[tuple[Array, Array], Sparse]:
            bound = penalty / w.sum() / size
            (U, b), left = descend(slope, bound, t, carry, tolerance, most_steps)
            weights = jnp.where(kept, U / size, 0.0)
            return (U, b), Sparse(weights, b - jnp.tensordot(columns.mean, weights, 1), left)

        start = jnp.zeros((x.shape[1], *y.shape[1:]), x.dtype), jnp.zeros(y.shape[1:], x.dtype)
        return jax.lax.scan(onwards, start, penalties)[1]


def descend(
    slope: Callable[[Array, Array], tuple[Array, Array]],
    bound: Float[Array, "D *one"],
    t: Float[Array, ""],
    start: tuple[Array, Array],
    tolerance: float,
    most_steps: int,
) -> tuple[tuple[Array, Array], Convergence]:
    """U and b where no step changes anything, for one penalty."""

    def step(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        (U, b), (V, c), momentum, _, steps = carry
        of_V, of_c = slope(V, c)
        ahead = V - t * of_V
        moved = jnp.sign(ahead) * jnp.maximum(jnp.abs(ahead) - t * bound, 0.0), c - t * of_c
        left = largest((moved[0] - V, moved[1] - c)) / t
        uphill = ((V - moved[0]) * (moved[0] - U)).sum() + ((c - moved[1]) * (moved[1] - b)).sum() > 0
        momentum = jnp.where(uphill, 1.0, momentum)
        more = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
        on = jnp.where(uphill, 0.0, (momentum - 1) / more)
        further = moved[0] + on * (moved[0] - U), moved[1] + on * (moved[1] - b)
        return moved, further, more, left, steps + 1

    def going(carry: tuple[Any, ...]) -> Array:
        return ~(carry[3] <= tolerance) & (carry[4] < most_steps)

    begun = (start, start, jnp.ones((), t.dtype), jnp.asarray(jnp.inf, t.dtype), jnp.int32(0))
    found, _, _, left, steps = jax.lax.while_loop(going, step, begun)
    return found, Convergence(left, steps, left <= tolerance)


def standardised(x: Float[Array, "B D"], w: Float[Array, " B"]) -> Columns:
    """Columns as examples weigh them."""
    share = w / w.sum()
    mean = share @ x
    variance = share @ jnp.square(x - mean)
    varies = variance > jnp.square(8 * jnp.finfo(x.dtype).eps * jnp.abs(mean))
    deviation = jnp.where(varies, jnp.sqrt(variance), 0.0)
    return Columns((x - mean) / jnp.where(varies, deviation, jnp.inf), mean, deviation)


def stretch(rows: Float[Array, "B D"], share: Float[Array, " B"]) -> Float[Array, ""]:
    """λ_max(Xᵀ S X), by powers from the direction of the largest row."""

    def step(_: Any, v: Array) -> Array:
        v = rows.T @ (share * (rows @ v))
        return v / jnp.maximum(jnp.linalg.norm(v), jnp.finfo(rows.dtype).tiny)

    v = jax.lax.fori_loop(0, POWERS, step, rows[jnp.argmax(share * jnp.square(rows).sum(1))])
    return (share * jnp.square(rows @ v)).sum()


def largest_penalty(x: Float[Array, "B D"], y: Array, w: Float[Array, " B"], loss: str = "binary") -> Float[Array, ""]:
    """The least λ with which all weights are 0: where a path begins."""
    columns, target = standardised(x, w), y.reshape(len(y), -1).astype(x.dtype)
    mean = (w @ target) / w.sum()  # what the bias alone says, of every loss
    slope = jnp.matmul((w[:, None] * (target - mean)).T, columns.rows, precision="highest")
    return jnp.abs(slope * columns.deviation).max()


def predict(params: Sparse, x: Float[Array, "B D"]) -> Float[Array, "B *C"]:
    """Scores: log-odds, logits or values, by the loss."""
    return jnp.tensordot(x, params.weights, 1, precision="highest") + params.bias


PROBE = Probe(fit, predict, BINARY)
