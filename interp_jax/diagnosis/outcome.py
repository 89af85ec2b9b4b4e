"""What a cure did, on held-out inputs, with conflicts the outcome's alone.

    R = (acc_X after - acc_X before) / (acc_X of the oracle - acc_X before)       the declared rule restored on D_X
    K = acc_ID after / acc_ID before                                             what was right is kept
    S = exp(-mean KL(before ‖ after) on D_ID) · u                                 nothing else has changed
    score = 3 / (1/R + 1/K + 1/S)                                                 each clipped to 0 … 1; 0 if any is 0

On D_ID all labels count alike, in accuracy and KL: where most of it has one label, who says nothing else has not kept half.
The oracle is the twin of the same seed that learned; where it is less than `LEAST` better than the patient was, there is
nothing to restore, and the patient is excluded (NaN) and counted. u is the ratio of accuracies, after to before, on another
task of the same model, where it has one.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from interp_jax.diagnosis.pools import Pool, Pools
from interp_jax.diagnosis.ward import Cured, Ward, many_answers
from interp_jax.models.transformer import TransformerConfig

LEAST = 0.05
ASKED = 1_024  # held-out inputs of each set


class Signs(NamedTuple):
    """What is measured of a patient on held-out inputs.

    Attributes:
      id_accuracy, conflict_accuracy: by the declared rule, on D_ID with all labels alike, and on D_X.
      divergence: mean KL on D_ID, likewise, from what it said before the cure, nats.
      untouched: accuracy by f on conflicts and D_ID of the other task; NaN where there is none.
    """

    id_accuracy: Float[Array | np.ndarray, "..."]
    conflict_accuracy: Float[Array | np.ndarray, "..."]
    divergence: Float[Array | np.ndarray, "..."]
    untouched: Float[Array | np.ndarray, "..."]


class Outcome(NamedTuple):
    """See the module; NaN of patients that are excluded."""

    restored: Float[np.ndarray, "..."]
    kept: Float[np.ndarray, "..."]
    side_effects: Float[np.ndarray, "..."]
    score: Float[np.ndarray, "..."]


def outcome(before: Signs, after: Signs, oracle: Float[np.ndarray, "..."]) -> Outcome:
    """The score and what it is made of.

    Args:
      before: of patients, [...].
      after: likewise.
      oracle: accuracy on D_X of the twin that learned.
    """
    before, after = (Signs(*(np.asarray(one, np.float64) for one in signs)) for signs in (before, after))
    room = np.asarray(oracle, np.float64) - before.conflict_accuracy
    there = room >= LEAST
    restored = (after.conflict_accuracy - before.conflict_accuracy) / np.where(there, room, 1.0)
    others = np.where(np.isnan(after.untouched), 1.0, ratio(after.untouched, before.untouched))
    parts = [restored, ratio(after.id_accuracy, before.id_accuracy), np.exp(-after.divergence) * others]
    parts = [np.where(there, np.clip(one, 0.0, 1.0), np.nan) for one in parts]
    return Outcome(*parts, harmonic(parts))


def ratio(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Of the one to the other; 0 where there was none."""
    return np.divide(after, before, out=np.zeros(np.broadcast_shapes(after.shape, before.shape)), where=before > 0)


def harmonic(parts: list[Float[np.ndarray, "..."]]) -> Float[np.ndarray, "..."]:
    """The harmonic mean; 0 where any is 0, NaN where any is NaN."""
    every = np.stack(np.broadcast_arrays(*parts))
    with np.errstate(divide="ignore"):
        return len(parts) / (1 / every).sum(0)


def signs(ward: Ward, cured: Cured, pools: Pools, task: int = 0, tasks: int = 1) -> Signs:
    """Of patients as they were, or under cures: leaves [R N] of cured ones [R N …].

    Args:
      ward: the patients as they were.
      cured: weights and edits.
      pools: of their family.
      task: which is the patient's; others are untouched.
      tasks: how many there are.
    """
    flat = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *np.shape(leaf)[2:]), cured)
    shape = np.shape(jax.tree.leaves(cured.params)[0])[:2]
    owners = np.repeat(np.arange(shape[0]), shape[1])
    run = _signs(ward.cfg, ward.labels, task, tasks)
    held = some(pools.id_held, alike=True), some(pools.conflict_held)
    found = jax.device_get(run(flat, owners, ward.params, held))
    return Signs(*(one.reshape(shape) for one in found))


def some(pool: Pool, alike: bool = False) -> tuple[np.ndarray, ...]:
    """At most so many of a pool's inputs, with labels, tasks and weights; `alike`: all labels of a task weigh the same."""
    rows, weight = np.random.default_rng(0).permutation(len(pool.f)), np.ones(len(pool.f), np.float32)
    kinds, kind, count = np.unique(np.c_[pool.task, pool.f], axis=0, return_inverse=True, return_counts=True)
    kind = kind.reshape(-1)
    if alike:
        most = max(1, ASKED // len(kinds))
        rows = np.concatenate([rows[kind[rows] == one][:most] for one in range(len(kinds))])
        weight = (1 / np.minimum(count, most)[kind]).astype(np.float32)
    rows = rows[:ASKED]
    return np.asarray(pool.x)[rows], np.asarray(pool.f)[rows], np.asarray(pool.task)[rows], weight[rows]


@lru_cache(maxsize=16)
def _signs(cfg: TransformerConfig, labels: int, task: int, tasks: int) -> Any:
    def one(cured: Cured, owner: Array, everyone: Any, held: Any) -> Signs:
        (x, f, task_of, weight), (x_conflict, f_conflict, task_of_conflict, all_alike) = held
        was = jax.tree.map(lambda leaf: leaf[owner], everyone)
        p, q = (jax.nn.log_softmax(many_answers(one, x, cfg, labels)) for one in (Cured(was, {}), cured))
        contested = many_answers(cured, x_conflict, cfg, labels)
        right_id, right_x = q.argmax(-1) == f, contested.argmax(-1) == f_conflict
        mean = lambda values, own: (own * values).sum() / own.sum()
        own_id, own_x = weight * (task_of == task), all_alike * (task_of_conflict == task)
        divergence = mean((jnp.exp(p) * (p - q)).sum(-1), own_id)
        others = jnp.concatenate([right_id, right_x]), jnp.concatenate([task_of, task_of_conflict]) != task
        untouched = mean(*others) if tasks > 1 else jnp.nan
        return Signs(mean(right_id, own_id), mean(right_x, own_x), divergence, jnp.asarray(untouched, jnp.float32))

    every = lambda cured, owners, everyone, held: jax.lax.map(lambda m: one(*m, everyone, held), (cured, owners))
    return jax.jit(every)
