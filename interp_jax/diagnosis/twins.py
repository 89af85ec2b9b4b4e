"""Untrained twins of a model: first weights drawn anew, of the same shapes, seen through a view of the same examples.

What a probe, a distance or an eraser finds in them is what the examples and the architecture alone give; it is the
reference of diagnosers that need one, since models known to have learned the declared rule are not to be had.
"""

import jax
from jaxtyping import Array, Key

from interp_jax.diagnosis.view import View


def twins(view: View, key: Key[Array, ""], n: int) -> list[View]:
    """So many of them, by one key."""
    return [view.untrained(one) for one in jax.random.split(key, n)]
