"""How well each feature alone tells each concept: probes of one feature, k = 1 of `sparse_probing.py`, for all features.

A probe of one feature is monotone in it, so it ranks examples as the feature itself does, and nothing has to be fitted:

    AUROC_cf = P(|f| with the concept > |f| without) + P(equal) / 2              .5 by chance, whatever the concept's share

(Hanley and McNeil 1982). It is one-sided: a feature that is silent where the concept is has less than .5, and its score is that
of the opposite concept. Of a stream only counts above some thresholds are kept, [C F K]; sizes between two neighbouring ones
count as equal, which is the trapezoidal rule on the curve (Fawcett 2006), and a feature with one size has its exact value.

The best of many concepts lies above .5 by chance alone: score the same labels moved to other places beside it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def above(
    f: Float[Array, "N F"], there: Bool[Array, "C N"], thresholds: Float[Array, " K"] | tuple[float, ...]
) -> Int[Array, "C F K"]:
    """Examples of each concept with a feature that is active and at least as large as each threshold; of one block.

    Args:
      f: what a dictionary finds; its size counts.
      there: which examples have the concept; those of one that count for nothing have none.
      thresholds: increasing; 0 is any activity.
    """
    size, of = jnp.abs(f), there.astype(jnp.float32)
    count = lambda t: of @ ((size >= t) & (size > 0)).astype(jnp.float32)
    counts = jax.lax.map(count, jnp.asarray(thresholds, jnp.float32))
    return jnp.moveaxis(counts, 0, -1).astype(jnp.int32)


def auroc(
    counts: Int[Array, "C F K"], n: Int[Array, " C"], rivals: Bool[Array, "C C"]
) -> tuple[Float[Array, "C F"], Int[Array, " C"]]:
    """Each feature's score of each concept, and how many examples do not have the concept.

    Args:
      counts: `above`, summed over blocks.
      n: examples of each concept.
      rivals: row c: the concepts whose examples are those without c, such as the other values of one variable.

    Returns:
      NaN where a concept, or its opposite, has no example.
    """
    against = rivals.astype(jnp.float32)
    without = jnp.einsum("cr,rfk->cfk", against, counts.astype(jnp.float32), precision="highest")
    n_without = jnp.round(against @ n.astype(jnp.float32)).astype(jnp.int32)
    rate = lambda x, n: jnp.where(n > 0, x / jnp.maximum(n, 1), jnp.nan)
    hits, alarms = rate(counts, n[:, None, None]), rate(without, n_without[:, None, None])
    ends = lambda x: jnp.concatenate([jnp.ones_like(x[..., :1]), x, jnp.zeros_like(x[..., :1])], axis=-1)
    hits, alarms = ends(hits), ends(alarms)
    area = ((alarms[..., :-1] - alarms[..., 1:]) * (hits[..., :-1] + hits[..., 1:]) / 2).sum(-1)
    return area, n_without
