"""Alignment search where the subspace is known: relays hold a variable in a plane of the stream, at one position of each layer.

    ./launch/local --config configs/alignment.py             all variants, places and controls, a few minutes
    ./launch/local --config configs/alignment.py:tiny        a few runs of each, to see that it works
    ./launch/local --config configs/alignment.py --sweep none --config.dimensions=3 --config.variant=boundless      one model

Expect: accuracy 1 on the diagonal where the variable is held and chance everywhere else, by all three variants; at least 99% of
the true plane in the subspace, and boundless searches with its number of dimensions; all controls at chance but for the whole
vector; accuracy 1 from k = d on; and beside a copy that nothing reads the closed form's share of the plane, at full accuracy.
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from interp_jax.experiments.alignment.populations import MODULE, everything
from interp_jax.experiments.config import compose, variant

VARIANTS = {"": {"engine.cpu_devices": 0}, "tiny": {"engine.cpu_devices": 0}}


def get_config(arg: str = "") -> ConfigDict:
    return compose(MODULE, **variant(arg, VARIANTS))


def sweep_default() -> Iterator[dict[str, Any]]:
    """All populations."""
    yield from everything(quick=False)


def sweep_tiny() -> Iterator[dict[str, Any]]:
    """A few runs of each."""
    yield from everything(quick=True)
