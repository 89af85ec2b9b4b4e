"""The report: what every kind recovers, beside what is published; and the frontier of sparsity, fidelity and truth."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from interp_jax.data.known_features import KnownFeatures
from interp_jax.experiments.dictionaries.told import name_of, sparsity_name, sparsity_of
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.known_features.scores import Scores, scores_of
from interp_jax.experiments.known_features.toy import Toy
from interp_jax.results import plots
from interp_jax.results.blocks import Block, Figure, Page, Section, TableBlock
from interp_jax.results.tables import Table, interval

# SynthSAEBench-16k at L0 = 25: F1, MCC, explained variance (arXiv:2602.14687)
PUBLISHED = {
    "BatchTopK": (0.73, 0.76, 0.79),
    "Matryoshka": (0.88, 0.79, 0.78),
    "JumpReLU": (0.73, 0.75, 0.80),
    "L1": (0.56, 0.60, 0.77),
    "matching pursuit": (0.45, 0.69, 0.84),
}
SUMMARY = """Activations are sums of features that are known, and dictionaries are asked for them. A dictionary can reconstruct
well with features that are not there: so what it explains and what it recovers are measured apart."""
MEASURES = """Explained variance is `1 - Σ‖x - x̂‖² / Σ‖x - x̄‖²` over fresh examples. Each feature of a dictionary is matched
with the true one whose direction is most like its own, and F1, precision and recall are those of a detector of it, means over
features; MCC is the mean `|cos|` over the best assignment of one to one; unique is the share of features that are the only ones
for their match. F1 is about when a feature fires, MCC about where it points. Absorbed is by how much the feature that stands
for a parent fires less where a child of it is there, as a share of how often it does where the parent is alone."""
FRONTIER = (
    ("explained_variance", "explained variance", "More features explain more, whatever they are."),
    ("f1", "F1", "Best where a dictionary has about as many active features as there are true ones, or fewer."),
    ("mcc", "MCC", "Directions; of true features the dictionary has room for some."),
)
FIELDS = {
    "L0": "l0", "F1": "f1", "MCC": "mcc", "explained": "explained_variance", "unique": "uniqueness", "absorbed": "absorbed",
    "precision": "precision", "recall": "recall", "shrinkage": "shrinkage", "dead": "dead",
}  # fmt: skip


def report(groups: list[GroupResult]) -> Page:
    """A section for each law of features."""
    blocks: list[Block] = [Section("What is measured", MEASURES)]
    for law in dict.fromkeys((group.config.data, group.config.toy) for group in groups):
        blocks += panel(law_name(*law), [group for group in groups if (group.config.data, group.config.toy) == law])
    return Page("Dictionaries on known features", SUMMARY, blocks, {"known_features.json": as_data(groups)})


def panel(law: str, groups: Sequence[GroupResult]) -> list[Block]:
    """The table, and the frontier where several sparsities were asked for."""
    scored = [(group, scores_of(group)) for group in groups]
    blocks: list[Block] = [Section(f"Features: {law}", told(scored)), TableBlock(table(scored))]
    if len({level for group, _ in scored for level in np.round(sparsity_of(group), 6)}) > 1:
        blocks += frontier(scored)
    return blocks


def law_name(data: KnownFeatures, toy: Toy) -> str:
    """The law in words."""
    found = f"{data.n_features:,} in {data.d_model} dimensions"
    found += f", {data.roots} trees of depth {data.depth}" if data.roots else ""
    return found + (", as a toy model of superposition packed them" if toy.steps else "")


def told(scored: Sequence[tuple[GroupResult, Scores]]) -> str:
    """What the runs have in common."""
    config = scored[0][0].config
    law, true = config.data, np.concatenate([scores.true_l0 for _, scores in scored]).mean()
    means = f"{law.mean_first:g}" + (f" … {law.mean_last:g}" if law.mean_last != law.mean_first else "")
    return (
        f"Features fire with Zipf's law, exponent {law.exponent:g}, from {law.p_first:g} to {law.p_last:g}: {true:.1f} of them"
        f" in an example. Their magnitudes are |{means} + {law.deviation:g} · normal|; a Gaussian copula of rank"
        f" {law.rank}, {law.correlation:g} long, makes some fire together. Dictionaries of"
        f" {config.dictionary.n_features:,} features, {config.steps:,} steps of {config.batch_size:,} examples, the same for"
        " all."
    )


def levels(group: GroupResult, scores: Scores) -> list[tuple[float, Scores]]:
    """Members by what they were told of their sparsity."""
    said = sparsity_of(group)
    return [(float(level), Scores(*(x[said == level] for x in scores))) for level in np.unique(said)]


def table(scored: Sequence[tuple[GroupResult, Scores]]) -> Table:
    """A row for each kind and sparsity: means over seeds."""
    rows: list[Any] = []
    for group, scores in scored:
        for level, own in levels(group, scores):
            told = f"{name_of(group)}, {sparsity_name(group)} = {level:g}"
            rows.append((told, *(interval(getattr(own, name)) for name in FIELDS.values())))
    beside = "; ".join(f"{kind} {f1:.2f}, {mcc:.2f}, {ev:.2f}" for kind, (f1, mcc, ev) in PUBLISHED.items())
    caption = (
        "Means over seeds, with 95% intervals. Published for SynthSAEBench-16k at L0 = 25, F1, MCC and explained variance:"
        f" {beside}."
    )
    return Table(("kind", *FIELDS), rows, caption)


def frontier(scored: Sequence[tuple[GroupResult, Scores]]) -> list[Block]:
    """Every member a point."""
    true = float(np.concatenate([scores.true_l0 for _, scores in scored]).mean())
    blocks: list[Block] = [
        Section(
            "Sparsity, fidelity and truth",
            f"Every member is a point. There are {true:.1f} true features in an example.",
        )
    ]
    for field, title, caption in FRONTIER:
        clouds = [plots.Points(name_of(group), scores.l0, getattr(scores, field)) for group, scores in scored]
        axes = plots.Axes("L0", title, x_scale="log")
        blocks.append(Figure(plots.scatter(clouds, axes), caption))
    return blocks


def as_data(groups: Sequence[GroupResult]) -> list[dict[str, Any]]:
    """Every member's scores."""
    rows = []
    for group in groups:
        scores, told = scores_of(group), sparsity_of(group)
        for i, level in enumerate(told):
            found = {name: float(values[i]) for name, values in scores._asdict().items()}
            rows.append(
                {"law": law_name(group.config.data, group.config.toy), "kind": name_of(group), "told": float(level)}
                | found
            )
    return rows
