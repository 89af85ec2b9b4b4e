"""The variables of a declared rule as columns, and what of them the answer and the other variables do not say already.

    z_v = one-hot of v [N K]        rest_v = [1, one-hot of the label, one-hots of the other variables]
    z_v ⊥ rest_v = z_v - rest_v (rest_vᵀ rest_v + ε)⁻¹ rest_vᵀ z_v                        linear: what their sums say

On examples on which both rules agree a variable may be the label itself, or constant: then nothing is left of it. All of this
is known by index and the same for every model, so it is computed in NumPy, float64, before any model is run.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax.diagnosis.declared import Declared

LEAST = 1e-6  # of the variance of columns: what is less is nothing


class Parted(NamedTuple):
    """A variable on the examples.

    Attributes:
      columns: one-hot, of the values that occur.
      rest: a constant, the label's and the other variables' columns, made orthonormal.
      left: what of `columns` is orthogonal to `rest`.
      share: of the variance of `columns`, how much is left, 0 … 1.
    """

    columns: Float[np.ndarray, "N K"]
    rest: Float[np.ndarray, "N Z"]
    left: Float[np.ndarray, "N K"]
    share: float


def one_hot(values: Int[Array | np.ndarray, " N"]) -> Float[np.ndarray, "N K"]:
    """Columns of the values that occur."""
    values = np.asarray(values)
    return (values[:, None] == np.unique(values)).astype(np.float64)


def orthonormal(columns: Float[np.ndarray, "N Z"]) -> Float[np.ndarray, "N Y"]:
    """A basis of the span of columns."""
    U, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return U[:, sizes > LEAST * sizes[0]]


def parted(declared: Declared, others: bool = True) -> dict[str, Parted]:
    """Every variable beside the label, and beside the other variables too or not."""
    columns = {name: one_hot(values) for name, values in declared.variables.items()}
    label = one_hot(declared.labels)
    found = {}
    for name, own in columns.items():
        beside = [one for other, one in columns.items() if other != name and others]
        rest = orthonormal(np.concatenate([np.ones((len(label), 1)), label, *beside], axis=1))
        left = own - rest @ (rest.T @ own)
        whole = float(np.square(own - own.mean(0)).sum())
        share = float(np.square(left).sum()) / whole if whole > 0 else 0.0
        found[name] = Parted(own, rest, left, share if share > LEAST else 0.0)
    return found


def rest_of_all(declared: Declared) -> Float[np.ndarray, "N Z"]:
    """An orthonormal basis of a constant, the label's columns and those of all variables."""
    columns = [one_hot(values) for values in declared.variables.values()]
    return orthonormal(
        np.concatenate([np.ones((len(declared.labels), 1)), one_hot(declared.labels), *columns], axis=1)
    )


def basis(declared: Declared) -> dict[str, Int[np.ndarray, " N"]]:
    """Variables, in their order, but for those that the ones before them determine on the examples, and constants."""
    kept: dict[str, Int[np.ndarray, " N"]] = {}
    for name, values in declared.variables.items():
        values = np.asarray(values)
        if not determined(values, list(kept.values())):
            kept[name] = values
    return kept


def determined(values: Int[np.ndarray, " N"], by: list[Int[np.ndarray, " N"]]) -> bool:
    """Whether examples that agree in all of `by` agree in these values."""
    cells = np.unique(np.stack([np.zeros(len(values), int), *by], axis=1), axis=0, return_inverse=True)[1].ravel()
    first = np.zeros(cells.max() + 1, values.dtype)
    first[cells] = values
    return bool((first[cells] == values).all())


def labels_of_cells(declared: Declared, by: Mapping[str, Int[np.ndarray, " N"]]) -> dict[tuple[int, ...], int]:
    """The label of each combination of values that occurs, where it has one label only."""
    found: dict[tuple[int, ...], int] = {}
    mixed = set()
    for cell, label in zip(zip(*by.values(), strict=True), np.asarray(declared.labels), strict=True):
        key = tuple(int(one) for one in cell)
        if found.setdefault(key, int(label)) != int(label):
            mixed.add(key)
    return {key: label for key, label in found.items() if key not in mixed}
