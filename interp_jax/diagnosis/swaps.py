"""Pairs of examples between which one variable of the declared rule is exchanged, where the rule's answer to that is known.

    base n, source m      after the exchange the variables are those of n, but v, which is that of m
    target                the label of examples in the pool with these values; the pair counts where it is not the label of n

On examples alone, without asking the rule: an example with the exchanged combination must be there. Variables that others
before them determine take no part in the combination. One that decides the label alone is not exchanged: on the examples it is
the label under another name, and whoever answers right, by whatever rule, has that.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.variables import basis, determined, labels_of_cells


class Exchange(NamedTuple):
    """Pairs of a variable: rows of the examples, and the label after the exchange."""

    base: Int[np.ndarray, " M"]
    source: Int[np.ndarray, " M"]
    target: Int[np.ndarray, " M"]


def exchanges(declared: Declared, n: int, seed: int = 0) -> dict[str, Exchange]:
    """At most n pairs of each variable that has some: different bases first, sources at random."""
    rng, found = np.random.default_rng(seed), {}
    kept, labels = basis(declared), np.asarray(declared.labels)
    label_of = labels_of_cells(declared, kept)
    for name, values in declared.variables.items():
        if name not in kept or determined(labels, [np.asarray(values)]):
            continue
        pairs = of_variable(kept, name, label_of, labels, n, rng)
        if len(pairs.base):
            found[name] = pairs
    return found


def of_variable(
    by: dict[str, Int[np.ndarray, " N"]],
    name: str,
    label_of: dict[tuple[int, ...], int],
    labels: Int[np.ndarray, " N"],
    n: int,
    rng: np.random.Generator,
) -> Exchange:
    """Pairs of one variable."""
    cells, place = np.stack(list(by.values()), axis=1), list(by).index(name)
    rows = []
    for _ in range(8):
        for base in rng.permutation(len(labels)):
            source = int(rng.integers(len(labels)))
            cell = cells[base].copy()
            cell[place] = cells[source, place]
            target = label_of.get(tuple(int(one) for one in cell), -1)
            if target >= 0 and target != labels[base]:
                rows.append((int(base), source, target))
            if len(rows) == n:
                break
        if len(rows) == n:
            break
    return Exchange(*np.array(rows, np.int32).reshape(-1, 3).T)
