"""Calibration of patching and its estimates on circuits built by hand: what each method finds of the nodes that are known.

A first-order method reaches the nodes whose way to the logits passes no softmax, or, where the softmax of a query or key is
computed anew, no other one. On circuits with sharp patterns that is theory, and what these rows hold the methods to:

    AtP, RelP, integrated gradients     outputs and values of heads that speak to the logits
    AtP with the exact softmax, AtP*    besides, their queries and keys

What is found where nothing is: `false_positives.py`.
"""

from functools import partial

import numpy as np
from jaxtyping import Bool, Float

from interp_jax.experiments.calibration import Instrument, Verdict
from interp_jax.experiments.known_nodes import false_positives
from interp_jax.experiments.known_nodes.populations import LEAK, Overrides, cancelling, saturating, sharp
from interp_jax.experiments.known_nodes.runs import METHODS
from interp_jax.experiments.known_nodes.scores import THRESHOLD, Population, shares, truth
from interp_jax.experiments.known_nodes.verdicts import largest, row, verdict
from interp_jax.models.cancelling_circuit import SIGNAL, signal_without_damper
from interp_jax.models.circuit_truth import SITES
from interp_jax.models.induction_truth import INDUCTION
from interp_jax.models.name_mover_truth import BACKUP, MOVER
from interp_jax.patching.prompts import DENOISING, DIRECTIONS

LARGEST_ERROR = 1e-4  # of a share: float32 under scores of 50
SPEAK = {"name_mover": (MOVER, BACKUP), "induction": (INDUCTION,), "saturated": ((0, 0),)}  # to the logits
RECOMPUTED = ("softmax", "star")  # methods that compute the softmax of a query or key anew
REACH = {"exact": "all, and denoising no other", "integrated": "at least those behind no softmax"}
REACH |= dict.fromkeys(("gradient", "relevance"), "those behind no softmax; denoising, no other")
REACH |= dict.fromkeys(RECOMPUTED, "those behind no softmax but their own; denoising, no other")


def instruments() -> list[Instrument]:
    """The rows of the certificate."""
    built = "name mover, induction, switch, damper, built by hand"
    found = [
        row(
            f"{label}, nodes found",
            "the sharp ones among heads with small effects",
            of_several_layers if method == "star" else sharp_and_leaking,
            partial(judge_found, method),
        )
        for method, label in METHODS.items()
    ]
    return [
        row("exact, nodes", f"{built}: heads at z, q, k, v, both ways", exact_ones, judge_nodes),
        row("exact, direct paths", "the same: all pairs of heads, by q, k, v, both ways", exact_ones, judge_paths),
        *found,
        row("integrated gradients, precision", "the same", sharp_and_leaking, judge_precision),
        row("AtP, saturated or cancelling", "closed forms of gradient × difference", closed_forms, judge_first_order),
        row("AtP, exact softmax, saturated", "a switch, blunt to saturated", saturating, judge_softmax),
        row(
            "AtP*, cancelling",
            "a signal with gradient 0: 1/T, its effect without the damper",
            cancelling,
            judge_graddrop,
        ),
        *false_positives.instruments(),
    ]


def exact_ones(quick: bool) -> Overrides:
    """Circuits whose every effect is known to the last digit."""
    return [*sharp(quick, 0.0), *saturating(quick), *cancelling(quick)]


def closed_forms(quick: bool) -> Overrides:
    """Circuits whose gradients are known too."""
    return [*saturating(quick), *cancelling(quick)]


def of_several_layers(quick: bool) -> Overrides:
    """Circuits in which GradDrop has a layer to drop."""
    return sharp(quick, LEAK)


def sharp_and_leaking(quick: bool) -> Overrides:
    """Those, and the saturated switch."""
    return [*sharp(quick, LEAK), *(run for run in saturating(quick) if run["sharpness"] == 50.0)]


def judge_nodes(populations: list[Population]) -> Verdict:
    """The largest error of any node's share."""
    return largest("error of a share", joined([errors(p, "exact", "truth") for p in populations]), LARGEST_ERROR)


