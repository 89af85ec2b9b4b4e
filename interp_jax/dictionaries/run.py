"""Training a dictionary: the steps of one member of a population, on a stream of activations that all members share.

A step: loss and gradient; the gradient of unit rows less its part along them; clipping; the optimizer; rows made unit again;
counters of dead features, `memory.silent`: the examples since each feature last fired. Where L0 is controlled,

    log factor += control_rate · min(1, L0 / target - 1)                      once the penalty is warm; at least -1 of it

and the penalty's weight is `sparsity` times the factor. Every `resample_every` steps dead features are started anew
(`dead.resample`), with moments of 0 and counted from then.

A step counts where loss and the gradient's norm are finite. The norm's square is then below the largest float, so that neither
Adam's update nor the sum of a parameter and it can be infinite: checking the parameters as well would read them all once more.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from interp_jax import randomness
from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.chosen import is_sparse
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.dead import RESAMPLED, auxiliary, resample
from interp_jax.dictionaries.dictionary import constrained, has_unit_rows
from interp_jax.dictionaries.encoders import without_parallel
from interp_jax.dictionaries.judged import Batch, Judged, Situation, in_use, warmed
from interp_jax.dictionaries.parameters import Params
from interp_jax.randomness import Scalar
from interp_jax.train.optimizer import Optimizer, gradient_transformation
from interp_jax.train.run import ALIVE, Moved, Run, RunState, stepwise


@flax.struct.dataclass
class Memory:
    """What a dictionary's run keeps and does not learn: examples since each feature last fired, int32 [F]; of the control."""

    silent: Any
    log_factor: Any


Draw = Callable[[Any, Any, Array, Array], Batch]  # (hypers, shared, seed, step)
Describe = Callable[[Any], tuple[Dictionary, Optimizer, int]]  # hypers -> dictionary, optimizer, steps


def dictionary_run(draw: Draw, describe: Describe) -> Run:
    """The run that trains `describe(hypers)` on the batches of `draw(hypers, shared, seed, step)`."""

    def init(seed: Scalar, hypers: Any) -> RunState:
        cfg, optimizer, steps = describe(hypers)
        seed = jnp.asarray(seed, jnp.int32)
        params = dictionary.init(randomness.key(seed, "dictionary"), cfg)
        opt_state = gradient_transformation(optimizer, steps).init(params)
        memory = Memory(jnp.zeros(cfg.n_features, jnp.int32), jnp.zeros(()))
        return RunState(seed, params, opt_state, jnp.int32(ALIVE), memory)

    def step(state: RunState, hypers: Any, t: Array, shared: Any) -> Moved:
        cfg, optimizer, steps = describe(hypers)
        batch = draw(hypers, shared, state.seed, t)
        memory = state.memory
        situation = Situation(t / steps, memory.silent >= cfg.dead_after, jnp.exp(memory.log_factor))
        judged, grads = gradient(state.params, batch, cfg, situation)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(judged.loss) & jnp.isfinite(norm)
        l0 = judged.fired.sum() / len(batch.x)

        def moved() -> RunState:
            rules = gradient_transformation(optimizer, steps)
            updates, opt_state = rules.update(grads, state.opt_state, state.params, norm=norm)
            params = held(finite, optax.apply_updates(state.params, updates), cfg) | judged.settled
            silent = jnp.where(judged.fired > 0, 0, memory.silent + len(batch.x))
            if cfg.resample_every:
                anew = partial(resampled, cfg, optimizer, steps, batch, randomness.key(state.seed, "resample", t))
                due = (t + 1) % cfg.resample_every == 0
                params, opt_state, silent = jax.lax.cond(due, anew, lambda *same: same, params, opt_state, silent)
            kept = Memory(silent, controlled(memory.log_factor, l0, cfg, situation))
            return state.replace(params=params, opt_state=opt_state, memory=kept)

        metrics = {"loss": judged.loss, "l0": l0, "dead": situation.dead.mean(), "gradient": norm, **judged.terms}
        return Moved(moved, metrics, finite)

    return stepwise(init, step, branch=on_cpu())


