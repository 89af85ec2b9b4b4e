"""What fits say of examples that they have not seen: measured fold by fold, the regularisation chosen, scores by example.

Each outer split is scored on its fold; where folds are nested, the regularisation of a split is chosen by the inner fits, by
the first of the measures, and the whole fit's by the outer ones. Else all regularisations are kept. A fit whose scores are not
finite has no measures, and where others have one, its regularisation is not chosen.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from interp_jax.probes.controls import Drawn
from interp_jax.probes.probe import Probe, convergence_of


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


def scored(plan: Plan, params: Any, x: Array, y: Array, w: Array, rows: Array, shared: Shared) -> Found:
    """Measures of all fits on what they did not see, the choice, and scores by example."""
    F, H = (plan.n_folds if plan.n_folds > 1 else 0), len(jax.tree.leaves(shared.hypers)[0])
    part = lambda which: jax.tree.map(lambda leaf: leaf[which], params)
    of = lambda params, rows: jax.lax.map(lambda one: on_rows(plan.probe, x, y, w, *one), (params, rows))
    weight = jnp.where(rows[:F, None] >= 0, w[:, rows[:F]].swapaxes(0, 1), 0.0).sum(-1)  # [F T]
    whole, convergence = part(slice(-1, None)), convergence_of(params, 3)
    outer = of(part(slice(F)), rows[:F]) if F else None
    elsewhere = of(whole, rows[-1:]) if plan.elsewhere else None
    chosen = jnp.full((F + 1, len(y)), -1)
    if plan.nested and H > 1:
        merits = inner_merits(part(slice(F, -1)), rows, shared.pairs, of)
        of_whole = mean_merit(outer[1][0], weight[:, :, None])
        chosen = jnp.concatenate([merits, of_whole[None]]).argmax(2)
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
    there = (rows >= 0).reshape(-1, *[1] * (z.ndim - 3))
    sound = (jnp.isfinite(z) | ~there).all(tuple(range(2, z.ndim)))
    return z, jax.tree.map(lambda leaf: jnp.where(sound, leaf, jnp.nan), jax.vmap(of_hypers)(z, y, w))


def inner_merits(params: Any, rows: Array, pairs: Array, of: Callable[[Any, Array], Any]) -> Array:
    """By what the regularisation of each outer fit is chosen, [F T H]: means over the other folds."""
    one, other = pairs
    merit = jnp.concatenate([of(params, rows[scored_on])[1][0] for scored_on in (other, one)])  # [2I T H]
    left_out = jnp.concatenate([one, other])
    of_fold = (left_out == jnp.arange(rows.shape[0] - 1)[:, None])[:, :, None, None]
    return jax.vmap(mean_merit, in_axes=(None, 0))(merit, of_fold.astype(merit.dtype))


def mean_merit(merit: Array, weight: Array) -> Array:
    """[K T H] over fits, by their weights; -∞ of what has none where others do. What has a meaning for none does not count."""
    possible = jnp.isfinite(merit).any(-1, keepdims=True)
    merit = jnp.where(jnp.isfinite(merit), merit, -jnp.inf)
    weight = jnp.where(possible, weight, 0.0)
    total = weight.sum(0)
    found = jnp.where(weight > 0, weight * merit, 0.0).sum(0) / jnp.where(total > 0, total, 1.0)
    return jnp.where(total > 0, found, -jnp.inf)


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
