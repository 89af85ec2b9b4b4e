"""Principal components as probes: directions in which activations vary most, found without labels (Hotelling 1933).

C = Σ_n w_n (x_n - x̄)(x_n - x̄)ᵀ / Σ_n w_n          C v_i = λ_i v_i, λ_1 ≥ λ_2 ≥ …
score = ± v_i · (x - x̄)          i is `component`, traced; the sign, one bit, is that with which labels agree

Found by orthogonal iteration, V ← orthonormal(Xᵀ (W (X V))), products alone. It ends where of the `most` columns that are kept
none of C V - V Λ is longer than `tolerance` · λ_1, or at the cap; as many more are carried along, which speeds it up.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from interp_jax.probes.probe import Convergence, Probe
from interp_jax.probes.targets import BINARY


class Hypers(NamedTuple):
    """Traced: which component is the probe, counted from 0."""

    component: Int[Array, ""] | int = 0


class Principal(NamedTuple):
    """Directions by falling variance, the variances, the mean, which direction is the probe, its sign, and how it ended."""

    directions: Float[Array, "k D"]
    variances: Float[Array, " k"]
    mean: Float[Array, " D"]
    component: Int[Array, ""]
    sign: Float[Array, ""]
    convergence: Convergence


def fit(
    key: Key[Array, ""],
    x: Float[Array, "B D"],
    y: Array,
    w: Float[Array, " B"],
    hypers: Hypers,
    most: int = 4,
    tolerance: float = 1e-4,
    most_steps: int = 1_000,
) -> Principal:
    """The first `most` components; of labels y [B] only the side on which most weight agrees is used."""
    with jax.default_matmul_precision("highest"):
        share = w / w.sum()
        mean = share @ x
        rows = x - mean
        carried = min(2 * most, *x.shape)

        def step(carry: tuple[Array, ...]) -> tuple[Array, ...]:
            V, _, _, steps = carry
            CV = ((rows @ V.T) * share[:, None]).T @ rows
            variances = (V * CV).sum(1)
            off = jnp.linalg.norm(CV - variances[:, None] * V, axis=1)[:most].max()
            return orthonormal(CV), variances, off / jnp.maximum(variances.max(), jnp.finfo(x.dtype).tiny), steps + 1

        def going(carry: tuple[Array, ...]) -> Array:
            return (carry[2] > tolerance) & (carry[3] < most_steps)

        start = orthonormal(jax.random.normal(key, (carried, x.shape[1]), x.dtype))
        begun = (start, jnp.zeros(carried, x.dtype), jnp.asarray(jnp.inf, x.dtype), jnp.int32(0))
        V, variances, off, steps = jax.lax.while_loop(going, step, begun)
        chosen = jnp.asarray(hypers.component, jnp.int32)
        agreed = (w * jnp.where(y > 0, 1.0, -1.0) * jnp.sign(rows @ V[chosen])).sum()
    sign = jnp.where(agreed < 0, -1.0, 1.0).astype(x.dtype)
    return Principal(V[:most], variances[:most], mean, chosen, sign, Convergence(off, steps, off <= tolerance))


def orthonormal(rows: Float[Array, "k D"]) -> Float[Array, "k D"]:
    """Rows of length 1, each less its part along those before it, twice (Gram and Schmidt)."""

    def step(i: Array, rows: Array) -> Array:
        before = jnp.where(jnp.arange(len(rows))[:, None] < i, rows, 0.0)
        row = rows[i] - (before @ rows[i]) @ before
        row = row - (before @ row) @ before
        return rows.at[i].set(row / jnp.maximum(jnp.linalg.norm(row), jnp.finfo(rows.dtype).tiny))

    return jax.lax.fori_loop(0, len(rows), step, rows)


def predict(params: Principal, x: Float[Array, "B D"]) -> Float[Array, " B"]:
    """Scores along the chosen component."""
    direction = params.directions[params.component]
    return params.sign * jnp.matmul(x - params.mean, direction, precision="highest")


PROBE = Probe(fit, predict, BINARY)
