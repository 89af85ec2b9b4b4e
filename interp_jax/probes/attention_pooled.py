"""A probe of a whole text: attention finds the positions that matter, and a line reads them (after Kantamneni et al. 2025).

a_hp = softmax_p(q_h · x̃_p)          z = Σ_h Σ_p a_hp (v_h · x̃_p) + b
loss = Σ_n w_n loss(z_n, y_n) / Σ_n w_n + λ/2 (‖q‖² + ‖v‖²) / Σ_n w_n

With q = 0 it reads the mean over positions, where the fit begins (but for q's small draw), with v along the covariance of that
mean and y: from a v drawn at random it may end where no head looks at what tells. x̃ is x on its own `scale`, λ is `penalty`. A
position that is not there, beyond a text's end, is a row of zeros; it has no attention.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.probes.descent import mean_loss, minimise
from interp_jax.probes.probe import Convergence, Probe
from interp_jax.probes.scale import Scale, scale, scaled
from interp_jax.probes.targets import BINARY

SMALL = 0.1  # size of the first q · x̃


class Hypers(NamedTuple):
    """Traced: λ."""

    penalty: Float[Array, ""] | float = 1.0


class AttentionPooled(NamedTuple):
    """What each head looks for and what it reads there, the scale of what is read, and how the fit ended."""

    queries: Float[Array, "D H"]
    values: Float[Array, "D H *C"]
    bias: Float[Array, "*C"]
    scale: Scale
    convergence: Convergence


def fit(
    key: Key[Array, ""],
    x: Float[Array, "B P D"],
    y: Array,
    w: Float[Array, " B"],
    hypers: Hypers,
    heads: int = 1,
    loss: str = "binary",
    tolerance: float = 1e-5,
    most_steps: int = 500,
) -> AttentionPooled:
    """The probe of labels y [B] or [B C] of texts; `loss` is one of `descent.LOSSES`."""
    there, D = jnp.any(x != 0, axis=-1), x.shape[-1]
    of_x, of_scores = scale(x, w[:, None] * there), mean_loss(loss, w, y)
    rows = scaled(of_x, x)
    queries = SMALL * jax.random.normal(key, (D, heads), x.dtype) / D**0.5
    start = (queries, along(rows, there, y, w, heads), jnp.zeros(y.shape[1:], x.dtype))

    def objective(params: tuple[Array, ...]) -> Float[Array, ""]:
        weights = jnp.square(params[0]).sum() + jnp.square(params[1]).sum()
        return of_scores(scores(params, rows, there)) + 0.5 * hypers.penalty * weights / w.sum()

    params, left = minimise(objective, start, tolerance, most_steps)
    return AttentionPooled(*params, of_x, left)


def along(
    rows: Float[Array, "B P D"], there: Array, y: Array, w: Float[Array, " B"], heads: int
) -> Float[Array, "D H *C"]:
    """The covariance of texts' means and y, of length 1 over all heads."""
    mean = (rows * there[..., None]).sum(1) / jnp.maximum(there.sum(1, keepdims=True), 1)
    share = (w / w.sum()).astype(rows.dtype)
    told = y.astype(rows.dtype) - jnp.tensordot(share, y.astype(rows.dtype), 1)
    found = jnp.tensordot((mean * share[:, None]).T, told, 1)
    found = found / jnp.maximum(jnp.sqrt(jnp.square(found).sum(0)), 1e-9) / heads
    return jnp.repeat(found[:, None], heads, axis=1)


def attention(queries: Float[Array, "D H"], rows: Float[Array, "B P D"], there: Array) -> Float[Array, "B P H"]:
    """How much each head looks at each position, of those that are there."""
    logits = jnp.where(there[..., None], jnp.tensordot(rows, queries, 1), -jnp.inf)
    return jax.nn.softmax(jnp.where(there.any(1)[:, None, None], logits, 0.0), axis=1)


def scores(params: tuple[Array, ...], rows: Float[Array, "B P D"], there: Array) -> Float[Array, "B *C"]:
    """Those of rows that are on the probe's scale."""
    queries, values, bias = params
    pooled = jnp.einsum("bph,bpd->bdh", attention(queries, rows, there), rows)
    return jnp.tensordot(pooled, values, 2) + bias


def predict(params: AttentionPooled, x: Float[Array, "B P D"]) -> Float[Array, "B *C"]:
    """Scores: log-odds, logits or values, by the loss."""
    with jax.default_matmul_precision("highest"):
        return scores(params[:3], scaled(params.scale, x), jnp.any(x != 0, axis=-1))


PROBE = Probe(fit, predict, BINARY)
