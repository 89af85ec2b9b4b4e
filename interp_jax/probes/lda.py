"""Linear discriminant analysis (Fisher 1936; Rao 1948), from moments: one factorisation for all targets and shrinkages.

    Σ = S/n - U Uᵀ     U = [√π_c δ_c]     δ_c = μ_c - x̄       covariance within classes
    Σ_α = (1-α) Σ + α tr(Σ)/D I                                (Ledoit and Wolf 2004)
    two classes, y [B]            θ = Σ_α⁻¹ (μ₊ - μ₋), and z the log-odds along it: `discriminant.py`
    classes, y [B C]              z_c = (x - x̄) · Σ_α⁻¹ δ_c - ½ δ_c · Σ_α⁻¹ δ_c + log p_c

p_c is π_c, the share of the class, or with `priors="equal"` the same for all, so that each class counts alike, however rare.
Where classes are Gaussian, of one covariance, no probe is better (α = 0). Of two classes it is mass-mean with Σ⁻¹ (Marks and
Tegmark 2023). Rows of no class, all of whose targets are 0, count as a class of their own that is never said.

    Σ_α⁻¹ = A⁻¹ + (1-α) A⁻¹ U (I - (1-α) Uᵀ A⁻¹ U)⁻¹ Uᵀ A⁻¹        A = V diag((1-α) s + α tr(Σ)/D) Vᵀ,  S/n = V diag(s) Vᵀ

(Woodbury 1950): V does not depend on targets, so `vmap` shares it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax.errors import InputError, nearest
from interp_jax.probes.discriminant import Discriminant, along, between
from interp_jax.probes.linear import Linear, predict
from interp_jax.probes.moments import moments_like
from interp_jax.probes.positive import solve
from interp_jax.probes.probe import Probe, Target
from interp_jax.probes.targets import BINARY, CLASSES, ONE_OF_MANY, own_class, share

NEVER = -1e30  # score of a class without examples
PRIORS = ("counted", "equal")


class Hypers(NamedTuple):
    """`shrinkage` is α, in 0 … 1; above 0 where features depend on each other."""

    shrinkage: Float[Array, "*H"] | float = 1e-3


class Balanced(NamedTuple):
    """`balanced`: mean over classes of the share that is told right; rows of no class do not count."""

    balanced: Float[Array, "..."]


def balanced(z: Float[Array, "B C"], y: Float[Array, "B C"], w: Float[Array, " B"]) -> Balanced:
    """Of the largest score."""
    right = (z.argmax(1) == y.argmax(1)).astype(z.dtype)
    return Balanced(jnp.nanmean(share((w * right) @ y, w @ y)))


def from_moments(m: Any, hypers: Hypers, priors: str = "counted") -> Discriminant | Linear:
    """Of one target of 0 and 1, or of classes.

    Raises:
      InputError: priors that are none of `PRIORS`.
    """
    if priors not in PRIORS:
        raise InputError(f"lda: priors = {priors!r}; {nearest(priors, PRIORS)}")
    if m.cross.ndim == 1:
        p, delta, within = between(m)
        inverse = inverse_within(m, jnp.sqrt(p * (1 - p)) * delta[:, None], hypers.shrinkage)
        return along(m, inverse(delta[:, None])[:, 0], shrunk(within, hypers.shrinkage))
    shares = jnp.clip(m.target_mean, 0.0, 1.0)
    delta = (m.cross / m.count) / jnp.where(shares > 0, shares, 1.0)  # [D C]
    none = jnp.maximum(1 - shares.sum(), 0.0)
    rest = -(delta @ shares) / jnp.where(none > 0, none, 1.0)
    U = jnp.concatenate([jnp.sqrt(shares) * delta, (jnp.sqrt(none) * rest)[:, None]], axis=1)
    weights = inverse_within(m, U, hypers.shrinkage)(delta)
    prior = jnp.log(jnp.where(shares > 0, shares, 1.0)) if priors == "counted" else 0.0
    bias = prior - (delta * weights).sum(0) / 2 - jnp.matmul(m.mean, weights, precision="highest")
    return Linear(weights.T, jnp.where(shares > 0, bias, NEVER))


def inverse_within(m: Any, U: Float[Array, "D K"], alpha: Float[Array, ""] | float) -> Callable[[Array], Array]:
    """What multiplies columns by Σ_α⁻¹."""
    highest = partial(jnp.matmul, precision="highest")
    values, vectors = jnp.linalg.eigh(jnp.asarray(m.scatter / m.count))
    values, d = jnp.maximum(values, 0.0), len(values)
    size = jnp.maximum(values.sum() - jnp.square(U).sum(), 0.0) / d
    root = jnp.sqrt((1 - alpha) * values + alpha * size + jnp.finfo(values.dtype).tiny)[:, None]
    u = highest(vectors.T, U) / root
    inner = (1 + jnp.finfo(u.dtype).eps) * jnp.eye(u.shape[1], dtype=u.dtype) - (1 - alpha) * highest(u.T, u)

    def times(columns: Array) -> Array:
        v = highest(vectors.T, columns) / root
        return highest(vectors, (v + (1 - alpha) * highest(u, solve(inner, highest(u.T, v)))) / root)

    return times


def shrunk(covariance: Float[Array, "D D"], alpha: Float[Array, ""] | float) -> Float[Array, "D D"]:
    """Σ_α."""
    d = len(covariance)
    return (1 - alpha) * covariance + alpha * jnp.trace(covariance) / d * jnp.eye(d, dtype=covariance.dtype)


def fit(
    key: Any,
    x: Float[Array, "B D"],
    y: Float[Array, "B *C"],
    w: Float[Array, " B"],
    hypers: Hypers,
    priors: str = "counted",
) -> Discriminant | Linear:
    """The probe.

    Args:
      key: not used.
      x: what is read.
      y: 0 or 1; or 1 for the own class and else 0.
      w: of examples.
      hypers: the shrinkage.
      priors: of classes, one of `PRIORS`.
    """
    return from_moments(moments_like(x, y, w), hypers, priors)


PROBE = Probe(fit, predict, BINARY, from_moments, factorises=True)
OF_CLASSES = PROBE._replace(target=CLASSES)
EQUAL_PRIORS = PROBE._replace(
    fit=partial(fit, priors="equal"),
    target=Target(balanced, classes=own_class, allowed=ONE_OF_MANY),
    from_moments=partial(from_moments, priors="equal"),
)
