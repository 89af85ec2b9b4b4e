"""Targets that a probe is given, looked through: what they may be, and whether every fit has something to tell apart.

Outer fits and the whole one must see two classes of each label, or two numbers. Inner fits do no more than choose, and a class
of several may be one that a fit does not see: both are warned of.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from interp_jax.errors import InputError
from interp_jax.probes.places import site_name
from interp_jax.probes.probe import Probe
from interp_jax.probes.splits import Splits


def check_targets(
    probe: Probe, y: np.ndarray, w: np.ndarray, names: Sequence[str], axes: Mapping[str, Sequence[Any]]
) -> None:
    """Raise where a target that counts is not finite, or not what the probe's targets may be."""
    counts = np.broadcast_to(w, y.shape[1:3]) > 0
    bad = ~np.isfinite(y).reshape(*y.shape[:3], -1).all(-1) & counts
    if bad.any():
        site, label, row = np.argwhere(bad)[0]
        raise InputError(
            f"probe: {names[label]!r} of example {row} is not finite ({site_name(site, axes)}); weight 0 leaves it out"
        )
    if (allowed := probe.target.allowed) is None:
        return
    for site, of_site in enumerate(distinct := apart(y)):
        where = f" at {site_name(site, axes)}" if len(distinct) > 1 else ""
        for label, own in enumerate(of_site):
            if len(wrong := np.flatnonzero(counts[label] & ~allowed.holds(own))):
                told = f"{names[label]!r} of example {wrong[0]} is {own[wrong[0]].tolist()}{where}"
                raise InputError(f"probe: {told}; this probe's targets must be {allowed.said}")


def apart(y: np.ndarray) -> np.ndarray:
    """Targets by site: of the first alone where all sites have the same."""
    return y if (y != y[:1]).any() else y[:1]


def check_classes(
    probe: Probe,
    y: np.ndarray,
    w: np.ndarray,
    splits: Splits,
    names: Sequence[str],
    axes: Mapping[str, Sequence[Any]],
) -> None:
    """Raise where a label has one class only, or where a fit sees too few examples of one."""
    for site, of_site in enumerate(distinct := apart(y)):
        at = f" at {site_name(site, axes)}" if len(distinct) > 1 else ""
        for label, own in enumerate(of_site):
            n_classes, which = probe.target.classes(own)
            counted = np.broadcast_to(w, y.shape[1:3])[label] > 0
            for column in which.reshape(len(which), -1).T:
                check_fits(f"{names[label]!r}{at}", np.where(counted, column, -1), n_classes, splits)


def check_fits(where: str, which: Int[np.ndarray, " B"], n_classes: int, splits: Splits) -> None:
    """Raise where a fit sees one class only, or there are fewer of one than folds; warn of classes that a fit does not see."""
    numbers, include = n_classes == 0, splits.include
    n_classes, rows = max(n_classes, which.max() + 1), np.flatnonzero(which >= 0)
    unseen: list[str] = []
    for seed, fold in enumerate(splits.fold):
        table = np.zeros((splits.n_folds + 1, n_classes), int)
        np.add.at(table, (fold[rows], which[rows]), 1)
        counts = include.astype(int) @ table[:-1]  # [M classes]; the last is the fit of all folds
        there = counts[-1] > 0
        outer = np.flatnonzero(include.sum(1) >= splits.n_folds - 1)  # inner ones do no more than choose
        for fit in outer[::-1]:
            if (counts[fit] > 0).sum() < 2:
                what, n = "the same number" if numbers else "one class only", counts[fit].sum()
                raise InputError(
                    f"probe: {where} has {what} in the {n} examples to be fitted on{without(include[fit], seed)}"
                )
        rare = int(np.where(there, counts[-1], counts[-1].sum()).argmin())
        if not numbers and counts[-1, rare] < splits.n_folds:
            raise InputError(
                f"probe: {where} has {counts[-1, rare]} examples of class {rare}, fewer than its {splits.n_folds} folds; "
                "take fewer folds, or `strata`"
            )
        unseen += [f"class {c}{without(include[f], seed)}" for f, c in np.argwhere((counts == 0) & there)]
    if unseen and not numbers:
        warnings.warn(
            f"probe: {where} has no example of a class in {len(unseen)} fits, such as of {unseen[0]}: it is never said there",
            stacklevel=6,
        )


def without(include: Float[np.ndarray, " F"], seed: int) -> str:
    """Which folds a fit leaves out."""
    left = np.flatnonzero(include == 0).tolist()
    return f" without fold{'s' * (len(left) > 1)} {' and '.join(map(str, left))} of seed {seed}" if left else ""
