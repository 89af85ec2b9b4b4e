"""Whether anything can be read at all: a measure beside those of the same labels in other orders (Ojala and Garriga 2010).

    p = (1 + how many of N orders do as well or better) / (1 + N)

Where labels have nothing to do with x, p ≤ α happens with probability α, whatever the splits. An interval for the difference
from one order says less: by folds, each example is fitted on by most fits, so that examples are not independent of each
other, and where nothing is to be read 95% intervals leave the truth out in 12% of draws (measured; docs/probes.md). Labels of
examples that depend on each other, as those of the tokens of a text, are shuffled by group: `Examples.groups`.

Each seed of the splits has an order of its own: `cross_validation(…, seeds=N)`; p cannot be less than 1/(1 + N).

Of the best of many places, each order has a best place s_j of its own: what is compared is how far a_j(s_j), its measure there,
lies above the mean of all orders at that place. So places that are good for any labels count for none.
"""

import numpy as np
from jaxtyping import Float

from interp_jax.errors import InputError
from interp_jax.probes.controls import SHUFFLED
from interp_jax.probes.result import Probed

LEAST_ORDERS = 19  # with which p = .05 can be reached


def permutation_p(probed: Probed, name: str, control: str = SHUFFLED) -> Float[np.ndarray, "*S C H"]:
    """P of a measure of which more is better: that of the first seed's splits, beside the control's of all seeds.

    Raises:
      InputError: too few seeds for any p to be as small as .05.
    """
    axis = list(probed.axes).index("seed")
    true = np.take(probed.measure(name), 0, axis)
    return rank_p(true, np.moveaxis(probed.measure(name, control), axis, 0))


def rank_p(true: Float[np.ndarray, "*S"], orders: Float[np.ndarray, "N *S"]) -> Float[np.ndarray, "*S"]:
    """P of a figure beside those of N orders of the labels, or draws of a control task.

    Raises:
      InputError: too few for any p to be as small as .05.
    """
    if (n := len(orders)) < LEAST_ORDERS:
        raise InputError(
            f"permutation test: {n} orders give no p below {1 / (1 + n):.2g}; take seeds={LEAST_ORDERS} or more"
        )
    return np.asarray((1 + (orders >= true).sum(0)) / (1 + n))


def rank_p_at_best(true: Float[np.ndarray, "S *V"], orders: Float[np.ndarray, "N S *V"]) -> Float[np.ndarray, "*V"]:
    """The same at the best of S places, which each order has of its own; see the module.

    Raises:
      InputError: see `rank_p`.
    """
    each = np.concatenate([true[None], orders])
    best = each.argmax(1)[:, None]
    above = np.take_along_axis(each - each.mean(0), best, 1)[:, 0]
    return rank_p(np.asarray(above[0]), above[1:])
