"""Which runs say what: the populations that the certificate and the report are made of."""

from itertools import product
from typing import Any

from interp_jax.patching.alignment.config import VARIANTS

MODULE = "interp_jax.experiments.alignment"
TRUE_DIMENSIONS = (1, 2, 3)
STEPS = {"orthonormal": 300, "low_rank": 300, "boundless": 600}  # its boundary closes late
FIRST_FRESH = 4000  # of the seeds that certify: on none of them anything was chosen
COPIES = (0.5, 1.0, 2.0, 4.0)
SHALLOW = {"layers": 1, "everywhere": False, "searches": 1, "columns": 8}

Overrides = list[dict[str, Any]]


def located(variant: str, quick: bool) -> Overrides:
    """Relays searched after every layer and at every position."""
    fixed = {"variant": variant, "steps_of_search": STEPS[variant]} | ({"layers": 2, "searches": 1} if quick else {})
    values = product((1, 3) if quick else TRUE_DIMENSIONS, range(1 if quick else 2))
    return [{**fixed, "dimensions": d, "seed": seed} for d, seed in values]


def certifying(variant: str, quick: bool) -> Overrides:
    """Relays of two layers, of other seeds, searched once where the variable is held, and ahead of it."""
    fixed = {"variant": variant, "steps_of_search": STEPS[variant], "layers": 2, "everywhere": False, "searches": 1}
    n = len(TRUE_DIMENSIONS) * (1 if quick else 6)
    return [{**fixed, "dimensions": TRUE_DIMENSIONS[i % 3], "seed": FIRST_FRESH + i} for i in range(n)]


def asked(quick: bool) -> Overrides:
    """Relays of one layer, searched for more and fewer dimensions than there are."""
    values = product((1, 2, 3, 5), (1, 2, 3, 5) if quick else range(1, 9), range(1 if quick else 4))
    return [{**SHALLOW, "dimensions": d, "k": k, "seed": seed} for d, k, seed in values]


def copied(quick: bool, first: int = 0) -> Overrides:
    """Relays of one layer that also write a copy which nothing reads.

    They are not so sure that loss has nothing left to gain, and pairs are many, so that their optimum is nearly the true one.
    """
    values = list(product(range(1 if quick else 4), COPIES, TRUE_DIMENSIONS))
    fixed = {**SHALLOW, "margin": 2.0, "pairs": 2048}
    return [{**fixed, "bystander": b, "dimensions": d, "seed": first + i} for i, (_, b, d) in enumerate(values)]


def everything(quick: bool) -> Overrides:
    """What the report shows."""
    return [*(run for variant in VARIANTS for run in located(variant, quick)), *asked(quick), *copied(quick)]
