"""Could chance alone make effects as strong as these? Sign-flip tests, and their correction across a grid.

Under the null hypothesis that an example's effect is as likely -x as x, all 2^B choices of signs are equally likely:

    T = Σ x / √(Σ x²)          p = share of the sign choices ε with T(εx) at least as extreme as T(x)

T is a monotone function of Student's t and comparable between cells. All choices are enumerated where B ≤ 12, so that p is
exact; else N random ones are drawn, and p = (1 + number at least as extreme) / (1 + N) (Phipson and Smyth 2010).

Corrections, each as adjusted p-values in the shape of the grid, which is one family; call what is at most α:

    family_wise           step-down maximum of T over cells (Westfall and Young 1993): P(even one false call) ≤ α. Every
                          choice of signs serves all cells, so that correlated cells count for fewer.
    holm                  the same, from p-values alone (Holm 1979)
    benjamini_hochberg    E[share of false calls] ≤ α, for cells independent or positively dependent (1995)
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from interp_jax import randomness
from interp_jax.errors import InputError, nearest
from interp_jax.patching.metrics import check_finite

EXACT_UP_TO = 12  # examples
AT_ONCE = 2**22  # numbers in the largest array
SIDES = ("two-sided", "greater", "less")


class SignFlip(NamedTuple):
    """P-values of each cell by itself, and of each cell in its family, [*cells]."""

    p: Float[Array, "*cells"]
    family_wise: Float[Array, "*cells"]


def sign_flip_test(
    effects: Float[Array | np.ndarray, "*cells B"],
    seed: randomness.Scalar = 0,
    n_flips: int = 10_000,
    alternative: str = "two-sided",
) -> SignFlip:
    """Test every cell's effects for symmetry around 0.

    Args:
      effects: per example.
      seed: of the signs, which are a function of (seed, index of the flip, example); unused where all are enumerated.
      n_flips: how many are drawn; no p-value can be under 1/(n_flips + 1).
      alternative: "two-sided", or the mean effect is "greater" or "less" than 0.

    Raises:
      InputError: no example, no flips, an unknown alternative, an effect that is not finite.
    """
    if alternative not in SIDES:
        raise InputError(f"unknown alternative {alternative!r}: {nearest(alternative, SIDES)}")
    if n_flips < 1:
        raise InputError(f"n_flips = {n_flips}: must be at least 1")
    if effects.shape[-1] < 1 or effects.size == 0:
        raise InputError(f"effects have shape {effects.shape}: there is nothing to test")
    if not isinstance(effects, jax.core.Tracer):
        check_finite(effects, "effect")
    rows = jnp.asarray(effects).reshape(-1, effects.shape[-1])
    p, family_wise = _flip(rows, jnp.asarray(seed, jnp.uint32), n_flips, alternative)
    return SignFlip(p.reshape(effects.shape[:-1]), family_wise.reshape(effects.shape[:-1]))


@partial(jax.jit, static_argnames=("n_flips", "alternative"))
def _flip(
    rows: Float[Array, "C B"], seed: Array, n_flips: int, alternative: str
) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
    n_cells, n_examples = rows.shape
    exact = n_examples <= EXACT_UP_TO
    n_flips = 2**n_examples if exact else n_flips
    scale = jnp.sqrt(jnp.sum(rows**2, axis=1, keepdims=True))
    rows = rows / jnp.where(scale > 0, scale, 1.0)
    order = jnp.argsort(-_extremeness(rows.sum(1), alternative))
    rows = rows[order]
    # what ties but for rounding counts as at least as extreme
    bar = _extremeness(rows.sum(1), alternative) - 8 * jnp.finfo(rows.dtype).eps * n_examples**0.5
    block = min(n_flips, max(1, AT_ONCE // max(n_cells, n_examples)))

    def add(counts: Array, first: Array) -> tuple[Array, None]:
        index = first + jnp.arange(block, dtype=jnp.uint32)
        signs = _all_signs(index, n_examples) if exact else _random_signs(seed, index, n_examples)
        drawn = _extremeness(jnp.matmul(rows, signs.T.astype(rows.dtype), precision="highest"), alternative)
        drawn = jnp.where(index < n_flips, drawn, -jnp.inf)
        strongest = jax.lax.cummax(drawn, axis=0, reverse=True)  # of this cell and all that are weaker
        return counts + jnp.stack(
            [(values >= bar[:, None]).sum(1, dtype=jnp.int32) for values in (drawn, strongest)]
        ), None

    firsts = jnp.arange(0, n_flips, block, dtype=jnp.uint32)
    counts = jax.lax.scan(add, jnp.zeros((2, n_cells), jnp.int32), firsts)[0]
    p = counts / n_flips if exact else (1 + counts) / (1 + n_flips)
    p = p.astype(rows.dtype).at[1].set(jax.lax.cummax(p[1].astype(rows.dtype)))
    return tuple(jnp.zeros_like(p).at[:, order].set(p))


def _extremeness(sums: Float[Array, "..."], alternative: str) -> Float[Array, "..."]:
    return {"two-sided": jnp.abs, "greater": jnp.positive, "less": jnp.negative}[alternative](sums)


def _all_signs(index: Array, n_examples: int) -> Float[Array, "N B"]:
    """Bits of the index, as ±1."""
    return 1.0 - 2.0 * ((index[:, None] >> jnp.arange(n_examples, dtype=jnp.uint32)) & 1)


def _random_signs(seed: Array, index: Array, n_examples: int) -> Float[Array, "N B"]:
    bits = jax.vmap(lambda step: randomness.counter_bits(seed, "sign flips", step, (n_examples,)))(index)
    return 1.0 - 2.0 * (bits >> 31)


def holm(p: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
    """Adjusted p-values: the i-th smallest of m times m - i + 1, made monotone.

    Raises:
      InputError: a p-value outside [0, 1].
    """
    flat, order = _in_order(p)
    adjusted = jax.lax.cummax(flat * jnp.arange(flat.size, 0, -1))
    return _back(jnp.minimum(adjusted, 1.0), order, p)


def benjamini_hochberg(p: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
    """Adjusted p-values: the i-th smallest of m times m / i, made monotone.

    Raises:
      InputError: a p-value outside [0, 1].
    """
    flat, order = _in_order(p)
    adjusted = jax.lax.cummin(flat * flat.size / jnp.arange(1, flat.size + 1), reverse=True)
    return _back(jnp.minimum(adjusted, 1.0), order, p)


def _in_order(p: Float[Array, "*cells"]) -> tuple[Float[Array, " C"], Array]:
    if not isinstance(p, jax.core.Tracer):
        bad = np.argwhere(~_valid(np.asarray(p)))
        if len(bad):
            cell = tuple(map(int, bad[0]))
            raise InputError(f"p-value {np.asarray(p)[cell]} of cell {cell}: must lie between 0 and 1")
    order = jnp.argsort(p.reshape(-1))
    return p.reshape(-1)[order], order


def _valid(p: np.ndarray) -> Bool[np.ndarray, "*cells"]:
    return (p >= 0) & (p <= 1)


def _back(ordered: Float[Array, " C"], order: Array, p: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
    return jnp.zeros_like(ordered).at[order].set(ordered).reshape(p.shape)
