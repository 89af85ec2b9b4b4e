"""A probe with one hidden layer: reads what is there in any form, and memorises what is not (Hewitt and Liang 2019).

z = W_outᵀ gelu(W_inᵀ x̃ + b_in) + b_out
loss = Σ_n w_n loss(z_n, y_n) / Σ_n w_n + λ/2 (‖W_in‖² + ‖W_out‖²) / Σ_n w_n

x̃ is x on its own `scale`, λ is `penalty`. What an MLP reads need not lie on a line; beside it stand the linear probe, and the
selectivity of both.
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


class Mlp(NamedTuple):
    """Weights and biases, the scale of what is read, and how the fit ended."""

    W_in: Float[Array, "D M"]
    b_in: Float[Array, " M"]
    W_out: Float[Array, "M *C"]
    b_out: Float[Array, "*C"]
    scale: Scale
    convergence: Convergence


def fit(
    key: Key[Array, ""],
    x: Float[Array, "B D"],
    y: Array,
    w: Float[Array, " B"],
    hypers: Hypers,
    width: int = 64,
    loss: str = "binary",
    tolerance: float = 1e-5,
    most_steps: int = 500,
) -> Mlp:
    """The probe of labels y [B] or [B C]; `loss` is one of `descent.LOSSES`."""
    of_x, (inner, outer) = scale(x, w), jax.random.split(key)
    rows, of_scores = scaled(of_x, x), mean_loss(loss, w, y)
    W_in = jax.random.normal(inner, (x.shape[1], width), x.dtype) / x.shape[1] ** 0.5
    W_out = jax.random.normal(outer, (width, *y.shape[1:]), x.dtype) / width**0.5
    start = (W_in, jnp.zeros(width, x.dtype), W_out, jnp.zeros(y.shape[1:], x.dtype))

    def objective(params: tuple[Array, ...]) -> Float[Array, ""]:
        weights = jnp.square(params[0]).sum() + jnp.square(params[2]).sum()
        return of_scores(scores(params, rows)) + 0.5 * hypers.penalty * weights / w.sum()

    params, left = minimise(objective, start, tolerance, most_steps)
    return Mlp(*params, of_x, left)


def scores(params: tuple[Array, ...], rows: Float[Array, "B D"]) -> Float[Array, "B *C"]:
    """Those of rows that are on the probe's scale."""
    W_in, b_in, W_out, b_out = params
    return jnp.tensordot(jax.nn.gelu(rows @ W_in + b_in), W_out, 1) + b_out


def predict(params: Mlp, x: Float[Array, "B D"]) -> Float[Array, "B *C"]:
    """Scores: log-odds, logits or values, by the loss."""
    with jax.default_matmul_precision("highest"):
        return scores(params[:4], scaled(params.scale, x))


PROBE = Probe(fit, predict, BINARY)
