"""One probe at all sites × seeds × labels × controls × regularisations × splits, as one compiled program.

    for each site (members of a population; x [B D] is read where it lies):
      for each seed:  for x, and for x of the controls:  for each split:  vmap over targets, then regularisations:  fit, predict

What a fit computes of x and w alone is computed once for all targets and regularisations: `vmap` does not repeat what does not
depend on its axis. Probes with `from_moments` get moments of folds that are added up once for all splits.

What is made of the fits is in `scoring.py`.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from interp_jax.probes.controls import Drawn, along
from interp_jax.probes.moments import Moments, moments_of_folds
from interp_jax.probes.scoring import Found, Plan, Shared, scored
from interp_jax.train.population import pad_members, population

TOGETHER = 5  # regularisations that are fitted at once where fits are iterative
FACTORS = 2**28  # bytes of matrices that are factorised at once, one for each split and regularisation


@lru_cache(maxsize=64)
def program(plan: Plan, batch: int, devices: tuple[jax.Device, ...]) -> Callable[[Any, Shared], Any]:
    """The compiled function of (members, shared); members are the activations, untrained ones or None, targets [C B ...]."""
    return population(partial(at_site, plan), batch, devices)


def at_site(plan: Plan, member: tuple[Array, Array | None, Array], shared: Shared) -> tuple[Found, ...]:
    """Of the activations themselves with all targets, then of those of the controls; leaves with a leading axis of seeds."""
    x, untrained, y = member

    def of_seed(own: tuple[Drawn, Array]) -> tuple[Found, ...]:
        drawn, rows = own
        targets = jnp.moveaxis(y[:, drawn.index], 1, 0)  # [I C B ...]
        w = shared.w
        if plan.own_weights:
            w = (w * jnp.moveaxis(w[:, drawn.index] > 0, 1, 0)).reshape(-1, w.shape[-1])
        flat = targets.reshape(-1, *targets.shape[2:])
        found = [fit_all(plan, drawn.key, x, flat, w, rows, shared)]
        w = shared.w
        found.append(fit_all(plan, drawn.key, along(drawn.key, x), y, w, rows, shared))
        if untrained is not None:
            found.append(fit_all(plan, drawn.key, untrained, y, w, rows, shared))
        return tuple(found)

    return jax.lax.map(of_seed, (shared.drawn, shared.rows))


def fit_all(plan: Plan, key: Array, x: Array, y: Array, w: Array, rows: Array, shared: Shared) -> Found:
    """One x, targets [T B ...], all splits and regularisations."""
    y = y.astype(x.dtype)
    weights = jnp.broadcast_to(w, (len(y), w.shape[-1]))
    if plan.weigh is not None:
        weights = jax.vmap(plan.weigh)(y, weights)
    alike = plan.weigh is None and not plan.own_weights
    if plan.probe.from_moments is not None and alike:
        fits = by_moments(plan, x, y, w, rows[:-1], shared)
    else:
        fits = by_rows(plan, key, x, y, weights if not alike else w, rows[:-1], shared)
    return scored(plan, fits, x, y, weights, rows, shared)


def by_moments(plan: Plan, x: Array, y: Array, w: Array, rows: Array, shared: Shared) -> Any:
    """Params of all fits, leaves [M H T ...]."""
    columns = y.reshape(*y.shape[:2], -1)
    T, B, K = columns.shape
    m = moments_of_folds(x, columns.transpose(1, 0, 2).reshape(B, T * K), w, rows, shared.include)
    apart = lambda leaf: leaf.reshape(*leaf.shape[:-1], T, *y.shape[2:])
    m = m._replace(target_mean=apart(m.target_mean), cross=apart(m.cross))
    column = Moments(None, None, target_mean=0, scatter=None, cross=1)
    of_targets = jax.vmap(plan.probe.from_moments, in_axes=(column, None))
    of_hypers = jax.vmap(of_targets, in_axes=(None, 0))
    bytes_of_split = len(jax.tree.leaves(shared.hypers)[0]) * m.scatter[0].size * x.dtype.itemsize
    at_once = plan.at_once or min(max(FACTORS // bytes_of_split, 1), len(shared.include))
    return jax.lax.map(lambda one: of_hypers(one, shared.hypers), m, batch_size=at_once)


def by_rows(plan: Plan, key: Array, x: Array, y: Array, w: Array, rows: Array, shared: Shared) -> Any:
    """The same of any probe."""
    if plan.probe.prepare is not None:
        return by_target(plan, key, x, y, w, rows, shared)
    fold = fold_of(rows, x.shape[0])
    seen = lambda include: jnp.where(fold >= 0, include[jnp.maximum(fold, 0)], 0.0).astype(x.dtype)
    fit = lambda hypers, y, w: plan.probe.fit(key, x, y, w, hypers)
    of_targets = jax.vmap(fit, in_axes=(None, 0, 0 if w.ndim == 2 else None))
    of_hypers = jax.vmap(of_targets, in_axes=(0, None, None))
    of_split = lambda include: of_hypers(shared.hypers, y, w * seen(include))
    return jax.lax.map(of_split, shared.include, batch_size=plan.at_once or len(shared.include))


def by_target(plan: Plan, key: Array, x: Array, y: Array, w: Array, rows: Array, shared: Shared) -> Any:
    """The same of a probe that prepares x: one target after another, and some regularisations, for they differ in steps."""
    fold = fold_of(rows, x.shape[0])
    include = jnp.where(fold >= 0, shared.include[:, jnp.maximum(fold, 0)], 0.0).astype(x.dtype)  # [M B]
    n_hypers = len(jax.tree.leaves(shared.hypers)[0])
    together = -(-n_hypers // -(-n_hypers // TOGETHER))
    hypers = pad_members(shared.hypers, together)
    prepared = jax.lax.map(partial(plan.probe.prepare, x), hypers, batch_size=together)

    def of_target(one: tuple[Array, Array]) -> Any:
        y, w = one
        fit = lambda include, hypers, prepared: plan.probe.fit(key, x, y, w * include, hypers, prepared=prepared)
        of_splits = lambda of: jax.lax.map(lambda own: fit(own, *of), include, batch_size=plan.at_once or len(include))
        return jax.lax.map(of_splits, (hypers, prepared), batch_size=together)

    found = jax.lax.map(of_target, (y, jnp.broadcast_to(w, (len(y), w.shape[-1]))))
    return jax.tree.map(lambda leaf: leaf[:, :n_hypers].swapaxes(0, 2), found)


def fold_of(rows: Array, n: int) -> Array:
    """The fold of each example; -1 of none."""
    numbers = jnp.broadcast_to(jnp.arange(len(rows))[:, None], rows.shape)
    return jnp.full(n, -1).at[jnp.where(rows >= 0, rows, n)].set(numbers, mode="drop")