def judge_paths(populations: list[Population]) -> Verdict:
    """The largest error of any path's share."""
    found = [errors(p, "edges", "edges_truth") for p in populations if p.has("edges")]
    return largest("error of a share", joined(found), LARGEST_ERROR)


def judge_first_order(populations: list[Population]) -> Verdict:
    """The largest error of AtP against its closed form, at any node."""
    found = [errors(p, "gradient", "first_order") for p in populations]
    return largest("distance from the closed form", joined(found), LARGEST_ERROR)


def judge_softmax(populations: list[Population]) -> Verdict:
    """The largest error of AtP with the exact softmax, behind which all is linear."""
    return largest("error of a share", joined([errors(p, "softmax", "truth") for p in populations]), LARGEST_ERROR)


def judge_graddrop(populations: list[Population]) -> Verdict:
    """How far AtP* is from the signal's effect without the damper, at z and v, both ways."""
    found = []
    for population in populations:
        expected = np.array([signal_without_damper(float(s)) for s in population.sharpness])
        sizes = [shares(population, way, "star")[:, SITES.index(site), *SIGNAL] for way in DIRECTIONS for site in "zv"]
        found.append(np.abs(np.stack(sizes) - expected).max(0))
    return largest("distance from 1/T", joined(found), LARGEST_ERROR)


def errors(population: Population, name: str, known: str) -> Float[np.ndarray, " R"]:
    """The largest of a run, both ways."""
    found = [np.abs(shares(population, way, name) - population.seen[f"{way}.{known}"]) for way in DIRECTIONS]
    return np.maximum(*(error.reshape(len(population), -1).max(1) for error in found))


def joined(parts: list[np.ndarray]) -> Float[np.ndarray, " R"]:
    """The values of all runs."""
    return np.concatenate(parts)


# ------------------------------------------------------------------------------ nodes that are found


def judge_found(method: str, populations: list[Population]) -> Verdict:
    """Recall at 10% of the total effect; what is found must be what the method reaches, and in denoising nothing false."""
    recalls, as_told, denoising = [], [], DIRECTIONS.index(DENOISING)
    for population in populations:
        within = reach(method, population)
        true = np.stack([truth(population, way) != 0 for way in DIRECTIONS])
        called = np.stack([np.abs(shares(population, way, method)) >= THRESHOLD for way in DIRECTIONS])
        axes = (0, *range(2, true.ndim))
        recalls.append((called & true).sum(axes) / true.sum(axes))
        if method == "integrated":  # half way along its path other nodes act, and it says so
            as_told.append(((called >= within) | ~true).all())
        else:
            as_told.append(((called == within) | ~true).all() and not (called & ~true)[denoising].any())
    name = f"recall of true nodes at {THRESHOLD:.0%} of the effect"
    return verdict(name, joined(recalls), REACH[method], all(as_told))


def judge_precision(populations: list[Population]) -> Verdict:
    """The share of the nodes called by integrated gradients that is true, beside that of all nodes."""
    found, chance = [], []
    for population in populations:
        true = (truth(population, DENOISING) != 0).reshape(len(population), -1)
        called = np.abs(shares(population, DENOISING, "integrated")).reshape(true.shape) >= THRESHOLD
        found.append((called & true).sum(1) / np.maximum(called.sum(1), 1))
        chance.append(true.mean(1))
    bar = "better than calling all, in every run"
    name = f"precision at {THRESHOLD:.0%}, denoising"
    return verdict(name, joined(found), bar, (joined(found) > joined(chance)).all())


def reach(method: str, population: Population) -> Bool[np.ndarray, "S L H"]:
    """Which nodes a method can see where patterns are sharp."""
    shape = truth(population, DENOISING).shape[1:]
    if method == "exact":
        return np.ones(shape, bool)
    sites = np.array([site in (SITES if method in RECOMPUTED else ("z", "v")) for site in SITES])
    speaks = np.zeros(shape[1:], bool)
    for head in SPEAK[population.circuit]:
        speaks[head] = True
    return sites[:, None, None] & speaks
