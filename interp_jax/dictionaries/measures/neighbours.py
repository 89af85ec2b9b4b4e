"""Whether features whose rows of the decoder point the same way (`geometry.nearest`) fire together.

    overlap    tokens in which both fire / tokens in which the rarer of them fires

A feature with a neighbour of high cosine that fires together with it is one of several that share one meaning: split
(Bricken et al. 2023). Features of one direction that never fire together have divided its contexts among them.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax.dictionaries.measures.geometry import NONE


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
