"""A question whose answer is known: what is planted by a seed, and what an instrument says of it."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from interp_jax.errors import InputError, nearest


class Told(NamedTuple):
    """What was found, and the truth; of as many numbers."""

    found: Float[Array | np.ndarray, " n"]
    truth: Float[Array | np.ndarray, " n"]


class Question(NamedTuple):
    """What is asked of a seed on the host, the truth in words, the largest error allowed in any run, and how many there are."""

    ask: Callable[[int], Told]
    truth: str
    bar: float
    seeds: int = 10


def told(*pairs: tuple[Any, Any]) -> Told:
    """Of pairs of what was found and its truth, a number or one for each; in float64."""
    both = [np.broadcast_arrays(np.ravel(found), np.ravel(np.float64(truth))) for found, truth in pairs]
    return Told(*(np.concatenate(side).astype(np.float64) for side in zip(*both, strict=True)))


def check_known(field: str, name: str, known: Collection[str]) -> None:
    """Raise `InputError` where a config's field names no question."""
    if name not in known:
        raise InputError(f"{field} = {name!r}: {nearest(name, known)}")
