"""What each method sees of a switch under a softmax, from blunt to saturated."""

import numpy as np

from interp_jax.experiments.known_nodes.runs import METHODS
from interp_jax.experiments.known_nodes.scores import Population, shares
from interp_jax.models.circuit_truth import SITES
from interp_jax.models.saturated_circuit import KINDS, first_order
from interp_jax.patching.prompts import DIRECTIONS
from interp_jax.results import plots
from interp_jax.results.blocks import Block, Figure, Section

TEXT = """All of the effect passes through the query of one head, or through its keys. A(s) is the share of it that gradient ×
difference sees, in closed form; it falls as s exp(-s). AtP* computes the softmax anew, and sees it all at any sharpness."""


def saturation(population: Population) -> list[Block]:
    """The share of the switch's query, or keys, against sharpness."""
    levels = np.unique(population.sharpness)
    if len(levels) < 2:
        return []
    grid = np.geomspace(levels[0], levels[-1], 80)
    series = [plots.Line("A(s), closed form", grid, np.array([first_order(float(s)) for s in grid]))]
    for method, label in METHODS.items():
        if population.has(method):
            series.append(plots.Line(label, levels, np.array([switch(population, float(s), method) for s in levels])))
    axes = plots.Axes("sharpness s (score of a match)", "share of the effect", x_scale="log", y_range=(-0.03, 1.1))
    caption = (
        "Mean over prompts of both kinds, and both directions. Integrated gradients hold on until the softmax turns over "
        "between two of their eight steps. Exact patching and AtP with the exact softmax are both at 1."
    )
    return [Section("Under a saturated softmax", TEXT), Figure(plots.lines(series, axes), caption)]


def switch(population: Population, sharpness: float, method: str) -> float:
    """The mean share of the node through which the effect passes."""
    found = []
    for kind, site in KINDS.items():
        one = population.where((population.sharpness == sharpness) & (population.corruption == kind))
        found += [shares(one, way, method)[:, SITES.index(site), 0, 0] for way in DIRECTIONS]
    return float(np.concatenate(found).mean())
