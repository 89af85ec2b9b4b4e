"""Logistic regression, to a stated tolerance; `newton.py` says how.

    L(w, b) = Σ_n w_n [log(1 + exp z_n) - y_n z_n] + λ/2 ‖w‖²          z = x · w + b; λ is 1/C of scikit-learn

Many labels: `vmap` over y, or y of several columns: each is a label with a probe of its own.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

from interp_jax.probes.linear import Linear, predict
from interp_jax.probes.newton import Loss, minimum, preconditioner
from interp_jax.probes.probe import Probe
from interp_jax.probes.targets import BINARY


class Hypers(NamedTuple):
    """`penalty` is λ."""

    penalty: Float[Array, "*H"] | float = 1.0


def curve(z: Array, y: Array) -> Any:
    """Σ p (1 - p)."""
    p = jax.nn.sigmoid(z)
    bend = p * (1 - p)
    return lambda dz: bend * dz


LOSS = Loss(lambda z, y: (jax.nn.softplus(z) - y * z).sum(-1), lambda z, y: jax.nn.sigmoid(z) - y, curve, largest=0.25)


@partial(jax.jit, static_argnames=("tolerance", "most_steps"))
def fit(
    key: Any,
    x: Float[Array, "B D"],
    y: Float[Array, "B *C"],
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
      x: what is read. A column that is constant has weight 0.
      y: 0 or 1; a column for each label where there are several.
      w: of examples.
      hypers: the penalty, above 0: where classes can be told apart without error, no finite weights are best without it.
      tolerance: of the mean gradient of an example, its largest entry.
      most_steps: of Newton, at which it ends in any case.
      prepared: what `prepare` makes of x.
    """

    def of_label(y: Array) -> Linear:
        found = minimum(LOSS, x, y[:, None].astype(x.dtype), w, hypers.penalty, tolerance, most_steps, prepared)
        return found._replace(weights=found.weights[0], bias=found.bias[0])

    return jax.vmap(of_label, in_axes=1)(y) if y.ndim == 2 else of_label(y)


def prepare(x: Float[Array, "B D"], hypers: Hypers) -> Float[Array, "D D"]:
    """What Newton's equations are preconditioned with."""
    return preconditioner(LOSS, x, hypers.penalty)


PROBE = Probe(fit, predict, BINARY, prepare=prepare)
