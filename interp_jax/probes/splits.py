"""Which examples are held out: folds, by groups and by strata, inside each other; and those of another distribution.

Each example is of one fold, 0 … F-1, or of none, F: such are never fitted on (another distribution, a test set). Fits are

    outer    one for each fold, of all others; scored on the fold                                   F, where F > 1
    inner    one for each pair of folds, of all others; scored on both, to choose what the outer ones use      F (F-1)/2
    whole    one of all folds; scored on the examples of no fold                                    1

so the choice for an outer fold never sees that fold (nested cross-validation: Varma and Simon 2006), and the fit without folds
i and j serves i's choice and j's.
"""

import itertools
import warnings
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from interp_jax.errors import InputError


class Splits(NamedTuple):
    """See the module.

    Attributes:
      fold: of each example, by seed.
      n_folds: F.
      nested: whether there are inner fits.
    """

    fold: Int[np.ndarray, "N B"]
    n_folds: int
    nested: bool = False

    @property
    def pairs(self) -> Int[np.ndarray, "2 I"]:
        """The folds that inner fits leave out."""
        pairs = list(itertools.combinations(range(self.n_folds), 2)) if self.nested else []
        return np.array(pairs, int).reshape(-1, 2).T

    @property
    def include(self) -> Float[np.ndarray, "M F"]:
        """Folds of each fit: outer ones, inner ones, the whole."""
        outer = 1 - np.eye(self.n_folds) if self.n_folds > 1 else np.zeros((0, 1))
        inner = np.ones((self.pairs.shape[1], self.n_folds))
        for side in self.pairs:
            inner[np.arange(len(inner)), side] = 0
        return np.concatenate([outer, inner, np.ones((1, self.n_folds))])

    def rows(self) -> Int[np.ndarray, "N K n"]:
        """The examples of each fold, and of none, K = F+1; -1 fills up the shorter ones."""
        found = [[np.flatnonzero(fold == f) for f in range(self.n_folds + 1)] for fold in self.fold]
        most = max(len(rows) for of_seed in found for rows in of_seed)
        filled = [[np.pad(r, (0, most - len(r)), constant_values=-1) for r in of_seed] for of_seed in found]
        return np.array(filled, np.int32)


def cross_validation(
    n: int,
    folds: int = 5,
    groups: Sequence[Hashable] | np.ndarray | None = None,
    strata: Sequence[Hashable] | np.ndarray | None = None,
    elsewhere: Bool[np.ndarray, " B"] | None = None,
    seeds: int = 1,
    nested: bool = False,
    seed: int = 0,
) -> Splits:
    """Folds of about one size, by chance.

    Args:
      n: how many examples there are.
      folds: how many; 1 holds out nothing but what is elsewhere.
      groups: of examples (a text, a template): all of a group are in one fold.
      strata: of examples (a class): each is spread evenly over the folds; of a group, that of its first example counts.
      elsewhere: examples of another distribution, or of a test set: no fit sees them.
      seeds: how many assignments.
      nested: whether folds are split again, to choose a regularisation.
      seed: of all assignments.

    Raises:
      InputError: fewer examples or groups than folds; names that are not one for each example.
    """
    elsewhere = np.zeros(n, bool) if elsewhere is None else np.asarray(elsewhere, bool)
    for name, given in (("groups", groups), ("strata", strata), ("elsewhere", elsewhere)):
        if given is not None and len(given) != n:
            raise InputError(f"splits: {len(given)} {name} of {n} examples; give one for each")
    group = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    stratum = np.zeros(n, int) if strata is None else np.unique(np.asarray(strata), return_inverse=True)[1]
    units, first, sizes = np.unique(group[~elsewhere], return_index=True, return_counts=True)
    least = 2 + nested if folds > 1 else 1
    if folds < 1 or (nested and folds < least):
        raise InputError(f"splits: {folds} folds; there must be at least {1 + 2 * nested}")
    if len(units) < folds:
        raise InputError(f"splits: {folds} folds of {len(units)} {'groups' if groups is not None else 'examples'}")
    fold = np.full((seeds, n), folds)
    for number, assigned in enumerate(fold):
        of_unit = np.full(group.max() + 1, folds)
        of_unit[units] = spread(np.random.default_rng([seed, number]), sizes, stratum[~elsewhere][first], folds)
        assigned[~elsewhere] = of_unit[group[~elsewhere]]
    return Splits(fold, folds, nested)


def spread(
    rng: np.random.Generator, sizes: Int[np.ndarray, " U"], stratum: Int[np.ndarray, " U"], folds: int
) -> Int[np.ndarray, " U"]:
    """A fold for each unit: largest first within its stratum, to the fold with the fewest of the stratum, then of all."""
    order = rng.permutation(len(sizes))
    order = order[np.lexsort((-sizes[order], stratum[order]))]
    all_sizes, tie = np.zeros(folds), rng.permutation(folds)
    fold = np.empty(len(sizes), int)
    for s in np.unique(stratum):
        own = np.zeros(folds)
        for unit in order[stratum[order] == s]:
            fold[unit] = chosen = np.lexsort((tie, all_sizes, own))[0]
            own[chosen] += sizes[unit]
            all_sizes[chosen] += sizes[unit]
    return fold


def held_out(test: Bool[np.ndarray, " B"]) -> Splits:
    """One fit, of what is not `test`, scored on what is."""
    return Splits(np.asarray(test, bool).astype(int)[None], 1)


def leaks(splits: Splits, same: Sequence[Hashable] | np.ndarray, stacklevel: int = 2) -> int:
    """How many examples are scored by a fit that saw their like; a warning says so where there are any.

    Args:
      splits: which examples are held out together.
      same: what makes two examples one (the text, the row's bytes).
      stacklevel: of the warning.
    """
    own = np.unique(np.asarray(same), return_inverse=True)[1]
    counts, first = [], []
    for fold in splits.fold:
        table = np.zeros((own.max() + 1, splits.n_folds + 1), int)
        np.add.at(table, (own, fold), 1)
        outside = table[:, : splits.n_folds].sum(1)[own] - np.where(fold < splits.n_folds, table[own, fold], 0)
        scored = (fold == splits.n_folds) | (splits.n_folds > 1)
        wrong = scored & (outside > 0)
        counts.append(int(wrong.sum()))
        first.append(int(wrong.argmax()))
    if worst := max(counts):
        warnings.warn(
            f"splits: {worst} of {len(own)} examples are scored by a fit that saw the same text or row, such as example "
            f"{first[counts.index(worst)]}; give `groups` to keep them together",
            stacklevel=stacklevel,
        )
    return worst
