"""Panels of the report: AUROC on both tracks, thresholds and controls, and where the shortcut sits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from interp_jax.diagnosis.examiner import Examiner
from interp_jax.diagnosis.thresholds import Share
from interp_jax.diagnosis.view import TIERS
from interp_jax.experiments.exam.figures import mean
from interp_jax.experiments.exam.scores import Located
from interp_jax.results.blocks import Block, Figure, Section, TableBlock, Text
from interp_jax.results.plot_style import Axes
from interp_jax.results.plots import heatmap
from interp_jax.results.tables import Interval, Table

NONE = float("nan")
LABELS = 200  # pixels for the names of diagnosers


def diagnosis(figures: Mapping[str, Any]) -> list[Block]:
    """AUROC on both tracks."""
    families = list(dict.fromkeys(f for own in figures.values() for f in own["mirrored"]))
    values = [[own["mirrored"].get(f, {"value": NONE})["value"] for f in families] for own in figures.values()]
    labels = [f"{name} ({own['tier']})" for name, own in figures.items()]
    axes = Axes("family", "diagnoser, and its tier of access")
    figure = heatmap(np.array(values), axes, "AUROC", families, labels)
    figure.update_layout(margin_l=LABELS, width=figure.layout.width + LABELS - figure.layout.margin.l)
    mirrored = [
        (
            name,
            own["tier"],
            *(Interval(**renamed(own["mirrored"].get(f))) for f in families),
            Interval(**renamed(own["macro"])),
            Interval(**renamed(own["worst"])),
        )
        for name, own in figures.items()
    ]
    natural = [
        (
            name,
            own["tier"],
            *(own["natural"].get(f, NONE) for f in families),
            mean(own["natural"]),
            mean(own["natural_within_calliper"]),
        )
        for name, own in figures.items()
    ]
    text = f"""Every model is entered twice, once with f declared and once with g: whatever ignores the declared rule is then at
    exactly .5. What a tier of access allows: {"; ".join(f"{tier}, {what}" for tier, what in TIERS.items())}; 3 is a skyline."""
    first = """Mirrored AUROC, with 95% intervals by bootstrap: over seeds, and for the mean over families too. Where all seeds
    agree the bootstrap sees no variation, and its interval has no width: there the number of seeds is what counts."""
    second = (
        "Natural AUROC: f declared to all, so that any difference between the two kinds tells, in either direction; last,"
        " among those that can be matched by the losses they had before temperatures were."
    )
    return [
        Section("Which diagnosers tell", text),
        Figure(figure, "Mirrored AUROC: .5 is chance."),
        TableBlock(Table(("diagnoser", "tier", *families, "mean", "worst"), mirrored, first)),
        TableBlock(Table(("diagnoser", "tier", *families, "mean", "within a calliper"), natural, second)),
    ]


def renamed(estimate: Mapping[str, float] | None) -> dict[str, float]:
    """An estimate as a cell."""
    found = estimate or {"value": NONE, "low": NONE, "high": NONE}
    return {"mean": found["value"], "low": found["low"], "high": found["high"]}


def made_of(fitted: Mapping[str, Examiner], absent: Sequence[str]) -> list[Block]:
    """Whom the combined examiner trusts, or who could not learn from other families, as there are none."""
    if not fitted:
        names = ", ".join(["the combined examiner", *absent])
        return [Text(f"Not asked, since they learn from families of other rules, and there are none: {names}.")]
    weights = {
        name: [dict(zip(one.diagnosers, one.weights, strict=True)).get(name, NONE) for one in fitted.values()]
        for one in fitted.values()
        for name in one.diagnosers
    }
    rows = [(name, *own) for name, own in sorted(weights.items(), key=lambda row: -float(np.nanmean(row[1])))]
    caption = """Weights of diagnosers in the combined examiner of each family, fitted to all the others: of scores about the
    middle of the family's models, whose truth it is not told, in units of their spread in the other families."""
    return [TableBlock(Table(("diagnoser", *fitted), rows, caption))]


def controls(figures: Mapping[str, Any]) -> list[Block]:
    """What a threshold is worth, and what it says of other arms."""
    means = ("tpr_at_5_fpr", "paired", "transferred", "graded")
    worth = [(name, *(mean(own[one]) for one in means)) for name, own in figures.items()]
    columns = ("diagnoser", "TPR at 5% FPR", "pairs right", "others' threshold", "Spearman with reliance")
    first = """Means over families. TPR: cheats above the score that a new one of those that learned exceeds with at most 5%.
    Pairs: the cheat of a pair has the higher score. Others' threshold: balanced accuracy of the one that is best in all other
    families. Reliance: P(g) - P(f) on conflicts, over mixed students."""
    counted = ("infected", "obfuscated", "emerged", "false_alarms", "misled")
    above = [(name, *(counts(own[one]["all"]) for one in counted)) for name, own in figures.items()]
    arms = ("diagnoser", "infected", "obfuscated", "emerged", "false alarms", "told otherwise")
    second = """Who is above that limit, of all families, with exact 95% intervals. Infected: learned first, and cheats since.
    Obfuscated: cheats, and was trained to hide it from a detector. Emerged: saw no conflict, and answers them by g. False
    alarms: the nuisance arm, in which the cue is there and was of no use. Told otherwise: learned, and f is declared by other
    variables that it may as well be computed by; who takes no heed of variables has no other score then."""
    return [
        Section("Thresholds and controls"),
        TableBlock(Table(columns, worth, first)),
        TableBlock(Table(arms, above, second)),
    ]


def counts(share: Mapping[str, Any]) -> str:
    """K of n, and the interval."""
    return str(Share(share["k"], share["n"], share["low"], share["high"]))


def localisation(where: Mapping[str, Mapping[str, Located]]) -> list[Block]:
    """Where diagnosers say that the shortcut sits."""
    rows = [
        (name, family, average(one.precision), one.chance_precision, average(one.gain), one.chance_gain)
        for name, own in where.items()
        for family, one in own.items()
    ]
    if not rows:
        return []
    columns = ("diagnoser", "family", "AP of the cue", "AP by chance", "NDCG", "NDCG by chance")
    caption = (
        "Of cheats, f declared. AP: positions ranked, against those that only g reads. NDCG: against how much agreement with"
        " g on conflicts changes when a position before layer 1 is set to its mean."
    )
    return [Section("Where the shortcut sits"), TableBlock(Table(columns, rows, caption))]


def average(values: np.ndarray) -> float:
    """The mean of what is a number."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else NONE
