"""Which runs say what: the populations that the certificate and the report are made of."""

from itertools import product
from typing import Any

from interp_jax.models.name_mover_truth import CORRUPTIONS
from interp_jax.models.saturated_circuit import KINDS

MODULE = "interp_jax.experiments.known_nodes"
LEAK = 0.02
BLUNT_TO_SHARP = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 50.0)
N_FREE = 150  # runs of random weights

Overrides = list[dict[str, Any]]


def sharp(quick: bool, leak: float) -> Overrides:
    """The two circuits of several layers among random heads, in the limit of sharp patterns."""
    fixed = {"random_heads": 4, "leak": leak}
    circuits = [{"circuit": "name_mover", "corruption": c} for c in CORRUPTIONS] + [{"circuit": "induction"}]
    return [{**fixed, **one, "seed": seed} for one, seed in product(circuits, range(1 if quick else 3))]


def sharpened(sharpness: float) -> Overrides:
    """The name mover among random heads before that limit."""
    fixed = {"circuit": "name_mover", "random_heads": 4, "leak": LEAK, "sharpness": sharpness}
    return [{**fixed, "corruption": corruption} for corruption in CORRUPTIONS]


def saturating(quick: bool) -> Overrides:
    """The switch under a softmax, blunt to saturated."""
    values = product(KINDS, BLUNT_TO_SHARP[::3] if quick else BLUNT_TO_SHARP, range(1 if quick else 2))
    return [{"circuit": "saturated", "corruption": k, "sharpness": s, "seed": seed} for k, s, seed in values]


def cancelling(quick: bool) -> Overrides:
    """Two paths that cancel to first order."""
    values = product((5.0, 8.0, 20.0), range(1 if quick else 2))
    return [{"circuit": "cancelling", "sharpness": s, "seed": seed} for s, seed in values]


def without_effect(quick: bool, circuit: str) -> Overrides:
    """Random models: few where every one says the same, many where a rate is to be measured."""
    n = {"no_effect": 20, "no_mean_effect": N_FREE}[circuit]
    return [{"circuit": circuit, "names": 12, "length": 6, "seed": seed} for seed in range(n // 10 if quick else n)]


def everything(quick: bool) -> Overrides:
    """What the report shows."""
    blunt = [run for s in BLUNT_TO_SHARP[:: 2 if quick else 1] if s < 50 for run in sharpened(s)]
    null = [run for circuit in ("no_mean_effect", "no_effect") for run in without_effect(quick, circuit)]
    return [*sharp(quick, 0.0), *sharp(quick, LEAK), *blunt, *saturating(quick), *cancelling(quick), *null]
