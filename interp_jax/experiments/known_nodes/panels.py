"""What methods find of circuits of several layers, as tables and plots: by threshold, by head, by sharpness, by path."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from interp_jax.experiments.known_nodes.runs import METHODS
from interp_jax.experiments.known_nodes.scores import THRESHOLD, Population, found, shares, truth
from interp_jax.experiments.known_nodes.subjects import INPUTS
from interp_jax.models.cancelling_circuit import SIGNAL, signal_without_damper
from interp_jax.models.circuit_truth import SITES, Node
from interp_jax.models.induction_truth import induction_truth
from interp_jax.models.name_mover_truth import name_mover_truth
from interp_jax.patching.prompts import DENOISING, DIRECTIONS, NOISING
from interp_jax.results import plots
from interp_jax.results.blocks import Block, Figure, Section, TableBlock
from interp_jax.results.tables import Table, interval

THRESHOLDS = np.geomspace(1e-4, 1.5, 60)
NAMES = {"name_mover": "name mover with backup", "induction": "induction circuit"}
AXES = plots.Axes("threshold, as a share of the total effect", "", x_scale="log", y_range=(-0.03, 1.03))


def sharp(population: Population) -> Population:
    """The runs with the sharpest patterns; those among heads with small effects, if there are any."""
    sharpest = population.sharpness == population.sharpness.max()
    leaking = sharpest & (population.leak > 0)
    return population.where(leaking if leaking.any() else sharpest)


def known_nodes(population: Population) -> tuple[Node, ...]:
    """The heads of a circuit and their roles."""
    if population.circuit == "induction":
        return induction_truth().nodes
    return name_mover_truth(truth(population, DENOISING).shape[2] == 4).nodes


def accuracy(population: Population) -> list[Block]:
    """Precision and recall of every method, at one threshold both ways and over thresholds in denoising."""
    runs, rows = sharp(population), []
    for method, label in METHODS.items():
        at = [found(shares(runs, way, method), truth(runs, way)) for way in DIRECTIONS]
        rows.append((label, *(float(value[0]) for one in at for value in (one.recall, one.precision))))
    columns = ("method", *(f"{way}: {what}" for way in DIRECTIONS for what in ("recall", "precision")))
    text = (
        f"Nodes are heads at the sites {', '.join(SITES)}, all positions at once. A node is called where its share is at least "
        f"{THRESHOLD:g}, and true where exact patching must find any effect in this direction."
    )
    n_true = [int((truth(runs, way) != 0).sum()) for way in DIRECTIONS]
    n_nodes = truth(runs, DENOISING)[0].size
    caption = f"{len(runs)} models of {n_nodes} nodes; {n_true[0]} true ones in denoising, {n_true[1]} in noising."
    if min(row[-1] for row in rows) < 1:
        caption += (
            " False calls in noising are nodes that another head stands in for, which no first-order method can know."
        )
    title = f"Found: {NAMES[population.circuit]}"
    return [Section(title, text), TableBlock(Table(columns, rows, caption)), *over_thresholds(runs)]


def over_thresholds(runs: Population) -> list[Block]:
    """Recall and precision of every method in denoising."""
    each = [
        (label, found(shares(runs, DENOISING, m), truth(runs, DENOISING), THRESHOLDS)) for m, label in METHODS.items()
    ]

    def drawn(what: str, caption: str) -> Figure:
        series = [plots.Line(label, THRESHOLDS, getattr(one, what)) for label, one in each]
        return Figure(plots.lines(series, AXES._replace(y=f"{what}, denoising")), caption)

    but = (
        ""
        if runs.circuit == "induction"
        else ", but for nodes that act only half way along integrated gradients' path"
    )
    return [
        drawn(
            "recall",
            "Below the small effects of random heads all is called; from there to the smallest true effect exact patching "
            "finds every node, and first-order methods only those that no softmax stands before.",
        ),
        drawn("precision", f"What is called above the random heads' small effects is true{but}."),
    ]


def heads(population: Population) -> list[Block]:
    """At which sites a head is found, by method."""
    runs = sharp(population)
    roles = {(node.layer, node.head): node.role for node in known_nodes(population)}
    n_layers, n_heads = truth(runs, DENOISING).shape[2:]
    calls = {(m, way): called_on_average(runs, way, m) for m in METHODS for way in DIRECTIONS}
    edges = np.any([called_on_average(runs, way, "edges") for way in DIRECTIONS], 0)
    sends = edges.any((0, 2, 3)).reshape(n_layers, n_heads)
    receives = edges.any(1)
    rows = []
    for layer, head in [*roles, *((layer, 1) for layer in range(n_layers))]:
        by = [sites(calls[m, way][:, layer, head]) for m, way in (("exact", DENOISING), ("exact", NOISING))]
        by += [sites(np.any([calls[m, way] for way in DIRECTIONS], 0)[:, layer, head]) for m in list(METHODS)[1:]]
        via = [name for i, name in enumerate(INPUTS) if receives[i, layer, head]]
        spoken = ", ".join([*(["sends"] if sends[layer, head] else []), *(f"by {name}" for name in via)]) or "–"
        rows.append((f"{layer}.{head}", roles.get((layer, head), "decoy"), *by, spoken))
    columns = ("head", "role", "exact, denoising", "exact, noising", *list(METHODS.values())[1:], "direct paths")
    caption = (
        f"Sites at which a head's mean share is at least {THRESHOLD:g} under one of the corruptions; of estimates, either way. "
        "Not one single node shows the backup's output: paths show what it listens to."
    )
    return [Section("Which head is found, and where"), TableBlock(Table(columns, rows, caption))]


def called_on_average(population: Population, direction: str, name: str) -> Bool[np.ndarray, "*nodes"]:
    """Nodes, or edges, whose mean share over the runs of some corruption reaches the threshold."""
    found = np.abs(shares(population, direction, name))
    means = [found[population.corruption == corruption].mean(0) for corruption in np.unique(population.corruption)]
    return np.max(means, 0) >= THRESHOLD


def sites(called: Bool[np.ndarray, " S"]) -> str:
    """Names of those that hold."""
    return " ".join(site for site, yes in zip(SITES, called, strict=True) if yes) or "–"


def sharpening(population: Population) -> list[Block]:
    """Recall at one threshold as patterns sharpen."""
    runs = population.where(population.leak > 0)
    levels = np.unique(runs.sharpness)
    if len(levels) < 3:
        return []
    series = []
    for method, label in METHODS.items():
        each = [runs.where(runs.sharpness == s) for s in levels]
        recall = [found(shares(one, DENOISING, method), truth(one, DENOISING)).recall[0] for one in each]
        series.append(plots.Line(label, levels, np.array(recall)))
    axes = plots.Axes(
        "sharpness (score of a match)", f"recall at {THRESHOLD:.0%}", x_scale="log", y_range=(-0.03, 1.03)
    )
    caption = (
        "Denoising; true is what has an effect in the limit. The blunter the patterns, the less of the effect goes this way; "
        "the sharper, the less of it gradients see."
    )
    return [Section("As patterns sharpen"), Figure(plots.lines(series, axes), caption)]


def paths(population: Population) -> list[Block]:
    """Direct paths: true ones, and the largest of all others."""
    runs = sharp(population)
    roles = {(node.layer, node.head): node.role for node in known_nodes(population)}
    n_layers, n_heads = truth(runs, DENOISING).shape[2:]
    rows: list[Sequence] = []
    for corruption in dict.fromkeys(runs.corruption):
        one = runs.where(runs.corruption == corruption)
        seen = {way: (shares(one, way, "edges"), truth(one, way, edges=True)) for way in DIRECTIONS}
        true = np.any([known != 0 for _, known in seen.values()], axis=(0, 1))
        for via, sender, layer, head in np.argwhere(true).tolist():
            names = [f"{at[0]}.{at[1]} {roles[at]}" for at in (divmod(sender, n_heads), (layer, head))]
            values = [v for f, known in seen.values() for v in cells(f, known, (via, sender, layer, head))]
            rows.append((corruption, names[0], names[1], INPUTS[via], *values))
        others = [float(np.abs(f[:, ~true]).max()) for f, _ in seen.values()]
        rows.append((corruption, "largest of all others", "", "", others[0], 0.0, others[1], 0.0))
    columns = ("corruption", "from", "to", "by", *(f"{way}{what}" for way in DIRECTIONS for what in ("", ": truth")))
    caption = f"Shares of direct paths: these of {3 * (n_layers * n_heads) ** 2:,}, with those that lead nowhere."
    if population.circuit == "name_mover" and (runs.leak > 0).any():
        caption += " Where two matches tie, random heads decide: ½ may then be anything from 0 to 1."
    return [Section(f"Direct paths: {NAMES[population.circuit]}"), TableBlock(Table(columns, rows, caption))]


def cells(estimate: Float[np.ndarray, "R *nodes"], known: Float[np.ndarray, "R *nodes"], at: Sequence[int]) -> list:
    """A share over the runs with its interval, and the truth."""
    return [interval(np.round(estimate[:, *at], 5)), float(known[0, *at])]


def cancellation(population: Population) -> list[Block]:
    """The share of the signal's output by every method, both ways."""
    levels = [float(s) for s in np.unique(population.sharpness)]
    each = [(population.where(population.sharpness == s), way) for s in levels for way in DIRECTIONS]
    signal = lambda one, way, method: round(float(shares(one, way, method)[:, 0, *SIGNAL].mean()), 4) + 0.0
    rows: list[Sequence] = [(label, *(signal(one, way, m) for one, way in each)) for m, label in METHODS.items()]
    rows.append(("1/T, by theory", *(signal_without_damper(s) for s in levels for _ in DIRECTIONS)))
    columns = ("method", *(f"s = {s:g}: {way}" for s in levels for way in DIRECTIONS))
    text = (
        "What the signal says directly and what the damper makes of it cancel to first order at the corrupted run, and to no "
        "other. AtP sees 0 of it there, and too much at the clean run. With the gradient through a layer dropped, AtP* sees "
        "1/T, the effect without the damper; integrated gradients see the whole."
    )
    caption = "Share of the signal at z. Recomputing a softmax does not help: the signal is no query or key."
    return [Section("Where paths cancel", text), TableBlock(Table(columns, rows, caption))]
