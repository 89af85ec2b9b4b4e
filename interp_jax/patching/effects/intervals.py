"""Intervals of mean effects: how far the mean over examples would move with other examples of the same kind.

    θ = mean of x          θ* = mean of B examples drawn with replacement          z_q = Φ⁻¹(q)

    percentile     quantiles of θ* at q = α/2 and 1 - α/2
    bca            quantiles of θ* at Φ(z₀ + (z₀ + z_q) / (1 - a (z₀ + z_q)))        bias-corrected and accelerated
                   z₀ = Φ⁻¹(share of θ* below θ)      a = Σ (x - θ)³ / (6 (Σ (x - θ)²)^(3/2)), the jackknife's
    studentised    θ - s t*_(1-q), t* = (θ* - θ) / s* with s, s* the standard deviations of sample and resample
    student        θ ± s t_(1-α/2) / √(B - 1), Student's with B - 1 degrees of freedom: no bootstrap
    wider          of studentised and student, the lower low end and the higher high one: the default

Efron 1987, "Better Bootstrap Confidence Intervals"; Hall 1988, "Theoretical Comparison of Bootstrap Confidence Intervals".
The studentised one follows skew and is too short where tails are heavy, Student's the reverse, and effects of patches have
both. Coverage of 95% intervals, measured over 10,000 seeds; `wider` falls short by the least, and on normal effects of 8 to 128
examples it is longer than Student's by 15%, 9%, 3% and 1%:

    effects          normal                 skewed                 heavy-tailed           binary
    examples          8   12   32  128       8   12   32  128       8   12   32  128       8   12   32  128
    percentile      .89  .91  .94  .94     .78  .82  .89  .92     .88  .91  .93  .94     .93  .88  .93  .95
    bca             .88  .91  .94  .94     .80  .84  .90  .92     .86  .87  .90  .92     .93  .94  .96  .95
    studentised     .95  .95  .95  .94     .90  .91  .93  .94     .94  .93  .93  .93     .94  .98  .98  .97
    student         .95  .95  .95  .95     .83  .85  .89  .93     .96  .96  .96  .95     .93  .91  .93  .96
    wider           .96  .96  .96  .95     .90  .92  .94  .95     .97  .97  .96  .95     .94  .98  .99  .97

Skewed effects are exp of normal ones, heavy-tailed ones Student's with 3 degrees of freedom, binary ones 1 in 30% of examples
and else 0: with probability .06 all of eight examples are 0, and then no method can tell.

One resample serves every cell of a grid: it is a row of counts, and all cells' means are a product of matrices. It is a
function of (seed, its index), so that nothing depends on how the work is cut to bounded memory.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Float

from interp_jax import randomness
from interp_jax.errors import InputError, nearest
from interp_jax.patching.metrics import check_finite

METHODS = ("percentile", "bca", "studentised", "student", "wider")
AT_ONCE = 2**22  # numbers in the largest array


class MeanInterval(NamedTuple):
    """The mean over examples and an interval for it, each [*cells]."""

    mean: Float[Array, "*cells"]
    low: Float[Array, "*cells"]
    high: Float[Array, "*cells"]


def bootstrap_interval(
    effects: Float[Array | np.ndarray, "*cells B"],
    seed: randomness.Scalar,
    level: float = 0.95,
    n_resamples: int = 2000,
    method: str = "wider",
) -> MeanInterval:
    """The interval that covers the true mean with probability `level`, for each cell by itself.

    A studentised interval, and the wider one, is infinite on a side where too many resamples have no spread, as of a cell in
    which only one example of a few has any effect: those examples cannot bound the mean.

    Raises:
      InputError: fewer than two examples, no resamples, an unknown method, a level outside (0, 1), an
        effect that is not finite.
    """
    if effects.shape[-1] < 2:
        raise InputError(f"an interval over {effects.shape[-1]} example(s): give at least 2")
    if n_resamples < 1:
        raise InputError(f"n_resamples = {n_resamples}: must be at least 1")
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}: {nearest(method, METHODS)}")
    if not 0 < level < 1:
        raise InputError(f"level = {level}: must lie between 0 and 1")
    if not isinstance(effects, jax.core.Tracer):
        check_finite(effects, "effect")
    rows = jnp.asarray(effects).reshape(-1, effects.shape[-1])
    reach = jnp.asarray(_student_reach(level, effects.shape[-1]), rows.dtype)
    tail = jnp.asarray((1 - level) / 2)
    low, high = _intervals(rows, jnp.asarray(seed, jnp.uint32), tail, reach, n_resamples, method)
    return MeanInterval(*(part.reshape(effects.shape[:-1]) for part in (rows.mean(-1), low, high)))


def _student_reach(level: float, n_examples: int) -> float:
    """Half of Student's interval, in standard deviations (of division by B)."""
    import scipy.special  # takes a moment, which whoever needs no intervals need not wait for

    return float(scipy.special.stdtrit(n_examples - 1, (1 + level) / 2)) / (n_examples - 1) ** 0.5


