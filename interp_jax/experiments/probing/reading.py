"""What probes read at every place of a model, of every variable and control, as tallies: one compiled program for all of it.

The probe of classes is a linear discriminant with equal priors, so that no class is worth more than another, however rare; that
of numbers is ridge regression. Documents are folds; the regularisation of a fold is chosen on others (nested). What each fit
says of the tokens that it has not seen is counted by draw, group, class of positions, and class. Each draw has folds of its
own, an order of the labels, document by document, and random labels of tokens: what the labels themselves have is held against
(`probes/permutation.py`).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Real

from interp_jax.data.probing.variables import known
from interp_jax.experiments.probing.config import Reading
from interp_jax.experiments.probing.models import Place
from interp_jax.experiments.probing.rows import Rows
from interp_jax.probes import lda, ridge
from interp_jax.probes.controls import DIRECTION, SHUFFLED, TRUE, TYPES, UNTRAINED
from interp_jax.probes.everywhere import Examples, everywhere
from interp_jax.probes.result import Probed
from interp_jax.probes.splits import Splits

CONTROLS = (TRUE, TYPES, SHUFFLED, DIRECTION)


class Tallies(NamedTuple):
    """By draw, place, variable, control (in the order of `CONTROLS`), group, class of positions and class.

    Of a number y there is one class, whose rate, hits / totals, is R² = 1 - Σ (y - z)² / Σ (y - ȳ)².

    Attributes:
      hits: tokens of the class that were called right; of a number Σ (y - ȳ)² - Σ (y - z)².
      totals: tokens of the class; of a number Σ (y - ȳ)².
    """

    hits: Real[np.ndarray, "N S V T G K C"]
    totals: Real[np.ndarray, "N S V T G K C"]


def targets_of(rows: Rows) -> Float[np.ndarray, "L B C"]:
    """1 for the own class; nothing but 0 where a token has no label."""
    n_classes = max(len(v.values) for v in rows.variables.values())  # of numbers none
    return (rows.labels[..., None] == np.arange(n_classes)).astype(np.float32)


def read(
    x: Sequence[Float[Array, "B _"]], rows: Rows, places: Sequence[Place], reading: Reading, splits: Splits, seed: int
) -> Tallies:
    """All probes of a model; places of one width are one program.

    Raises:
      InputError: activations that are not finite, or of which nothing varies anywhere.
    """
    widths = np.array([one.shape[1] for one in x])
    groups = [np.flatnonzero(widths == width) for width in np.unique(widths)]
    found = [
        read_together(jnp.stack([x[s] for s in own]), rows, [places[s] for s in own], reading, splits, seed)
        for own in groups
    ]
    order = np.argsort(np.concatenate(groups))
    return Tallies(*(np.concatenate(parts, 1)[:, order] for parts in zip(*found, strict=True)))


def read_together(
    x: Float[Array, "S B D"], rows: Rows, places: Sequence[Place], reading: Reading, splits: Splits, seed: int
) -> Tallies:
    """Those of places of one width."""
    alive = np.asarray((x.max(1) > x.min(1)).any(-1))
    x = x if alive.all() else x[alive]
    axes = {"place": [place.name for place, there in zip(places, alive, strict=True) if there]}
    options = {
        "axes": axes,
        "seed": seed,
        "devices": jax.devices()[:1],
        "without": (UNTRAINED,),
    }  # the twin is a model of its own
    shared = {"types": rows.token, "groups": rows.group}
    shares, names, found = np.array(sorted(reading.shrinkages, reverse=True)), list(rows.variables), []
    if len(rows.labels):  # of equal regularisations the strongest is taken
        given, hypers = Examples(x, targets_of(rows), **shared), lda.Hypers(shares)
        probed = everywhere(lda.EQUAL_PRIORS, given, splits, hypers, labels=names[: len(rows.labels)], **options)
        found.append(tallies_of(probed, rows, tally))
    if len(rows.numbers):
        there = known(rows.numbers)
        w = None if there.all() else there.astype(np.float32)
        given, hypers = Examples(of_size_one(x), rows.numbers, w, **shared), ridge.Hypers(shares * len(rows.index))
        probed = everywhere(ridge.PROBE, given, splits, hypers, labels=names[len(rows.labels) :], **options)
        found.append(tallies_of(probed, rows, tally_of_numbers))
    return with_constants(joined(found), alive, np.array([v.is_number for v in rows.variables.values()]))


@jax.jit
def of_size_one(x: Float[Array, "S B D"]) -> Float[Array, "S B D"]:
    """About the mean of each place, and of mean variance 1, so that penalties mean the same at all."""
    x = x - x.mean(1, keepdims=True)
    return x / jnp.sqrt(jnp.square(x).mean((1, 2), keepdims=True))


def tallies_of(found: Probed, rows: Rows, of: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Tallies:
    """Of all controls."""
    each = [of(found, control, rows) for control in CONTROLS]
    return Tallies(*(np.stack(part, 3) for part in zip(*each, strict=True)))


def joined(found: list[Tallies]) -> Tallies:
    """One variable after the other, of as many classes as the one with the most."""
    most = max(one.hits.shape[-1] for one in found)
    wide = lambda part: np.pad(part, [(0, 0)] * (part.ndim - 1) + [(0, most - part.shape[-1])])
    return Tallies(*(np.concatenate([wide(part) for part in parts], 2) for parts in zip(*found, strict=True)))


def with_constants(found: Tallies, alive: Bool[np.ndarray, " S"], is_number: Bool[np.ndarray, " V"]) -> Tallies:
    """With places at which all tokens are the same, where any probe is a constant: it says the first class, or the mean."""
    shape = (len(found.totals), len(alive), *found.totals.shape[2:])
    totals = np.broadcast_to(found.totals[:, :1], shape).copy()
    hits = totals * (np.arange(totals.shape[-1]) == 0)
    hits[:, :, is_number] = 0
    hits[:, alive], totals[:, alive] = found
    return Tallies(hits, totals)


def tally(
    found: Probed, control: str, rows: Rows
) -> tuple[Int[np.ndarray, "N S V G K C"], Int[np.ndarray, "N S V G K C"]]:
    """Hits and totals of a control."""
    said = found.scores[..., found.control(control), 0, :, :].argmax(-1)  # [S N V B]
    y = found.targets(control)  # [S N V B C]
    there, told = y.any(-1), y.argmax(-1)
    counted = lambda which: summed(rows, which.astype(np.float64), told, y.shape[-1]).astype(np.int64)
    return counted(there & (said == told)), counted(there)


def tally_of_numbers(
    found: Probed, control: str, rows: Rows
) -> tuple[Float[np.ndarray, "N S V G K 1"], Float[np.ndarray, "N S V G K 1"]]:
    """Squares that were told, and all, of a control; see `Tallies`."""
    z = np.float64(found.scores[..., found.control(control), 0, :])  # [S N V B]
    y, w = np.float64(found.targets(control)), found.weights(control)
    own = lambda which: (w * which * y).sum(-1, keepdims=True) / np.maximum((w * which).sum(-1, keepdims=True), 1)
    mean = np.where(rows.inside, own(rows.inside), own(~rows.inside))
    spread, missed = w * np.square(y - mean), w * np.square(y - z)
    return tuple(summed(rows, part, np.zeros(part.shape, int), 1) for part in (spread - missed, spread))


def summed(
    rows: Rows, values: Float[np.ndarray, "S N V B"], told: Int[np.ndarray, "S N V B"], n_classes: int
) -> Float[np.ndarray, "N S V G K C"]:
    """Sums of values by group, class of positions and class."""
    sizes = (rows.group.max() + 1, len(rows.bins), n_classes)
    S, N, V, _ = values.shape
    place = (np.arange(N)[:, None] * S + np.arange(S)[:, None, None]) * V  # [S N 1]
    cell = ((place + np.arange(V))[..., None] * sizes[0] + rows.group) * sizes[1] + rows.bin
    flat = np.bincount((cell * n_classes + told).ravel(), values.ravel(), minlength=N * S * V * np.prod(sizes))
    return flat.reshape(N, S, V, *sizes)


def fold_of_group(rows: Rows, splits: Splits) -> Int[np.ndarray, "N G"]:
    """The fold that each group is in, in each draw; groups that nothing is read of are in none, -1."""
    found = np.full((len(splits.fold), rows.group.max() + 1), -1)
    found[:, rows.group[rows.inside]] = splits.fold[:, rows.inside]
    return found
