"""Tables of cells in both directions: shares with their intervals, and p-values corrected for all cells of the table's kind.

p family    the chance of even one effect as large among all cells, were there none (sign flips, step-down maximum)
p FDR       calling all cells with at most this, no larger share of the calls is false on average (Benjamini and Hochberg)
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from interp_jax.experiments.patching.view import DONE, View
from interp_jax.patching.effects.shares import share_interval
from interp_jax.patching.effects.significance import benjamini_hochberg, sign_flip_test
from interp_jax.patching.prompts import DENOISING, DIRECTIONS, NOISING
from interp_jax.results.tables import Table

LEAST = 5e-4  # share of a cell that is listed
FAMILY, FDR = "p family", "p FDR"
MEANING = (
    "Intervals of shares are 95%: both of their means are drawn anew with the pairs, and the wider interval of a studentised"
    " bootstrap and Student's is shown. `p` is the chance of an effect as large under flips of the pairs' signs. `p family` is"
    " that of even one such among all cells of the table's kind, shown or not (step-down maximum). Of cells that are called for"
    " a `p FDR` of at most 5%, at most 5% are false on average (Benjamini and Hochberg). A dash stands where the pairs do not"
    " bound a share."
)


class Cells(NamedTuple):
    """Cells of one kind, which are one family.

    Attributes:
      heading: of the columns that name them.
      names: of each, C.
      effects: by direction, in units of the metric.
    """

    heading: tuple[str, ...]
    names: Sequence[tuple[str, ...]]
    effects: Mapping[str, Float[np.ndarray, "C B"]]

    @property
    def sizes(self) -> Float[np.ndarray, " C"]:
        """The mean of what each restores and loses."""
        return np.mean([np.abs(effects.mean(-1)) for effects in self.effects.values()], axis=0)


class PValues(NamedTuple):
    """P-values of every cell: by itself, and corrected in two ways for the family."""

    p: Float[np.ndarray, " C"]
    family_wise: Float[np.ndarray, " C"]
    false_discovery: Float[np.ndarray, " C"]


def p_values(effects: Float[np.ndarray, "C B"]) -> PValues:
    """Two-sided sign-flip tests of all cells."""
    test = sign_flip_test(np.asarray(effects, np.float32))
    return PValues(*(np.asarray(p) for p in (test.p, test.family_wise, benjamini_hochberg(test.p))))


def strongest(view: View, cells: Cells, most: int) -> list[int]:
    """The cells that are worth listing, the strongest first; one at least."""
    order = np.argsort(-cells.sizes, kind="stable")[:most]
    worth = [int(i) for i in order if cells.sizes[i] >= LEAST * abs(view.total)]
    return worth or [int(order[0])]


def listed(view: View, cells: Cells, chosen: Sequence[int], what: str) -> Table:
    """The chosen cells; `what` says which they are."""
    numbers = {d: numbers_of(view, effects, chosen) for d, effects in cells.effects.items()}
    rows = [
        (*cells.names[i], *(number for d in DIRECTIONS for number in numbers[d][row])) for row, i in enumerate(chosen)
    ]
    columns = [name for d in DIRECTIONS for name in (DONE[d], "from", "to", FAMILY, FDR)]
    caption = (
        f"{what} Shares restored ({DENOISING}) and lost ({NOISING}) over {len(view.clean)} pairs, with 95% intervals, which are"
        f" not corrected for any choice of cells, and p-values, which are, for all {len(cells.names):,}."
    )
    return Table((*cells.heading, *columns), rows, caption)


def numbers_of(
    view: View, effects: Float[np.ndarray, "C B"], chosen: Sequence[int]
) -> list[tuple[float, float, float, float, float]]:
    """Of each chosen cell: share, interval, and p-values among all."""
    shares, test = share_interval(effects[list(chosen)], view.clean - view.corrupted), p_values(effects)
    chances = [[rounded(float(p[i])) for p in (test.family_wise, test.false_discovery)] for i in chosen]
    return [(*(plain(float(part[row])) for part in shares), *chances[row]) for row in range(len(chosen))]


def plain(share: float) -> float:
    """Three decimals, and no -0."""
    return round(share, 3) + 0.0


def rounded(p: float) -> float:
    """Four decimals of a p-value: none that is drawn is below .0001."""
    return round(p, 4)
