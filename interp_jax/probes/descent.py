"""Smooth losses brought to a stated tolerance: L-BFGS with backtracking (Nocedal 1980; Armijo 1966), as optax has it.

    θ ← θ - t H g          H from the last ten steps; t = 1, 4/5, … until the loss falls enough

It ends where no entry of the gradient exceeds the tolerance, after `most_steps`, or where a step no longer moves anything. What
is left of the gradient is returned in each case, so that a member of a population that did not converge can be told.

`mean_loss` makes a loss of scores out of its name, averaged over examples by their weights.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from interp_jax.errors import InputError, nearest
from interp_jax.probes.probe import Convergence


def minimise(
    loss: Callable[[Any], Float[Array, ""]], start: Any, tolerance: Float[Array, ""] | float, most_steps: int = 500
) -> tuple[Any, Convergence]:
    """The parameters near `start` where the loss is least, and how it ended.

    Args:
      loss: smooth, of a pytree of arrays; a mean over examples, so that `tolerance` means the same for few and many.
      start: where to begin.
      tolerance: of the largest entry of the gradient.
      most_steps: at which it ends in any case.
    """
    flat, whole = ravel_pytree(start)  # one vector: its program is smaller than that of many leaves
    search = optax.scale_by_backtracking_linesearch(
        max_backtracking_steps=30, store_grad=True, rtol=8 * float(jnp.finfo(flat.dtype).eps)
    )
    method = optax.lbfgs(memory_size=10, linesearch=search)
    of_flat = lambda v: loss(whole(v))
    value_and_grad = optax.value_and_grad_from_state(of_flat)

    def going(carry: tuple[Any, ...]) -> Array:
        _, _, gradient, steps, moved = carry
        return ~(gradient <= tolerance) & (steps < most_steps) & moved

    def step(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        v, state, _, steps, _ = carry
        value, grad = value_and_grad(v, state=state)
        updates, state = method.update(grad, state, v, value=value, grad=grad, value_fn=of_flat)
        return v + updates, state, largest(optax.tree.get(state, "grad")), steps + 1, jnp.any(updates != 0)

    with jax.default_matmul_precision("highest"):
        begun = (flat, method.init(flat), jnp.asarray(jnp.inf, flat.dtype), jnp.int32(0), jnp.bool_(True))
        v, _, gradient, steps, _ = jax.lax.while_loop(going, step, begun)
    return whole(v), Convergence(gradient, steps, gradient <= tolerance)


def largest(tree: Any) -> Float[Array, ""]:
    """The largest size of any entry of any leaf."""
    return jnp.stack([jnp.abs(x).max() for x in jax.tree.leaves(tree)]).max()


def binary(scores: Float[Array, "B *C"], y: Float[Array, "B *C"]) -> Float[Array, "B *C"]:
    """Cross-entropy of yes or no, each label by itself, in nats."""
    return jax.nn.softplus(scores) - y * scores


def classes(scores: Float[Array, "B C"], y: Float[Array, "B C"]) -> Float[Array, "B 1"]:
    """Cross-entropy of one class among C, in nats; `y` is 1 for it and else 0."""
    return -(y * jax.nn.log_softmax(scores)).sum(-1, keepdims=True)


def real(scores: Float[Array, "B *C"], y: Float[Array, "B *C"]) -> Float[Array, "B *C"]:
    """Half of the squared error."""
    return 0.5 * jnp.square(scores - y)


LOSSES = {"binary": binary, "classes": classes, "labels": binary, "real": real}  # named as the targets of `targets.py`


def mean_loss(kind: str, w: Float[Array, " B"], y: Array) -> Callable[[Array], Float[Array, ""]]:
    """The function scores -> mean loss of an example, Σ_n w_n loss_n / Σ_n w_n, summed over labels.

    Raises:
      InputError: an unknown kind, or classes without an axis of classes.
    """
    if kind not in LOSSES:
        raise InputError(f"loss = {kind!r}: {nearest(kind, LOSSES)}")
    if kind == "classes" and y.ndim < 2:
        raise InputError(f"loss = 'classes' with targets of shape {y.shape}: give one-hot targets [B C]")

    def mean(scores: Array) -> Float[Array, ""]:
        each = LOSSES[kind](scores, y.astype(scores.dtype))
        return (w * each.reshape(len(each), -1).sum(1)).sum() / w.sum()

    return mean