@partial(jax.jit, static_argnames=("n_resamples", "method"))
def _intervals(
    rows: Float[Array, "C B"], seed: Array, tail: Float[Array, ""], reach: Array, n_resamples: int, method: str
) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
    n_examples = rows.shape[1]
    count = partial(_resample, seed, n_examples=n_examples, dtype=rows.dtype)
    levels = jnp.stack([tail, 1 - tail]).astype(rows.dtype)

    def cell(x: Float[Array, " B"]) -> Float[Array, " 2"]:
        mean, size, x = x.mean(), jnp.abs(x).max(), x - x.mean()  # sums of deviations lose no digits to a large mean
        x = jnp.where(jnp.abs(x).max() > 8 * jnp.finfo(x.dtype).eps * size, x, 0.0)  # all alike but for rounding
        student = reach * jnp.sqrt(jnp.mean(x**2))
        if method == "student":
            return mean + jnp.stack([-student, student])

        def moments(resample: Array) -> Float[Array, "2"]:
            return jnp.matmul(jnp.stack([x, x**2]), count(resample), precision="highest") / n_examples

        index = jnp.arange(n_resamples, dtype=jnp.uint32)
        means, squares = jax.lax.map(moments, index, batch_size=max(1, AT_ONCE // n_examples)).T
        if method in ("percentile", "bca"):
            return mean + _quantiles(means, levels if method == "percentile" else _corrected(x, means, levels))
        low, high = _studentised(x, means, squares, levels)
        if method == "wider":
            low, high = jnp.minimum(low, -student), jnp.maximum(high, student)
        return mean + jnp.stack([low, high])

    return tuple(jax.lax.map(cell, rows, batch_size=max(1, AT_ONCE // n_resamples)).T)


def _resample(seed: Array, index: Array, n_examples: int, dtype: jnp.dtype) -> Float[Array, " B"]:
    """How often each example is in the resample."""
    draws = randomness.uniform("counter", seed, "bootstrap", index, (n_examples,))
    chosen = jnp.minimum((draws * n_examples).astype(jnp.int32), n_examples - 1)
    return jnp.zeros(n_examples, dtype).at[chosen].add(1)


def _corrected(x: Float[Array, " B"], means: Float[Array, " N"], levels: Float[Array, " 2"]) -> Float[Array, " 2"]:
    """BCa's levels; the deviations `x` have mean 0, of which half of the ties count as below."""
    below = jnp.mean(means < 0) + jnp.mean(means == 0) / 2
    most = 1 - 0.5 / len(means)
    bias = ndtri(jnp.clip(below, 1 - most, most)).astype(x.dtype)
    spread = jnp.sum(x**2) ** 1.5
    acceleration = jnp.sum(x**3) / jnp.where(spread > 0, 6 * spread, 1.0)
    moved = bias + ndtri(levels)
    return ndtr(bias + moved / (1 - acceleration * moved))


def _studentised(
    x: Float[Array, " B"], means: Float[Array, " N"], squares: Float[Array, " N"], levels: Float[Array, " 2"]
) -> Float[Array, " 2"]:
    """Ends of the interval, relative to the mean."""
    variance = squares - means**2
    flat = variance <= 8 * jnp.finfo(x.dtype).eps * squares  # all examples of the resample are alike
    t = jnp.where(means == 0, 0.0, jnp.where(flat, jnp.sign(means) * jnp.inf, means * jax.lax.rsqrt(variance)))
    ends = _quantiles(t, levels)[::-1]
    return jnp.where(jnp.any(x != 0), -ends * jnp.sqrt(jnp.mean(x**2)), 0.0)


def _quantiles(values: Float[Array, " N"], levels: Float[Array, " 2"]) -> Float[Array, " 2"]:
    """The (N + 1) q-th smallest value, linear between neighbours; infinite where one of them is."""
    place = jnp.clip(levels * (len(values) + 1) - 1, 0, len(values) - 1)
    below = jnp.floor(place).astype(jnp.int32)
    ordered = jnp.sort(values)
    low, high = ordered[below], ordered[jnp.minimum(below + 1, len(values) - 1)]
    along = jnp.where(place == below, 0.0, (place - below) * (high - low))
    return jnp.where((low == high) | jnp.isneginf(low), low, low + along)
