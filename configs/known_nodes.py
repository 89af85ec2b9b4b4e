"""Exact patching and its estimates on models whose nodes are known: what each method finds, and what it cannot see.

    ./launch/local --config configs/known_nodes.py           all circuits and populations, a minute
    ./launch/local --config configs/known_nodes.py:tiny      a few runs of each, to see that it works
    ./launch/local --config configs/known_nodes.py --sweep none --config.circuit=induction        one model

Expect: exact patching finds every true node and no other, direct paths the backup too, AtP only what no softmax hides, AtP*
what one softmax hides; under a saturated softmax AtP on its closed form and AtP* at 1; at most 5% of nodes called where none
has an effect on average.
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from interp_jax.experiments.config import compose, variant
from interp_jax.experiments.known_nodes.populations import MODULE, everything


def get_config(arg: str = "") -> ConfigDict:
    return compose(MODULE, **variant(arg, {"": {}, "tiny": {}}))


def sweep_default() -> Iterator[dict[str, Any]]:
    """All populations."""
    yield from everything(quick=False)


def sweep_tiny() -> Iterator[dict[str, Any]]:
    """A few runs of each."""
    yield from everything(quick=True)
