"""What a family's models are trained on and examined on: four pools of inputs, parted by a hash.

    train        the hash of x without its nuisances is even
    held out     it is odd; never trained on

for D_ID and D_X alike. D_ID is drawn with all labels alike, D_X row by row. Where g is a table, D_ID, and D_X for models of g,
are parted by the hash of all of x instead: what such a model never saw are nuisances.
"""

import hashlib
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax.diagnosis.asked import Tokens
from interp_jax.diagnosis.family import Family, answers, check_answers, drawn
from interp_jax.errors import InputError

DRAWN = 32_768  # draws of each set where it is not enumerated
EXAMINED = 4_096  # most held-out inputs of each set


@flax.struct.dataclass
class Pool:
    """Inputs with the answers of both rules.

    Attributes:
      x: tokens. f, g: answers. task: 0, or 1 for the second family of two.
      first, count: of each label, where its rows begin and how many they are; rows are sorted by the label of f.
      labels: those that have rows, in order; their number is the length.
    """

    x: Int[Array | np.ndarray, "N P"]
    f: Int[Array | np.ndarray, " N"]
    g: Int[Array | np.ndarray, " N"]
    task: Int[Array | np.ndarray, " N"]
    first: Int[Array | np.ndarray, " C"]
    count: Int[Array | np.ndarray, " C"]

    def balanced(self, u: Float[Array, "2 B"]) -> Int[Array, " B"]:
        """Rows with all labels alike, from uniform numbers."""
        label = (u[0] * len(self.first)).astype(jnp.int32)
        return self.first[label] + jnp.minimum((u[1] * self.count[label]).astype(jnp.int32), self.count[label] - 1)

    def any(self, u: Float[Array, " B"]) -> Int[Array, " B"]:
        """Rows, all alike."""
        return jnp.minimum((u * len(self.f)).astype(jnp.int32), len(self.f) - 1)


class Pools(NamedTuple):
    """See the module; `conflict_held_g` is what models of g are examined on."""

    id_train: Pool
    id_held: Pool
    conflict_train: Pool
    conflict_held: Pool
    conflict_held_g: Pool


def pools_of(family: Family, n: int = DRAWN, most: int = EXAMINED, seed: int = 0) -> Pools:
    """Those of a family.

    Args:
      family: of the rules.
      n: draws of each set.
      most: held-out inputs kept of each.
      seed: of the draws.

    Raises:
      InputError: nothing is left to train on or to hold out; f ≠ g on some of D_ID, or f = g on some of D_X.
    """
    x_id = np.unique(drawn(family, "D_ID", family.draw_id, n, seed), axis=0)
    x_conflict = np.unique(drawn(family, "D_X", family.draw_conflict, n, seed + 1), axis=0)
    for name, x in (("D_ID", x_id), ("D_X", x_conflict)):
        check_answers(family, name, x, *(answers(family, which, x) for which in "fg"))
    seen, by_nuisance = odd(family.without_nuisances(x_conflict)), odd(x_conflict)
    id_odd = odd(x_id) if family.table_g else odd(family.without_nuisances(x_id))
    parts = {"id_train": x_id[~id_odd], "id_held": thinned(x_id[id_odd], most, seed)}
    if family.table_g:
        parts["conflict_train"] = x_conflict[~seen & ~by_nuisance]
        parts["conflict_held_g"] = thinned(x_conflict[~seen & by_nuisance], most, seed)
    else:
        parts["conflict_train"] = x_conflict[~seen]
        parts["conflict_held_g"] = thinned(x_conflict[seen], most, seed)
    parts["conflict_held"] = thinned(x_conflict[seen], most, seed)
    for name, rows in parts.items():
        if not len(rows):
            raise InputError(
                f"family {family.name!r}: nothing is left of {name.replace('_', ' ')} once inputs are parted"
            )
    return Pools(**{name: pool(family, x) for name, x in parts.items()})


def odd(rows: Int[np.ndarray, "N K"]) -> np.ndarray:
    """Whether the hash of each row is."""
    rows = np.ascontiguousarray(rows, np.int32)
    return np.array([hashlib.blake2b(row.tobytes(), digest_size=1).digest()[0] & 1 for row in rows], bool)


def thinned(rows: Int[np.ndarray, "N P"], most: int, seed: int) -> Int[np.ndarray, "M P"]:
    """At most so many of the rows."""
    if len(rows) <= most:
        return rows
    return rows[np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))]


def pool(family: Family, x: Tokens) -> Pool:
    """Inputs with their answers, sorted by that of f."""
    f, g = (answers(family, which, x) for which in "fg")
    order = np.argsort(f, kind="stable")
    x, f, g = x[order], f[order], g[order]
    task = np.zeros(len(x), np.int32) if family.tasks is None else np.asarray(family.tasks(x), np.int32)
    _, first, count = np.unique(f, return_index=True, return_counts=True)
    return Pool(x, f, g, task, first.astype(np.int32), count.astype(np.int32))


def on_device(pools: Pools) -> Pools:
    """As arrays of JAX."""
    return jax.tree.map(jnp.asarray, pools)
