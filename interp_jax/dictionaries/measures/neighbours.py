"""Features that are near each other: whose rows of the decoder point the same way, and which fire together.

    cosine     W_dec,f · W_dec,g / ‖W_dec,f‖ ‖W_dec,g‖
    overlap    tokens in which both fire / tokens in which the rarer of them fires

A feature with a neighbour of high cosine that fires together with it is one of several that share one meaning: split
(Bricken et al. 2023). Features of one direction that never fire together have divided its contexts among them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from interp_jax.dictionaries.encoders import unit_rows

ROWS = 256  # features compared with all at once
NONE = -1  # the neighbour of a feature that has too few


class Neighbours(NamedTuple):
    """Of every feature, the nearest first; of equal cosines the first feature."""

    feature: Int[Array, "F N"]
    cosine: Float[Array, "F N"]


def neighbours(W_dec: Float[Array, "F O"], n: int, used: Bool[Array, " F"]) -> Neighbours:
    """The n features in use whose rows have the largest cosine with each; -1 where there are not so many."""
    unit, index = unit_rows(W_dec), jnp.arange(len(W_dec))

    def of(one: tuple[Array, Array]) -> Any:
        row, own = one
        cosine = jnp.einsum("d,fd->f", row, unit, precision="highest")
        return jax.lax.top_k(jnp.where(used & (index != own), cosine, -jnp.inf), n)

    cosine, feature = jax.lax.map(of, (unit, index), batch_size=ROWS)
    there = jnp.isfinite(cosine)
    return Neighbours(jnp.where(there, feature, NONE).astype(jnp.int32), jnp.where(there, cosine, 0.0))


def fired_together(f: Float[Array, "R F"], feature: Int[Array, "F N"]) -> Int[Array, "F N"]:
    """Tokens of a block in which each feature fires with each of its neighbours."""
    fires = f != 0
    with_one = lambda others: (fires & fires[:, others]).sum(0, dtype=jnp.int32)
    return jax.lax.map(with_one, feature.T).T


def overlap(
    together: Int[np.ndarray, "F N"], fired: Int[np.ndarray, " F"], feature: Int[np.ndarray, "F N"]
) -> Float[np.ndarray, "F N"]:
    """Of a stream; 0 where one never fires, or is none."""
    fired, feature = np.asarray(fired), np.asarray(feature)
    rarer = np.minimum(fired[:, None], fired[feature])
    return np.where(feature == NONE, 0.0, np.asarray(together) / np.maximum(rarer, 1))
