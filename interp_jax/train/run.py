"""A training run: `init(seed, hypers) -> state`, `advance(state, hypers, span, shared) -> (state, metrics)`, both pure.

`advance` takes the steps first <= t < stop in one `fori_loop`. Both bounds are traced and shared by the whole population:
one compiled program serves every schedule of checkpoints, and periodic work inside it stays a real `cond` under `vmap`.
The data of step t is a pure function of (seed, t), so nothing but the state is needed to go on.

A member whose loss, gradient or parameters become non-finite keeps its last finite state from there on, and the step is
kept in `diverged_at`; the others go on unchanged.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int32

from interp_jax.randomness import Scalar

ALIVE = -1  # value of `diverged_at` while a member trains

Params = Any
Hypers = Any
Metrics = dict[str, Float[Array, ""]]
Loss = Callable[[Params, Hypers, Array, Array, Any], tuple[Float[Array, ""], Metrics]]


class Span(NamedTuple):
    """The steps first <= t < stop."""

    first: Int32[Array, ""]
    stop: Int32[Array, ""]


@flax.struct.dataclass
class RunState:
    """All that a run needs to go on: its seed, parameters, optimizer state, and the step at which it diverged or -1.

    `seed` and `diverged_at` are int32 scalars, with the population's leading R axis outside of a run. `memory` is what a run
    keeps besides and does not learn: counters, moving averages.
    """

    seed: Any
    params: Params
    opt_state: Any
    diverged_at: Any
    memory: Any = ()


class Run(NamedTuple):
    """A pure run; `shared` is what all members read (a corpus, a frozen model), never swept."""

    init: Callable[[Scalar, Hypers], RunState]
    advance: Callable[[RunState, Hypers, Span, Any], tuple[RunState, Metrics]]


class Moved(NamedTuple):
    """One step: what makes the state after it, its metrics, and whether all was finite, so that it counts."""

    state: Callable[[], RunState]
    metrics: Metrics
    finite: Bool[Array, ""]


Step = Callable[[RunState, Hypers, Array, Any], Moved]


def training_run(
    init_params: Callable[[Array, Hypers], Params],
    loss: Loss,
    optimizer: Callable[[Hypers], optax.GradientTransformation],
) -> Run:
    """The run that minimises `loss(params, hypers, seed, step, shared) -> (loss, metrics)` by gradient steps."""

    def init(seed: Scalar, hypers: Hypers) -> RunState:
        seed = jnp.asarray(seed, jnp.int32)
        params = init_params(seed, hypers)
        return RunState(seed, params, optimizer(hypers).init(params), jnp.int32(ALIVE))

    def step(state: RunState, hypers: Hypers, t: Array, shared: Any) -> Moved:
        value_and_grad = jax.value_and_grad(loss, has_aux=True)
        (value, metrics), grads = value_and_grad(state.params, hypers, state.seed, t, shared)
        updates, opt_state = optimizer(hypers).update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        moved = state.replace(params=params, opt_state=opt_state)
        return Moved(lambda: moved, {"loss": value, **metrics}, jnp.isfinite(value) & all_finite(params))

    return stepwise(init, step)


def stepwise(init: Callable[[Scalar, Hypers], RunState], step: Step, branch: bool = False) -> Run:
    """The run that `step(state, hypers, t, shared)` takes on, as long as all stays finite.

    Metrics are means over the span's finite steps; a member that took none reports NaN. The state after a step that does not
    count is left out element by element; with `branch`, for a step that knows beforehand whether it counts, it is not made.
    Large parameters are then written in place, where a choice between old and new ones reads both.
    """

    def advance(state: RunState, hypers: Hypers, span: Span, shared: Any) -> tuple[RunState, Metrics]:
        def take(t: Array, carry: Any) -> Any:
            state, sums, count = carry
            moved = step(state, hypers, t, shared)
            alive = state.diverged_at == ALIVE
            good = alive & moved.finite
            stuck = state.replace(diverged_at=jnp.where(alive, t.astype(jnp.int32), state.diverged_at))
            sums = jax.tree.map(lambda s, m: s + jnp.where(good, m, 0.0), sums, moved.metrics)
            state = jax.lax.cond(good, moved.state, lambda: stuck) if branch else select(good, moved.state(), stuck)
            return state, sums, count + good

        metrics = lambda *arguments: step(*arguments).metrics
        shapes = jax.eval_shape(metrics, state, hypers, span.first, shared)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        state, sums, count = jax.lax.fori_loop(span.first, span.stop, take, (state, zeros, jnp.int32(0)))
        return state, jax.tree.map(lambda s: s / count, sums)

    return Run(init, advance)


def all_finite(tree: Any) -> Bool[Array, ""]:
    """Whether every element of every inexact leaf is finite."""
    leaves = [jnp.isfinite(x).all() for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.stack(leaves).all() if leaves else jnp.bool_(True)


def select(condition: Bool[Array, ""], then: Any, otherwise: Any) -> Any:
    """`then` where the condition holds, else `otherwise`, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), then, otherwise)
