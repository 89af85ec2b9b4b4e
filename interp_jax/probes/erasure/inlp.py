"""Iterative null-space projection (Ravfogel et al. 2020): fit a probe, take its directions out, and fit another.

    B = {};  repeat:  w_1 … w_C = probe fitted to x - x BᵀB          B ← B and what is new of w_1 … w_C, orthonormal
    r(x) = x - (x - x̄) BᵀB

Any probe will do. After a few rounds no further probe of that kind finds much. Unlike the least change it may take far more out
than it must, and guarantees nothing: how well the last probe did is for you to measure.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from interp_jax.activations.moments import Moments
from interp_jax.probes.erasure.eraser import Eraser
from interp_jax.probes.erasure.linear import check
from interp_jax.probes.probe import Convergence, convergence_of

Fit = Callable[[Key[Array, ""], Array, Array, Array], Any]  # key, x, y, w -> params with `weights` [D] or [C D]
LEAST = 1e-5  # share of a direction that must be new


class Inlp(NamedTuple):
    """The eraser, and how the fit of each round ended; None of a closed form."""

    eraser: Eraser
    convergence: Convergence | None


def inlp(fit: Fit, key: Key[Array, ""], x: Float[Array, "B D"], y: Array, w: Float[Array, " B"], rounds: int) -> Inlp:
    """The eraser of so many rounds; pure, so that sites, labels and seeds are a `vmap`.

    Args:
      fit: of a linear probe, to rows, labels and weights of examples; `functools.partial` binds the rest.
      key: a fresh one is made of it for each round.
      x: the rows.
      y: their labels.
      w: weights of examples, 0 for those held out.
      rounds: how often a probe is fitted, at most D / C times.
    """
    directions = lambda params: jnp.atleast_2d(params.weights)
    n = jax.eval_shape(lambda *given: directions(fit(*given)), key, x, y, w).shape[0]
    centre = (w @ x) / w.sum()
    product = lambda a, b: jnp.matmul(a, b, precision="highest")

    def turn(basis: Array, i: Array) -> tuple[Array, Convergence | None]:
        left = x - product(product(x - centre, basis.T), basis)
        params = fit(jax.random.fold_in(key, i), left, y, w)
        found = directions(params)
        for j in range(n):
            new = found[j]
            for _ in range(2):  # once more, for what rounding left
                new = new - product(product(basis, new), basis)
            size = jnp.linalg.norm(new)
            new = jnp.where(size > LEAST * jnp.linalg.norm(found[j]), new / jnp.where(size > 0, size, 1), 0)
            basis = basis.at[i * n + j].set(new)
        return basis, convergence_of(params)

    basis, how = jax.lax.scan(turn, jnp.zeros((rounds * n, x.shape[1]), x.dtype), jnp.arange(rounds))
    return Inlp(Eraser(centre, basis.T, basis), how)


def inlp_of(moments: Moments, rounds: int, penalty: float = 1e-6) -> Eraser:
    """The same with ridge regression as the probe, of moments alone; `penalty` is relative to the mean variance.

    Raises:
      InputError: no rows, no targets, or activations that do not vary.
    """
    check(moments)
    covariance, cross = moments.covariance, moments.cross_covariance
    d = cross.shape[-2]
    size = np.trace(covariance, axis1=-2, axis2=-1)[..., None, None] / d
    basis = np.zeros((*moments.count.shape, d, 0))
    for _ in range(rounds):
        kept = np.eye(d) - basis @ basis.swapaxes(-1, -2)
        found = np.linalg.solve(kept @ covariance @ kept + penalty * size * np.eye(d), kept @ cross)
        new = kept @ (found / np.maximum(np.linalg.norm(found, axis=-2, keepdims=True), np.finfo(float).tiny))
        U, sizes, _ = np.linalg.svd(new, full_matrices=False)
        basis = np.concatenate([basis, U * (sizes > LEAST)[..., None, :]], -1)
    return Eraser(moments.mean, basis, basis.swapaxes(-1, -2).copy())
