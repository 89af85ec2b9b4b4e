"""What probes read at every place of a model, of every variable and control, as tallies: one compiled program for all of it.

The probe is a linear discriminant with equal priors, so that no class is worth more than another, however rare. Documents are
folds; the regularisation of a fold is chosen on others (nested). What each fit says of the tokens that it has not seen is
counted by draw, group, class of positions, and class. Each draw has folds of its own, an order of the labels, document by
document, and random labels of tokens: what the labels themselves have is held against (`probes/permutation.py`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from interp_jax.experiments.probing.config import Reading
from interp_jax.experiments.probing.models import Place
from interp_jax.experiments.probing.rows import Rows
from interp_jax.probes import lda
from interp_jax.probes.controls import DIRECTION, SHUFFLED, TRUE, TYPES
from interp_jax.probes.everywhere import Examples, everywhere
from interp_jax.probes.result import Probed
from interp_jax.probes.splits import Splits, cross_validation

CONTROLS = (TRUE, TYPES, SHUFFLED, DIRECTION)


class Tallies(NamedTuple):
    """By draw, place, variable, control (in the order of `CONTROLS`), group, class of positions and class.

    Attributes:
      hits: tokens of the class that were called right.
      totals: tokens of the class.
    """

    hits: Int[np.ndarray, "N S V T G K C"]
    totals: Int[np.ndarray, "N S V T G K C"]


def splits_of(rows: Rows, reading: Reading) -> Splits:
    """Folds of groups, anew for each draw."""
    n = len(rows.index)
    return cross_validation(n, reading.folds, groups=rows.group.tolist(), seeds=reading.orders, nested=True)


def targets_of(rows: Rows) -> Float[np.ndarray, "V B C"]:
    """1 for the own class; nothing but 0 where a token has no label."""
    n_classes = max(len(v.values) for v in rows.variables.values())
    return (rows.labels[..., None] == np.arange(n_classes)).astype(np.float32)


def read(
    x: Float[Array, "S B D"], rows: Rows, places: Sequence[Place], reading: Reading, splits: Splits, seed: int
) -> Tallies:
    """All probes of a model.

    Raises:
      InputError: activations that are not finite, or of which nothing varies anywhere.
    """
    alive = np.asarray((x.max(1) > x.min(1)).any(-1))
    examples = Examples(x if alive.all() else x[alive], targets_of(rows), types=rows.token, groups=rows.group)
    hypers = lda.Hypers(np.array(sorted(reading.shrinkages, reverse=True)))  # of equals the strongest is taken
    found = everywhere(
        lda.EQUAL_PRIORS,
        examples,
        splits,
        hypers,
        axes={"place": [place.name for place, there in zip(places, alive, strict=True) if there]},
        labels=list(rows.variables),
        seed=seed,
        devices=jax.devices()[:1],
    )
    each = [tally(found, control, rows) for control in CONTROLS]
    return with_constants(Tallies(*(np.stack(part, 3) for part in zip(*each, strict=True))), alive)


def with_constants(found: Tallies, alive: Bool[np.ndarray, " S"]) -> Tallies:
    """With places at which all tokens are the same, of which any probe is a constant, and says the first class."""
    shape = (len(found.totals), len(alive), *found.totals.shape[2:])
    totals = np.broadcast_to(found.totals[:, :1], shape).copy()
    hits = totals * (np.arange(totals.shape[-1]) == 0)
    hits[:, alive], totals[:, alive] = found
    return Tallies(hits, totals)


def tally(
    found: Probed, control: str, rows: Rows
) -> tuple[Int[np.ndarray, "N S V G K C"], Int[np.ndarray, "N S V G K C"]]:
    """Hits and totals of a control."""
    said = found.scores[..., found.control(control), 0, :, :].argmax(-1)  # [S N V B]
    y = found.targets(control)  # [S N V B C]
    there, told = y.any(-1), y.argmax(-1)
    n_classes = y.shape[-1]
    sizes = (rows.group.max() + 1, len(rows.bins), n_classes)
    S, N, V, _ = said.shape
    place = (np.arange(N)[:, None] * S + np.arange(S)[:, None, None]) * V  # [S N 1]
    cell = ((place + np.arange(V))[..., None] * sizes[0] + rows.group) * sizes[1] + rows.bin
    count = lambda which: np.bincount((cell * n_classes + told)[which], minlength=N * S * V * np.prod(sizes))
    return tuple(count(which).reshape(N, S, V, *sizes) for which in (there & (said == told), there))


def fold_of_group(rows: Rows, splits: Splits) -> Int[np.ndarray, "N G"]:
    """The fold that each group is in, in each draw; groups that nothing is read of are in none, -1."""
    found = np.full((len(splits.fold), rows.group.max() + 1), -1)
    found[:, rows.group] = splits.fold
    return found
