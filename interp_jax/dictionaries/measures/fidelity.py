"""How well a dictionary reconstructs, with how many features, over a stream of any length.

    L0                   mean number of active features
    MSE                  mean ‖y - ŷ‖², summed over the width
    explained variance   1 - Σ‖y - ŷ‖² / Σ‖y - ȳ‖²        over the whole stream, ȳ its mean: the mean over batches of a ratio of
                         batches, and the mean over dimensions of a ratio of each, are other numbers
    cosine               mean of ŷ · y / ‖ŷ‖ ‖y‖
    shrinkage            Σ‖ŷ‖² / Σ ŷ · y, below 1 where reconstructions are too short (Rajamanoharan et al. 2024a: "γ")
    bias                 ‖mean (ŷ - y)‖ / root of the mean ‖y - ȳ‖²
    density              share of examples in which each feature is active; a feature that never is, is dead

A block of the stream is summed on the device, about its own mean; blocks are merged in float64 (Chan, Golub and LeVeque 1983):

    Σ‖y - ȳ‖² = Σ_b [ Σ‖y - ȳ_b‖² + n_b ‖ȳ_b - ȳ‖² ]
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.judged import Batch
from interp_jax.dictionaries.parameters import Params

LEAST = 1e-12  # length that is divided by


class Sums(NamedTuple):
    """Of one block, or of N blocks with a leading axis.

    Attributes:
      n: examples.
      mean, off: means of y and of ŷ - y.
      spread: Σ‖y - mean‖².
      error: Σ‖y - ŷ‖².
      cosine: Σ of cosines.
      own, shared: Σ‖ŷ‖² and Σ ŷ · y.
      fired: examples in which each feature is active.
    """

    n: Shaped[Array | np.ndarray, "..."]
    mean: Float[Array | np.ndarray, "... O"]
    off: Float[Array | np.ndarray, "... O"]
    spread: Float[Array | np.ndarray, "..."]
    error: Float[Array | np.ndarray, "..."]
    cosine: Float[Array | np.ndarray, "..."]
    own: Float[Array | np.ndarray, "..."]
    shared: Float[Array | np.ndarray, "..."]
    fired: Int[Array | np.ndarray, "... F"]


class Fidelity(NamedTuple):
    """See above; leading axes are those of the members."""

    n: int
    l0: Float[np.ndarray, "..."]
    mse: Float[np.ndarray, "..."]
    explained_variance: Float[np.ndarray, "..."]
    cosine: Float[np.ndarray, "..."]
    shrinkage: Float[np.ndarray, "..."]
    bias: Float[np.ndarray, "..."]
    density: Float[np.ndarray, "... F"]
    dead: Float[np.ndarray, "..."]


def sums(
    y: Float[Array, "B O"],
    reconstruction: Float[Array, "B O"],
    f: Float[Array, "B F"],
    counts: Bool[Array, " B"] | None = None,
) -> Sums:
    """Of a block, or of those of its examples that count."""
    counts = jnp.ones(len(y), bool) if counts is None else counts
    n, of = counts.sum(dtype=jnp.int32), lambda x: jnp.where(counts[:, None], x, 0.0)
    mean = of(y).sum(0) / jnp.maximum(n, 1)
    lengths = jnp.linalg.norm(y, axis=1) * jnp.linalg.norm(reconstruction, axis=1)
    products = jnp.where(counts, (y * reconstruction).sum(1), 0.0)
    return Sums(
        n,
        mean,
        of(reconstruction - y).sum(0) / jnp.maximum(n, 1),
        jnp.square(of(y - mean)).sum(),
        jnp.square(of(y - reconstruction)).sum(),
        (products / jnp.maximum(lengths, LEAST)).sum(),
        jnp.square(of(reconstruction)).sum(),
        products.sum(),
        (of(f) != 0).sum(0, dtype=jnp.int32),
    )


def dictionary_sums(params: Params, batch: Batch, cfg: Dictionary) -> Sums:
    """Of a block as a dictionary reconstructs it."""
    return sums(batch.y, *dictionary.reconstruct(params, batch.x, cfg))


def merge(blocks: Sums, axis: int = 0, width: Any = 0) -> Fidelity:
    """The measures of a stream, whose blocks lie along `axis`; leading axes before it are members.

    Args:
      blocks: sums with the axis of blocks.
      axis: where it is.
      width: features that each member has; 0 is all. A feature that it does not have is not dead.
    """
    part = Sums(*(np.moveaxis(np.asarray(x, np.float64), axis, 0) for x in blocks))
    n = part.n.sum(0)
    mean, off = ((part.n[..., None] * x).sum(0) / n[..., None] for x in (part.mean, part.off))
    spread = (part.spread + part.n * np.square(part.mean - mean).sum(-1)).sum(0)
    error, own, shared, fired = (x.sum(0) for x in (part.error, part.own, part.shared, part.fired))
    n_features = fired.shape[-1]
    used = np.where(np.asarray(width) == 0, n_features, width)
    silent = (fired == 0) & (np.arange(n_features) < np.asarray(used)[..., None])
    return Fidelity(
        int(n.flat[0]),
        fired.sum(-1) / n,
        error / n,
        1 - ratio(error, spread),
        part.cosine.sum(0) / n,
        ratio(own, shared),
        ratio(np.linalg.norm(off, axis=-1), np.sqrt(spread / n)),
        fired / n[..., None],
        silent.sum(-1) / used,
    )


def ratio(a: Any, b: Any) -> Float[np.ndarray, "..."]:
    """A / b; NaN where there is nothing to divide by."""
    out = np.full(np.broadcast_shapes(np.shape(a), np.shape(b)), np.nan)
    return np.divide(a, b, out=out, where=np.asarray(b) > 0)
