"""A few examples at a time, so that what is held of all layers of their runs fits in memory."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from interp_jax.patching.exact.plan import chunks, rows_of

AT_ONCE = 16


def batches(examples: Any, n: int) -> Iterator[tuple[Int[np.ndarray, " N"], Any]]:
    """Indices of examples and what is of them, of a pytree of arrays [B …]; all of one size, the last filled up."""
    for rows in chunks(n, min(AT_ONCE, n)):
        yield rows, jax.tree.map(partial(rows_of, rows), jax.tree.map(np.asarray, examples))
