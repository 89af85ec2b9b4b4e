"""A run's metric to first order: its value, its activations, and its gradient at any of them, by one backward pass.

    metric(activation + δ) ≈ metric + Σ_sites δ · ∂metric/∂activation

Gradients are those of zeros that are added at the sites. Zeros at one site change nothing at another, so all sites share the
pass. The metric of an example depends on that example alone: the gradient of the sum over the batch is each one's own.

`backward` changes how gradients flow and no value: a function per site, such as one that stops them. It acts after the
zeros, so that a gradient which it stops is stopped for the site's own nodes too.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax import taps

Backward = Mapping[str, Callable[[Array, Any], Array]]


class Linearisation(NamedTuple):
    """A run and its gradient; both mappings have the shapes of recorded sites.

    Attributes:
      metric: of each example.
      activations: by site.
      gradients: ∂metric/∂activation, by site.
    """

    metric: Float[Array, " B"]
    activations: dict[str, Array]
    gradients: dict[str, Array]


def linearise(
    run: Callable[[], Float[Array, " B"]], sites: Sequence[str], backward: Backward | None = None
) -> Linearisation:
    """`run`'s metric, activations and gradients at `sites`.

    Args:
      run: a model on its input, with taps.
      sites: floats, each reached once.
      backward: functions (x, layer) -> x of sites, which change gradients alone; see above.

    Raises:
      TapError: a site that the run lacks.
    """
    shapes = jax.eval_shape(lambda: taps.record(run, sites)()[1])

    def total(zeros: dict[str, Array]) -> tuple[Array, tuple[Array, dict[str, Array]]]:
        edits = {site: taps.Edit("add", zero) for site, zero in zeros.items()}
        edited = taps.edit_with(taps.edit(run), backward or {})
        metric, activations = taps.record(edited, sites)(edits)
        return metric.sum(), (metric, activations)

    zeros = {site: jnp.zeros(x.shape, x.dtype) for site, x in shapes.items()}
    gradients, (metric, activations) = jax.grad(total, has_aux=True)(zeros)
    return Linearisation(metric, activations, gradients)


def weighted_sum(function: Callable[[Any], Any], weights: Float[Array, " N"], members: Any) -> Any:
    """Σ_i weights[i] · function(members[i]), one at a time, so that one result is held and one program compiled."""
    first = jax.tree.map(lambda x: x[0], members)
    start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, first))

    def step(total: Any, member: tuple[Array, Any]) -> tuple[Any, None]:
        weight, member = member
        return jax.tree.map(lambda t, y: t + weight.astype(y.dtype) * y, total, function(member)), None

    return jax.lax.scan(step, start, (weights, members))[0]
