"""Integrated gradients: attribution with the gradient averaged along a path (Sundararajan et al. 2017; Hanna et al. 2024).

    effect(node) = (source - base) · Σ_i w_i ∂metric/∂activation at x(a_i)        x(a) = base + a (source - base), at `embed`

The path is that of the token embeddings, and all nodes share it ("EAP-IG inputs"): one backward pass per step. At `embed`
the effects of all positions sum to metric(source) - metric(base), up to the error of the quadrature: *completeness*. Within
the model the path of an activation is not straight, and the sum holds about. Where a norm bends the path sharply (where mixed
embeddings are small) a few steps are far off: look how far the sum misses, and take more.

    rule         points a_i                                weights     steps = 1
    gauss        Gauss-Legendre's, exact for polynomials    its own     the gradient half way
                 of degree 2 steps - 1
    trapezoid    0, 1/(n-1), …, 1                           ½ at ends   (needs 2: the mean of base's and source's gradient)
    riemann      1/n, 2/n, …, 1                             1/n         the gradient of the source run
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from interp_jax import taps
from interp_jax.errors import InputError, nearest
from interp_jax.patching.attribution.linearisation import linearise, weighted_sum
from interp_jax.patching.attribution.runs import Effects, Estimate, Runs
from interp_jax.patching.attribution.sites import first_order

RULES = ("gauss", "trapezoid", "riemann")


@dataclasses.dataclass(frozen=True)
class Integrated:
    """Effects by `steps` backward passes: a method of `attribute`.

    Raises:
      InputError: an unknown rule, or too few steps for it.
    """

    steps: int = 8
    rule: str = "gauss"

    def __post_init__(self) -> None:
        quadrature(self.rule, self.steps)

    def __call__(self, runs: Runs, sites: tuple[str, ...]) -> Estimate:
        """Effects of all nodes of `sites`."""
        recorded = tuple(dict.fromkeys((*sites, "embed")))
        (here, held), (there, taken) = taps.record(runs.base, recorded)(), runs.recorded_source(recorded)
        difference = {s: taken[s] - held[s] for s in recorded}

        def effects(point: Float[Array, ""]) -> Effects:
            between = taps.Edit("replace", held["embed"] + point * difference["embed"])
            gradients = linearise(lambda: taps.edit(runs.base)({"embed": between}), sites).gradients
            return {s: first_order(s, difference[s], gradients[s], runs.cfg) for s in sites}

        points, weights = (jnp.asarray(x, held["embed"].dtype) for x in quadrature(self.rule, self.steps))
        return Estimate(here, there, weighted_sum(effects, weights, points))


def quadrature(rule: str, steps: int) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Points in [0, 1] and weights that sum to 1.

    Raises:
      InputError: an unknown rule, or too few steps for it.
    """
    if rule not in RULES:
        raise InputError(f"quadrature rule {rule!r}: {nearest(rule, RULES)}")
    least = 2 if rule == "trapezoid" else 1
    if steps < least:
        raise InputError(f"steps = {steps}: the rule {rule!r} needs at least {least}")
    if rule == "gauss":
        points, weights = np.polynomial.legendre.leggauss(steps)
        return (points + 1) / 2, weights / 2
    if rule == "trapezoid":
        weights = np.full(steps, 1 / (steps - 1))
        weights[[0, -1]] /= 2
        return np.linspace(0, 1, steps), weights
    return np.arange(1, steps + 1) / steps, np.full(steps, 1 / steps)
