"""Whether anything can be read at all: a measure beside those of the same labels in other orders (Ojala and Garriga 2010).

    p = (1 + how many of N orders do as well or better) / (1 + N)

Where labels have nothing to do with x, p ≤ α happens with probability α, whatever the splits. An interval for the difference
from one order says less: by folds, each example is fitted on by most fits, so that examples are not independent of each
other, and where nothing is to be read 95% intervals leave the truth out in 12% of draws (measured; docs/probes.md).

Each seed of the splits has an order of its own: `cross_validation(…, seeds=N)`; p cannot be less than 1/(1 + N).
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
    n = len(probed.axes["seed"])
    if n < LEAST_ORDERS:
        raise InputError(
            f"permutation test: {n} orders give no p below {1 / (1 + n):.2g}; take seeds={LEAST_ORDERS} or more"
        )
    true = np.take(probed.measure(name), [0], axis)
    return (1 + (probed.measure(name, control) >= true).sum(axis)) / (1 + n)
