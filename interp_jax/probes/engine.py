"""One probe at all sites × seeds × labels × controls × regularisations × splits, as one compiled program.

    for each site (members of a population; x [B D] is read where it lies):
      for each seed:  for x, and for x of the controls:  for each split:  vmap over targets, then regularisations:  fit, predict

What a fit computes of x and w alone is computed once for all targets and regularisations: `vmap` does not repeat what does not
depend on its axis. Probes with `from_moments` get moments of folds that are added up once for all splits.

Each outer split is scored on its fold; where folds are nested, the regularisation of a split is chosen by the inner fits, by
the first of the measures, and the whole fit's by the outer ones. Else all regularisations are kept.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from interp_jax.probes.controls import Drawn, along
from interp_jax.probes.moments import Moments, moments_of_folds
from interp_jax.probes.probe import Probe, convergence_of
from interp_jax.train.population import pad_members, population

TOGETHER = 5  # regularisations that are fitted at once where fits are iterative
FACTORS = 2**28  # bytes of matrices that are factorised at once, one for each split and regularisation


class Plan(NamedTuple):
    """What is static.

    Attributes:
      probe: see `probe.py`.
      n_folds, nested: see `splits.py`.
      elsewhere: whether there are examples of no fold.
      weigh: (y, w) -> w, of each target by itself; None where all targets have the same weights.
      own_weights: whether each label has weights of its own.
      at_once: how many splits are fitted at once.
    """

    probe: Probe
    n_folds: int
    nested: bool
    elsewhere: bool
    weigh: Callable[[Array, Array], Array] | None
    own_weights: bool
    at_once: int | None


class Shared(NamedTuple):
    """What all sites read.

    Attributes:
      w: [B], or [C B].
      drawn: of each seed.
      rows: [N F+1 n], see `Splits`.
      include: [M F].
      pairs: [2 I].
      hypers: leaves [H].
    """

    w: Array
    drawn: Drawn
    rows: Array
    include: Array
    pairs: Array
    hypers: Any


class Found(NamedTuple):
    """Of one site and seed, for T targets and H regularisations (1 where it was chosen).

    Attributes:
      measures: leaves [T H], the mean over folds; of the whole fit where there is one fold.
      elsewhere: leaves [T H], on examples of no fold.
      scores: [T H B ...], of each example by the fit that did not see it; nan where every fit did.
      chosen: [T F+1], which regularisation, by outer split and of the whole; -1 where none is chosen.
      params: leaves [T H ...], of the whole.
      convergence: leaves [T H M], of all fits; None of a closed form.
    """

    measures: Any
    elsewhere: Any
    scores: Array
    chosen: Array
    params: Any
    convergence: Any


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


def scored(plan: Plan, params: Any, x: Array, y: Array, w: Array, rows: Array, shared: Shared) -> Found:
    """Measures of all fits on what they did not see, the choice, and scores by example."""
    F, H = (plan.n_folds if plan.n_folds > 1 else 0), len(jax.tree.leaves(shared.hypers)[0])
    part = lambda which: jax.tree.map(lambda leaf: leaf[which], params)
    of = lambda params, rows: jax.lax.map(lambda one: on_rows(plan.probe, x, y, w, *one), (params, rows))
    weight = jnp.where(rows[:F, None] >= 0, w[:, rows[:F]].swapaxes(0, 1), 0.0).sum(-1)  # [F T]
    whole, convergence = part(slice(-1, None)), convergence_of(params)
    outer = of(part(slice(F)), rows[:F]) if F else None
    elsewhere = of(whole, rows[-1:]) if plan.elsewhere else None
    chosen = jnp.full((F + 1, len(y)), -1)
    if plan.nested and H > 1:
        merits = inner_merits(part(slice(F, -1)), rows, shared.pairs, of)
        chosen = jnp.concatenate([merits, mean(outer[1][0], weight)[None]]).argmax(2)
        outer = taken(outer, chosen[:-1])
        elsewhere = taken(elsewhere, chosen[-1:]) if plan.elsewhere else None
        whole = jax.tree.map(lambda leaf: take_hyper(leaf.swapaxes(1, 2), chosen[-1:]).swapaxes(1, 2), whole)
    placed = [one[0] for one in (outer, elsewhere) if one is not None]
    at = [rows[:F]] * bool(F) + [rows[-1:]] * plan.elsewhere
    scores = place(jnp.concatenate(placed), jnp.concatenate(at), x.shape[0]) if placed else None
    measures = jax.tree.map(lambda leaf: mean(leaf, weight), outer[1]) if F else None
    apart = jax.tree.map(lambda leaf: leaf[0], elsewhere[1]) if plan.elsewhere else None
    return Found(
        apart if measures is None else measures,
        apart,
        scores,
        chosen.T,
        jax.tree.map(lambda leaf: leaf[0].swapaxes(0, 1), whole),
        None if convergence is None else jax.tree.map(lambda leaf: leaf.T, convergence),
    )


def on_rows(probe: Probe, x: Array, y: Array, w: Array, params: Any, rows: Array) -> tuple[Array, Any]:
    """Scores [T H n ...] and measures [T H] of a fit's params, leaves [H T ...], on some rows."""
    x, y, w = x[rows], y[:, rows], jnp.where(rows >= 0, w[:, rows], 0.0)
    z = jax.vmap(jax.vmap(lambda own: probe.predict(own, x)))(params).swapaxes(0, 1)
    of_hypers = jax.vmap(probe.target.measure, in_axes=(0, None, None))
    return z, jax.vmap(of_hypers)(z, y, w)


def inner_merits(params: Any, rows: Array, pairs: Array, of: Callable[[Any, Array], Any]) -> Array:
    """By what the regularisation of each outer fit is chosen, [F T H]: means over the other folds."""
    one, other = pairs
    total = sum_of = 0.0
    for left_out, scored_on in ((one, other), (other, one)):
        merit = of(params, rows[scored_on])[1][0]  # [I T H]
        sound = jnp.isfinite(merit)
        place = jnp.zeros((rows.shape[0] - 1, *merit.shape[1:]))
        total += place.at[left_out].add(jnp.where(sound, merit, 0.0))
        sum_of += place.at[left_out].add(sound)
    return total / jnp.maximum(sum_of, 1)


def taken(found: tuple[Array, Any], chosen: Array) -> tuple[Array, Any]:
    """Scores and measures at the chosen regularisations, which keep an axis of length 1."""
    return jax.tree.map(lambda leaf: take_hyper(leaf, chosen), found)


def take_hyper(leaf: Array, chosen: Array) -> Array:
    """[F T H ...] at [F T]."""
    return jnp.take_along_axis(leaf, chosen.reshape(*chosen.shape, *[1] * (leaf.ndim - 2)), axis=2)


def mean(leaf: Array, weight: Array) -> Array:
    """[F T H] over folds, by their weights [F T]; without those where it has no meaning."""
    weight = jnp.where(jnp.isfinite(leaf), weight[:, :, None], 0.0)
    total = weight.sum(0)
    return jnp.where(total > 0, jnp.nansum(weight * leaf, 0) / jnp.where(total > 0, total, 1.0), jnp.nan)


def place(z: Array, rows: Array, n: int) -> Array:
    """Scores [F T H n ...] where their examples are: [T H B ...]; nan where there are none."""
    z = jnp.moveaxis(z, 0, 2)
    flat, index = z.reshape(*z.shape[:2], -1, *z.shape[4:]), jnp.where(rows >= 0, rows, n).reshape(-1)
    return jnp.full((*z.shape[:2], n, *z.shape[4:]), jnp.nan, z.dtype).at[:, :, index].set(flat, mode="drop")
