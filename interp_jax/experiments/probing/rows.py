"""The tokens that are read, drawn of all windows, with the labels of each variable, their groups and classes of positions."""

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from interp_jax.activations.order import permutation
from interp_jax.data.probing.variables import NONE, Annotated, Variable, known
from interp_jax.errors import InputError
from interp_jax.experiments.probing.config import Reading
from interp_jax.probes.splits import Splits, cross_validation
from interp_jax.probes.target_checks import check_fits
from interp_jax.probes.targets import number


class Rows(NamedTuple):
    """B tokens.

    Attributes:
      index: which token of all windows, window by window.
      token: its id.
      group, bin: of each; bins are classes of positions.
      labels: by variable of classes; -1 where there is none.
      numbers: by variable that is a number; nan where there is none.
      variables: with the values that enough tokens have; those of classes first, then numbers.
      bins: what positions a bin has; a last one is of the tokens elsewhere, where there are any.
      left_out: what could not be used, one line each.
      elsewhere: tokens of another distribution, which no probe is fitted on; None where there are none.
    """

    index: Int[np.ndarray, " B"]
    token: Int[np.ndarray, " B"]
    group: Int[np.ndarray, " B"]
    bin: Int[np.ndarray, " B"]
    labels: Int[np.ndarray, "C B"]
    numbers: Float[np.ndarray, "N B"]
    variables: dict[str, Variable]
    bins: tuple[str, ...]
    left_out: tuple[str, ...]
    elsewhere: Bool[np.ndarray, " B"] | None = None

    @property
    def inside(self) -> Bool[np.ndarray, " B"]:
        """Tokens that are in folds."""
        return np.ones(len(self.index), bool) if self.elsewhere is None else ~self.elsewhere

    @property
    def n_bins(self) -> int:
        """How many bins are of positions."""
        return len(self.bins) - (self.elsewhere is not None)

    def of(self, name: str) -> Real[np.ndarray, " B"]:
        """Labels of a variable."""
        which = list(self.variables).index(name)
        return self.labels[which] if which < len(self.labels) else self.numbers[which - len(self.labels)]


def splits_of(
    group: Int[np.ndarray, " B"], reading: Reading, seed: int, elsewhere: Bool[np.ndarray, " B"] | None = None
) -> Splits:
    """Folds of groups, anew for each draw."""
    options = {"elsewhere": elsewhere, "seeds": reading.orders, "nested": True, "seed": seed}
    return cross_validation(len(group), reading.folds, groups=group.tolist(), **options)


def rows_of(data: Annotated, reading: Reading, seed: int) -> Rows:
    """The rows.

    Raises:
      InputError: fewer groups than folds, or no variable with two values that enough tokens have, in each of the folds' fits.
    """
    positions = np.broadcast_to(data.positions, data.tokens.shape).ravel()
    labels = {name: x.ravel() for name, x in data.labels.items()}
    usable = np.flatnonzero((positions >= 0) & np.any([known(x) for x in labels.values()], axis=0))
    drawn = np.sort(usable[permutation(seed, "probing.rows", 0, 0, len(usable))][: reading.rows or None])
    window = drawn // data.tokens.shape[1]
    group, elsewhere = data.group[window], None if data.elsewhere is None else data.elsewhere[window]
    inside = np.ones(len(drawn), bool) if elsewhere is None else ~elsewhere
    if (n := len(np.unique(group[inside]))) < reading.folds:
        raise InputError(
            f"{data.source}: the tokens that are read are of {n} groups, fewer than reading.folds = {reading.folds}: give more"
            " data or fewer folds"
        )
    splits = splits_of(group, reading, seed, elsewhere)
    kept: dict[bool, dict[str, np.ndarray]] = {False: {}, True: {}}
    variables, left_out = {}, []
    for name, variable in data.variables.items():
        filled = enough if variable.is_number else well_filled
        x, found, said = filled(name, variable, labels[name][drawn], np.where(inside, group, NONE), reading.folds)
        left_out += said
        if found is not None and (why := unseen(name, x, found, splits)):
            left_out.append(f"{why}: groups that have it are too few, so the variable is left out")
        elif found is not None:
            kept[variable.is_number][name], variables[name] = x, found
    if not variables:
        raise InputError(f"{data.source}: no variable has two values that can be told apart: {'; '.join(left_out)}")
    of_classes, numbers = (np.array(list(kept[which].values())).reshape(-1, len(drawn)) for which in (False, True))
    place, bins = position_bins(positions[drawn], reading.bins)
    if elsewhere is not None:
        place, bins = np.where(elsewhere, len(bins), place).astype(np.int32), (*bins, "elsewhere")
    return Rows(
        drawn,
        data.tokens.ravel()[drawn],
        group,
        place,
        of_classes.astype(np.int32),
        numbers.astype(np.float32),
        {name: variables[name] for which in (False, True) for name in kept[which]},
        bins,
        (*data.left_out, *left_out),
        elsewhere,
    )


