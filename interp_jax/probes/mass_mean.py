"""The difference of class means as a probe, "mass-mean" (Marks and Tegmark 2023, arXiv:2310.06824).

    θ = δ = μ₊ - μ₋                       z, δ's length and what it is of a feature's spread: see `discriminant.py`

With Σ⁻¹ it is Fisher's discriminant: `lda.py`. Nothing is chosen, so there are no hypers.
"""

from typing import Any, NamedTuple

from jaxtyping import Array, Float

from interp_jax.probes.discriminant import Discriminant, along, between
from interp_jax.probes.linear import predict
from interp_jax.probes.moments import moments_like
from interp_jax.probes.probe import Probe
from interp_jax.probes.targets import BINARY


class Hypers(NamedTuple):
    """`unused` makes members of a probe that has nothing to choose."""

    unused: Float[Array, "*H"] | float = 0.0


def from_moments(m: Any, hypers: Hypers) -> Discriminant:
    """Of one target of 0 and 1."""
    return along(m, between(m)[1])


def fit(
    key: Any, x: Float[Array, "B D"], y: Float[Array, " B"], w: Float[Array, " B"], hypers: Hypers
) -> Discriminant:
    """The probe.

    Args:
      key: not used.
      x: what is read.
      y: 0 or 1.
      w: of examples.
      hypers: not used.
    """
    return from_moments(moments_like(x, y, w), hypers)


PROBE = Probe(fit, predict, BINARY, from_moments)
