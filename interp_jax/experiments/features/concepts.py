"""How well each feature alone tells what Python's `tokenize` says of held-out source code, in the pass that measures all.

A concept is a value of a variable of `data/probing/source_labels.py`, against its other values; see `measures/single_probes.py`
for the score. The control is the best score of the same labels moved along the text, by a distance that is drawn: they are as
frequent, and change as often, but belong to other tokens.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from interp_jax import randomness
from interp_jax.data.probing.labelled_stream import in_windows, label_stream
from interp_jax.data.probing.source_labels import VARIABLES, Tokenised
from interp_jax.dictionaries.measures import single_probes

OF_CLASSES = {name: variable.values for name, variable in VARIABLES.items() if variable.values}
CONCEPTS = tuple((name, value) for name, values in OF_CLASSES.items() for value in values)


class Probed(NamedTuple):
    """Tokens of each concept, and of these those with a feature above each threshold; true labels, then moved ones."""

    n: Int[Array, "2 C"]
    above: Int[Array, "2 C F K"]


def names() -> list[str]:
    """Each concept in words, such as "in comment" or "bracket depth 2+"."""
    say = {"yes": "{}", "no": "not {}"}
    return [say.get(value, "{} {}").format(name, value) for name, value in CONCEPTS]


def labels_of(
    documents: Sequence[Tokenised], ends: int, n: int, at: Int[np.ndarray, "N W P"]
) -> Int[np.ndarray, "V N W P"]:
    """Labels of windows; no variables where no document is Python.

    Args:
      documents: of the text.
      ends: tokens that end each of them.
      n: its tokens.
      at: where the windows lie in it.
    """
    stream = label_stream(documents, ends)
    if not stream.documents[0] or len(stream.identifier) != n:
        return np.zeros((0, *at.shape), np.int32)
    return in_windows(stream, at.reshape(-1, at.shape[-1])).reshape(-1, *at.shape)


def with_moved(seed: Array, labels: Int[Array, "V N W P"]) -> Int[Array, "2 V N W P"]:
    """The labels, and the same moved along the text, by a window at least and around its end."""
    flat, length = labels.reshape(len(labels), labels[0].size if len(labels) else 0), labels.shape[-1]
    furthest = max(flat.shape[1] - length, length) + 1
    by = jax.random.randint(randomness.key(seed, "features.moved"), (), length, furthest)
    return jnp.stack([labels, jnp.roll(flat, by, axis=1).reshape(labels.shape)])


def nothing_probed(n_variables: int, n_features: int, thresholds: Sequence[float]) -> Probed:
    """Before any text; no concepts where there are no variables."""
    n = len(CONCEPTS) if n_variables else 0
    return Probed(jnp.zeros((2, n), jnp.int32), jnp.zeros((2, n, n_features, len(thresholds)), jnp.int32))


def probed(
    f: Float[Array, "T F"], labels: Int[Array, "2 V W P"], counts: Bool[Array, "W P"], thresholds: Sequence[float]
) -> Probed:
    """Of one block of text."""
    if not labels.shape[1]:
        return nothing_probed(0, f.shape[1], thresholds)
    is_value = lambda v, n: labels[:, v, None] == jnp.arange(n)[None, :, None, None]
    there = jnp.concatenate([is_value(v, len(of)) for v, of in enumerate(OF_CLASSES.values())], axis=1)
    there = (there & counts).reshape(2 * len(CONCEPTS), -1)
    above = single_probes.above(f, there, tuple(thresholds))
    return Probed(there.sum(1, dtype=jnp.int32).reshape(2, -1), above.reshape(2, -1, *above.shape[1:]))


def scores(found: Probed, n_variables: int) -> dict[str, Array]:
    """Each feature's score of each concept, and of its labels moved along; nothing where there are no variables."""
    if not n_variables:
        return {}
    of = np.array([name for name, _ in CONCEPTS])
    rivals = jnp.asarray((of[:, None] == of) & ~np.eye(len(of), dtype=bool))
    (true, without), (moved, _) = (single_probes.auroc(found.above[i], found.n[i], rivals) for i in range(2))
    return {"concepts.auroc": true, "concepts.control": moved, "concepts.n": found.n[0], "concepts.without": without}
