"""What two opposite statements disagree about, found without labels: contrast-consistent search (Burns et al. 2022).

p± = σ(u · x̃± + b)          x [B 2 D]: the activation of a statement and that of its negation
loss = Σ_n w_n [(p⁺_n + p⁻_n - 1)² + min(p⁺_n, p⁻_n)²] / Σ_n w_n + λ/2 ‖u‖² / Σ_n w_n
score = (z⁺ - z⁻) / 2

x̃⁺ and x̃⁻ are each on a `scale` of their own, so that the words which make the negation do not tell the two apart. The loss
has several minima: of `restarts` draws the one with the least loss is kept, and all losses are returned. Nothing says which
end is "true": labels decide that, one bit in all, and nothing else. Where something else splits the pairs more sharply than
truth does, that is what is found (Farquhar et al. 2023): its controls are no formality.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.probes.descent import minimise
from interp_jax.probes.probe import Convergence, Probe
from interp_jax.probes.scale import Scale, scale, scaled
from interp_jax.probes.targets import BINARY


class Hypers(NamedTuple):
    """Traced: λ."""

    penalty: Float[Array, ""] | float = 1e-2


class Consistent(NamedTuple):
    """Weights and bias; which end is true, ±1; the scales of both statements; losses of all restarts; how the best ended."""

    weights: Float[Array, " D"]
    bias: Float[Array, ""]
    sign: Float[Array, ""]
    scales: tuple[Scale, Scale]
    losses: Float[Array, " restarts"]
    convergence: Convergence


def fit(
    key: Key[Array, ""],
    x: Float[Array, "B 2 D"],
    y: Array,
    w: Float[Array, " B"],
    hypers: Hypers,
    restarts: int = 10,
    tolerance: float = 1e-5,
    most_steps: int = 500,
) -> Consistent:
    """The probe; of labels y [B] only the side on which most weight agrees is used."""
    scales = (scale(x[:, 0], w), scale(x[:, 1], w))
    rows = both(scales, x)

    def objective(params: tuple[Array, Array]) -> Float[Array, ""]:
        yes, no = jax.nn.sigmoid(rows @ params[0] + params[1]).T
        each = jnp.square(yes + no - 1) + jnp.square(jnp.minimum(yes, no))
        return ((w * each).sum() + 0.5 * hypers.penalty * jnp.square(params[0]).sum()) / w.sum()

    def once(key: Key[Array, ""]) -> tuple[tuple[Array, Array], Convergence, Array]:
        start = (jax.random.normal(key, x.shape[-1:], x.dtype), jnp.zeros((), x.dtype))
        params, left = minimise(objective, start, tolerance, most_steps)
        return params, left, objective(params)

    with jax.default_matmul_precision("highest"):
        params, left, losses = jax.vmap(once)(jax.random.split(key, restarts))
        (weights, bias), left = jax.tree.map(lambda part: part[jnp.argmin(losses)], (params, left))
        agreed = (w * jnp.where(y > 0, 1.0, -1.0) * jnp.sign((rows[:, 0] - rows[:, 1]) @ weights)).sum()
    return Consistent(weights, bias, jnp.where(agreed < 0, -1.0, 1.0).astype(x.dtype), scales, losses, left)


def both(scales: tuple[Scale, Scale], x: Float[Array, "B 2 D"]) -> Float[Array, "B 2 D"]:
    """Statement and negation, each on its own scale."""
    return jnp.stack([scaled(one, x[:, i]) for i, one in enumerate(scales)], axis=1)


def predict(params: Consistent, x: Float[Array, "B 2 D"]) -> Float[Array, " B"]:
    """Scores, above 0 where the statement is true."""
    rows = both(params.scales, x)
    return params.sign * jnp.matmul(rows[:, 0] - rows[:, 1], params.weights, precision="highest") / 2


PROBE = Probe(fit, predict, BINARY)
