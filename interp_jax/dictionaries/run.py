"""Training a dictionary: the steps of one member of a population, on a stream of activations that all members share.

A step: loss and gradient; the gradient of unit rows less its part along them; clipping; the optimizer; rows made unit again;
counters of dead features. `memory.silent` counts the examples since each feature last fired.

A step counts where loss and the gradient's norm are finite. The norm's square is then below the largest float, so that neither
Adam's update nor the sum of a parameter and it can be infinite: checking the parameters as well would read them all once more.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from interp_jax import randomness
from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.dictionary import has_unit_rows
from interp_jax.dictionaries.encoders import unit_rows, without_parallel
from interp_jax.dictionaries.judged import Batch, Judged, Situation
from interp_jax.dictionaries.parameters import Params
from interp_jax.randomness import Scalar
from interp_jax.train.optimizer import Optimizer, gradient_transformation
from interp_jax.train.run import ALIVE, Moved, Run, RunState, stepwise


@flax.struct.dataclass
class Memory:
    """What a dictionary's run keeps and does not learn: examples since each feature last fired, int32 [F]."""

    silent: Any


Draw = Callable[[Any, Any, Array, Array], Batch]  # (hypers, shared, seed, step)
Describe = Callable[[Any], tuple[Dictionary, Optimizer, int]]  # hypers -> dictionary, optimizer, steps


def dictionary_run(draw: Draw, describe: Describe) -> Run:
    """The run that trains `describe(hypers)` on the batches of `draw(hypers, shared, seed, step)`."""

    def init(seed: Scalar, hypers: Any) -> RunState:
        cfg, optimizer, steps = describe(hypers)
        seed = jnp.asarray(seed, jnp.int32)
        params = dictionary.init(randomness.key(seed, "dictionary"), cfg)
        opt_state = gradient_transformation(optimizer, steps).init(params)
        return RunState(seed, params, opt_state, jnp.int32(ALIVE), Memory(jnp.zeros(cfg.n_features, jnp.int32)))

    def step(state: RunState, hypers: Any, t: Array, shared: Any) -> Moved:
        cfg, optimizer, steps = describe(hypers)
        batch = draw(hypers, shared, state.seed, t)
        situation = Situation(t / steps, state.memory.silent >= cfg.dead_after)
        judged, grads = gradient(state.params, batch, cfg, situation)
        norm = optax.global_norm(grads)
        updates, opt_state = gradient_transformation(optimizer, steps).update(grads, state.opt_state, state.params)
        params = settle(optax.apply_updates(state.params, updates), cfg) | judged.settled
        silent = jnp.where(judged.fired > 0, 0, state.memory.silent + len(batch.x))
        l0 = judged.fired.sum() / len(batch.x)
        metrics = {"loss": judged.loss, "l0": l0, "dead": situation.dead.mean(), "gradient": norm, **judged.terms}
        moved = state.replace(params=params, opt_state=opt_state, memory=Memory(silent))
        return Moved(moved, metrics, jnp.isfinite(judged.loss) & jnp.isfinite(norm))

    return stepwise(init, step)


def gradient(params: Params, batch: Batch, cfg: Dictionary, situation: Situation) -> tuple[Judged, Params]:
    """The loss, and its gradient as it is to be followed."""

    def loss(params: Params) -> tuple[Array, Judged]:
        judged = dictionary.loss(params, batch, cfg, situation)
        return judged.loss, judged

    grads, judged = jax.grad(loss, has_aux=True)(params)
    if has_unit_rows(cfg):
        grads = grads | {"W_dec": without_parallel(grads["W_dec"], params["W_dec"])}
    return judged, grads


def settle(params: Params, cfg: Dictionary) -> Params:
    """Parameters after a step, back on what constrains them."""
    return params | {"W_dec": unit_rows(params["W_dec"])} if has_unit_rows(cfg) else params
