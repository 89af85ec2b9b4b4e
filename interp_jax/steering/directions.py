"""Directions of the stream along which a model is steered, from examples of what is wanted and of what is not.

    difference of means      μ₊ - μ₋                            Turner et al. 2023; Rimsky et al. 2024; Marks and Tegmark 2023
    principal difference     v₁ of Σ_n w_n δ_n δ_nᵀ / Σ w,      δ_n = x₊ₙ - x₋ₙ of paired examples (Zou et al. 2023)
    a probe's                its weights                         see `interp_jax/probes`
    random                   uniform on the sphere               what any change of that length does

Differences of pairs are *not* taken about their mean. What is wanted is that mean; recentred, it is gone, and the first
component is whatever else varies between the members of a pair (tested). The sign is that with which the differences agree.

Lengths mean nothing here: a dose is a length in units of the stream's own (`scale_of`), so that methods are matched in norm.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.errors import InputError
from interp_jax.probes.principal import orthonormal
from interp_jax.probes.probe import Convergence

CARRIED = 4  # columns of the iteration, which speed up the first


class PrincipalDifference(NamedTuple):
    """See the module.

    Attributes:
      direction: of length 1.
      share: of the mean squared length of differences that lies along it.
      convergence: how the iteration ended.
    """

    direction: Float[Array, " D"]
    share: Float[Array, ""]
    convergence: Convergence


def unit(v: Float[Array, "*N D"]) -> Float[Array, "*N D"]:
    """Of length 1; 0 stays 0."""
    length = jnp.linalg.norm(v, axis=-1, keepdims=True)
    return v / jnp.where(length > 0, length, 1.0)


def scale_of(x: Float[Array, "*N D"], w: Float[Array, "*N"] | None = None) -> Float[Array, ""]:
    """The root of the mean squared length of activations."""
    square = jnp.square(x).sum(-1)
    w = jnp.ones(square.shape, x.dtype) if w is None else w
    return jnp.sqrt((w * square).sum() / jnp.maximum(w.sum(), jnp.finfo(x.dtype).tiny))


def difference_of_means(
    x: Float[Array, "N D"], y: Float[Array, " N"], w: Float[Array, " N"] | None = None
) -> Float[Array, " D"]:
    """μ₊ - μ₋ of labels y of 0 and 1, each example weighing w; NaN where one side has no weight."""
    w = jnp.ones(len(x), x.dtype) if w is None else w
    mean = lambda share: jnp.einsum("n,nd->d", share / share.sum(), x, precision="highest")
    return mean(w * y) - mean(w * (1 - y))


def principal_difference(
    positive: Float[Array, "N D"],
    negative: Float[Array, "N D"],
    w: Float[Array, " N"] | None = None,
    tolerance: float = 1e-4,
    most_steps: int = 1_000,
) -> PrincipalDifference:
    """The first principal component of the differences of pairs, about 0.

    Orthogonal iteration, products alone; it ends where C v - λ v is no longer than `tolerance` · λ, or at the cap.
    """
    rows = positive - negative
    w = jnp.ones(len(rows), rows.dtype) if w is None else w
    share = w / w.sum()
    start = orthonormal(jax.random.normal(jax.random.key(0), (min(CARRIED, *rows.shape), rows.shape[1]), rows.dtype))

    def going(carry: tuple[Array, ...]) -> Array:
        return (carry[2] > tolerance) & (carry[3] < most_steps)

    def step(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        V, _, _, steps = carry
        CV = ((rows @ V.T) * share[:, None]).T @ rows
        value = V[0] @ CV[0]
        off = jnp.linalg.norm(CV[0] - value * V[0]) / jnp.maximum(value, jnp.finfo(rows.dtype).tiny)
        return orthonormal(CV), value, off, steps + 1

    with jax.default_matmul_precision("highest"):
        zero, infinite = jnp.zeros((), rows.dtype), jnp.asarray(jnp.inf, rows.dtype)
        V, value, off, steps = jax.lax.while_loop(going, step, (start, zero, infinite, jnp.int32(0)))
        agrees = (share @ rows) @ V[0]
    total = jnp.maximum((share * jnp.square(rows).sum(1)).sum(), jnp.finfo(rows.dtype).tiny)
    direction = jnp.where(agrees < 0, -V[0], V[0])
    return PrincipalDifference(direction, value / total, Convergence(off, steps, off <= tolerance))


def probe_direction(probe: Any, output: int | None = None) -> Float[Array, " D"]:
    """What raises a linear probe's score most per length, of length 1.

    Args:
      probe: has `weights`, [D] or [C D].
      output: of a probe with C outputs, which is to be raised above the mean of the others.

    Raises:
      InputError: no linear probe; an output of a probe that has one, none of one that has several, or one beyond them.
    """
    weights = getattr(probe, "weights", None)
    if weights is None or jnp.ndim(weights) not in (1, 2):
        raise InputError(f"probe_direction: {type(probe).__name__} has no weights [D] or [C D]; fit a linear probe")
    if jnp.ndim(weights) == 1:
        if output is not None:
            raise InputError(f"probe_direction: output = {output} of a probe with one output")
        return unit(weights)
    n = len(weights)
    if output is None or not 0 <= output < n or n < 2:
        raise InputError(f"probe_direction: output = {output} of a probe with {n} outputs: give one of 0 to {n - 1}")
    return unit((n * weights[output] - weights.sum(0)) / (n - 1))


def random_directions(key: Key[Array, ""], n: int, width: int) -> Float[Array, "n D"]:
    """Of length 1, in all directions alike."""
    return unit(jax.random.normal(key, (n, width)))