def well_filled(
    name: str, variable: Variable, x: Int[np.ndarray, " B"], group: Int[np.ndarray, " B"], least: int
) -> tuple[Int[np.ndarray, " B"], Variable | None, list[str]]:
    """Labels of the values that as many tokens have, of two groups; None where there are not two; what was left out.

    Tokens of no group, -1, do not count.
    """
    own = [(x == c) & (group != NONE) for c in range(len(variable.values))]
    groups = [len(np.unique(group[which])) for which in own]
    there = [c for c, n in enumerate(groups) if n > 1 and own[c].sum() >= least]
    left_out = [
        f"{name}: {variable.values[c]!r} is the value of {own[c].sum()} of the tokens that are read, of {groups[c]}"
        " groups: too few, so it is left out"
        for c in sorted(set(range(len(groups))) - set(there))
    ]
    if len(there) < 2:
        return x, None, [*left_out, f"{name}: fewer than two values are left, so the variable is left out"]
    new = np.full(len(groups) + 1, NONE, np.int32)  # the last is for -1
    new[there] = np.arange(len(there))
    return new[x], Variable(tuple(variable.values[c] for c in there), variable.about), left_out


def enough(
    name: str, variable: Variable, x: Float[np.ndarray, " B"], group: Int[np.ndarray, " B"], least: int
) -> tuple[Float[np.ndarray, " B"], Variable | None, list[str]]:
    """The same of a number: as many groups must have it, and not all the same."""
    there = known(x) & (group != NONE)
    if len(n := np.unique(group[there])) < least or len(np.unique(x[there])) < 2:
        why = f"{there.sum()} of the tokens that are read, of {len(n)} groups, have it, with {len(np.unique(x[there]))} values"
        return x, None, [f"{name}: {why}: too few, so the variable is left out"]
    return x, variable, []


def unseen(name: str, x: Real[np.ndarray, " B"], variable: Variable, splits: Splits) -> str:
    """Which fit of some folds has nothing to tell apart; "" where each sees two values."""
    which = np.where(known(x), number(x)[1], NONE) if variable.is_number else x
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            check_fits(name, which, len(variable.values), splits)
        except InputError as error:
            return str(error).removeprefix("probe: ")
    return ""


def position_bins(positions: Int[np.ndarray, " B"], n: int) -> tuple[Int[np.ndarray, " B"], tuple[str, ...]]:
    """Classes of positions that hold about as many rows each, in order; their names."""
    edges = np.unique(np.quantile(positions, np.linspace(0, 1, n + 1)[1:-1], method="higher"))
    place = np.searchsorted(edges[edges > positions.min()], positions, side="right").astype(np.int32)
    ends = [(positions[place == k].min(), positions[place == k].max()) for k in range(place.max() + 1)]
    return place, tuple(f"{a}–{b}" if a != b else f"{a}" for a, b in ends)
