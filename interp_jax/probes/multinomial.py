"""Multinomial logistic regression, to a stated tolerance; `newton.py` says how.

    L(W, b) = Σ_n w_n [log Σ_c exp z_nc - Σ_c y_nc z_nc] + λ/2 ‖W‖²          z = x Wᵀ + b; λ is 1/C of scikit-learn

y is 1 for the own class and else 0. The penalty settles what the loss leaves open, so rows of W sum to 0, and so do biases.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

from interp_jax.probes.linear import Linear, predict
from interp_jax.probes.newton import Loss, minimum, preconditioner
from interp_jax.probes.probe import Probe
from interp_jax.probes.targets import CLASSES


class Hypers(NamedTuple):
    """`penalty` is λ."""

    penalty: Float[Array, "*H"] | float = 1.0


def curve(z: Array, y: Array) -> Any:
    """(diag p - p pᵀ) dz."""
    p = jax.nn.softmax(z)
    return lambda dz: p * (dz - (p * dz).sum(-1, keepdims=True))


LOSS = Loss(
    lambda z, y: jax.nn.logsumexp(z, axis=-1) - (y * z).sum(-1), lambda z, y: jax.nn.softmax(z) - y, curve, largest=0.5
)


@partial(jax.jit, static_argnames=("tolerance", "most_steps"))
def fit(
    key: Any,
    x: Float[Array, "B D"],
    y: Float[Array, "B C"],
    w: Float[Array, " B"],
    hypers: Hypers,
    *,
    tolerance: float = 1e-5,
    most_steps: int = 50,
    prepared: Float[Array, "D D"] | None = None,
) -> Linear:
    """The minimum.

    Args:
      key: not used.
      x: what is read.
      y: classes.
      w: of examples.
      hypers: the penalty, above 0.
      tolerance: of the mean gradient of an example, its largest entry.
      most_steps: of Newton, at which it ends in any case.
      prepared: what `prepare` makes of x.
    """
    return minimum(LOSS, x, y.astype(x.dtype), w, hypers.penalty, tolerance, most_steps, prepared)


def prepare(x: Float[Array, "B D"], hypers: Hypers) -> Float[Array, "D D"]:
    """What Newton's equations are preconditioned with."""
    return preconditioner(LOSS, x, hypers.penalty)


PROBE = Probe(fit, predict, CLASSES, prepare=prepare)
