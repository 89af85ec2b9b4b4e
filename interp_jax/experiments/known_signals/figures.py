"""A figure that a probe gives of a planted signal, beside what is true; and how all of them are read.

Everything goes the way that people go: `everywhere`, fitted to the first examples and scored on the others. Where scores are
counted, and not computed from what was fitted, the figure has the error of so many examples.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from interp_jax.probes.controls import TYPES, UNTRAINED
from interp_jax.probes.everywhere import Examples, everywhere
from interp_jax.probes.probe import Probe
from interp_jax.probes.result import Probed
from interp_jax.probes.splits import held_out

FITTED, SCORED = 2_000, 10_000  # examples


class Figure(NamedTuple):
    """What was found, and what is true."""

    found: Float[Array | np.ndarray, ""] | float
    truth: Float[Array | np.ndarray, ""] | float


Figures = dict[str, Figure]


def read(probe: Probe, x: Any, y: Any, hypers: Any, fitted: int = FITTED, **options: Any) -> Probed:
    """Fitted to the first examples, scored on the others."""
    test = np.arange(len(x)) >= fitted
    examples = Examples(x, np.asarray(y)[None], **options)
    return everywhere(probe, examples, held_out(test), hypers, without=(TYPES, UNTRAINED))


def one(leaf: Any) -> np.ndarray:
    """Of the only seed, label and regularisation."""
    return np.asarray(np.asarray(leaf)[0, 0, 0])


def cosine(a: Any, b: Any) -> float:
    """|cos|."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(abs(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b)))
