"""A probe of products of two readings: a quadratic form of low rank beside a line.

z = Σ_r (u_r · x̃)(v_r · x̃) + w · x̃ + b
loss = Σ_n w_n loss(z_n, y_n) / Σ_n w_n + λ/2 (‖U‖² + ‖V‖² + ‖w‖²) / Σ_n w_n

x̃ is x on its own `scale`, λ is `penalty`. An exclusive or of two directions is of rank 1: what an MLP needs width for, and what
a line cannot read, is one product here, whose two factors can be looked at.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.probes.descent import mean_loss, minimise
from interp_jax.probes.probe import Convergence, Probe
from interp_jax.probes.scale import Scale, scale, scaled
from interp_jax.probes.targets import BINARY


class Hypers(NamedTuple):
    """Traced: λ."""

    penalty: Float[Array, ""] | float = 1.0


class Bilinear(NamedTuple):
    """Factors u and v of each product, the line, the scale of what is read, and how the fit ended."""

    first: Float[Array, "D r *C"]
    second: Float[Array, "D r *C"]
    weights: Float[Array, "D *C"]
    bias: Float[Array, "*C"]
    scale: Scale
    convergence: Convergence


def fit(
    key: Key[Array, ""],
    x: Float[Array, "B D"],
    y: Array,
    w: Float[Array, " B"],
    hypers: Hypers,
    rank: int = 4,
    loss: str = "binary",
    tolerance: float = 1e-5,
    most_steps: int = 500,
) -> Bilinear:
    """The probe of labels y [B] or [B C], `rank` products for each; `loss` is one of `descent.LOSSES`."""
    of_x, labels = scale(x, w), y.shape[1:]
    rows, of_scores = scaled(of_x, x), mean_loss(loss, w, y)
    both = jax.random.normal(key, (2, x.shape[1], rank, *labels), x.dtype) / x.shape[1] ** 0.5
    start = (both[0], both[1], jnp.zeros((x.shape[1], *labels), x.dtype), jnp.zeros(labels, x.dtype))

    def objective(params: tuple[Array, ...]) -> Float[Array, ""]:
        weights = sum(jnp.square(part).sum() for part in params[:3])
        return of_scores(scores(params, rows)) + 0.5 * hypers.penalty * weights / w.sum()

    params, left = minimise(objective, start, tolerance, most_steps)
    return Bilinear(*params, of_x, left)


def scores(params: tuple[Array, ...], rows: Float[Array, "B D"]) -> Float[Array, "B *C"]:
    """Those of rows that are on the probe's scale."""
    first, second, weights, bias = params
    products = jnp.tensordot(rows, first, 1) * jnp.tensordot(rows, second, 1)
    return products.sum(1) + jnp.tensordot(rows, weights, 1) + bias


def predict(params: Bilinear, x: Float[Array, "B D"]) -> Float[Array, "B *C"]:
    """Scores: log-odds, logits or values, by the loss."""
    with jax.default_matmul_precision("highest"):
        return scores(params[:4], scaled(params.scale, x))


PROBE = Probe(fit, predict, BINARY)