def held(finite: Array, params: Params, cfg: Dictionary) -> Params:
    """Parameters back on what constrains them; on a CPU in a branch, or Adam's update is computed again for lengths of rows."""
    if not on_cpu():
        return constrained(params, cfg)
    return jax.lax.cond(finite, partial(constrained, cfg=cfg), lambda same: same, params)


def on_cpu() -> bool:
    """Whether branches are cheap: a GPU's wait for the host, and XLA makes one kernel of an update there."""
    return jax.default_backend() == "cpu"


def resampled(
    cfg: Dictionary,
    optimizer: Optimizer,
    steps: int,
    batch: Batch,
    key: Array,
    params: Params,
    opt_state: Any,
    silent: Array,
) -> tuple[Params, Any, Array]:
    """Parameters, the optimizer's state and the counters, dead features begun anew."""
    dead = (silent >= cfg.dead_after) & in_use(cfg)
    error = batch.y - dictionary.reconstruct(params, batch.x, cfg)[0]
    kept = {name: jnp.ones((), bool) for name in params} | dict.fromkeys(RESAMPLED, ~dead)
    kept = {
        name: jnp.reshape(kept[name], (-1,) + (1,) * (x.ndim - 1)) if x.ndim else True for name, x in params.items()
    }
    forget = lambda moment, stays: jnp.where(stays, moment, 0)
    rules = gradient_transformation(optimizer, steps)
    opt_state = optax.tree.map_params(rules, forget, opt_state, kept)
    return resample(key, params, batch.x, error, dead), opt_state, jnp.where(dead, 0, silent)


def controlled(log_factor: Array, l0: Array, cfg: Dictionary, situation: Situation) -> Array:
    """The logarithm of the penalty's factor after a step with this L0."""
    if cfg.control == "none":
        return log_factor
    change = cfg.control_rate * jnp.clip(l0 / cfg.target - 1.0, -1.0, 1.0)
    return log_factor + jnp.where(warmed(cfg, situation) >= 1.0, change, 0.0)


def gradient(params: Params, batch: Batch, cfg: Dictionary, situation: Situation) -> tuple[Judged, Params]:
    """The loss, and its gradient as it is to be followed."""
    apart = cfg.is_by_k and cfg.auxiliary != "none" and is_sparse(cfg)

    def loss(params: Params) -> tuple[Array, Judged]:
        judged = dictionary.loss(params, batch, cfg, situation._replace(revives=False if apart else None))
        return judged.loss, judged

    grads, judged = jax.grad(loss, has_aux=True)(params)
    if apart and judged.left is not None:
        grads, judged = with_revived(params, batch, cfg, situation, grads, judged)
    if has_unit_rows(cfg):
        grads = grads | {"W_dec": without_parallel(grads["W_dec"], params["W_dec"])}
    return judged, grads


def with_revived(
    params: Params, batch: Batch, cfg: Dictionary, situation: Situation, grads: Params, judged: Judged
) -> tuple[Params, Judged]:
    """The auxiliary loss added where there are dead features; where there are none, nothing is done.

    As a term of the loss it would have a gradient of zeros, and on a CPU it takes a sixth of the step to add them.
    """

    def revive(grads: Params) -> tuple[Params, Array]:
        of = lambda params: auxiliary(params, batch.x, judged.left, cfg, situation._replace(revives=True))
        value, more = jax.value_and_grad(of)(params)
        return jax.tree.map(jnp.add, grads, more), value

    any_dead = (situation.dead & in_use(cfg)).any()
    grads, value = jax.lax.cond(any_dead, revive, lambda grads: (grads, jnp.zeros((), judged.loss.dtype)), grads)
    return grads, judged._replace(loss=judged.loss + value, terms=judged.terms | {"auxiliary": value}, left=None)
