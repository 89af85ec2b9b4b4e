"""The population in the report: who sat the examination, who was accepted, and whether pairs are pairs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from interp_jax.diagnosis.arms import NAMES
from interp_jax.experiments.exam.cohort import Cohort
from interp_jax.results.blocks import Block, Section, TableBlock, Text
from interp_jax.results.tables import Table


def population(everyone: Sequence[Cohort]) -> list[Block]:
    """The acceptance table."""
    columns = (
        "family",
        "kind",
        "arm",
        "students",
        "accepted",
        "D_ID right",
        "by f on D_X",
        "by g on D_X",
        "loss, nats",
        "refused",
    )
    rows = [tuple(row.values()) for row in acceptance_rows(everyone)]
    caption = (
        "On inputs held out from training; means over students that were accepted, where any was. D_ID: inputs on which f and g"
        " agree; D_X: on which they do not. Before temperatures are matched."
    )
    twins = sum(_twins(one) for one in everyone)
    same = (
        f"Of {twins} pairs of a student that learned and one that cheated, all have the same first weights, and the same"
        " inputs in the same order, by their digests."
        if all(_same(one) for one in everyone)
        else "Digests of first weights or inputs differ within a pair: these are no pairs."
    )
    return [Section("The population"), TableBlock(Table(columns, rows, caption)), Text(same)]


def acceptance_rows(everyone: Sequence[Cohort]) -> list[dict[str, Any]]:
    """One for each family and arm."""
    rows = []
    for one in everyone:
        for arm in (name for name in NAMES if name in one.arm):
            own = one.of(np.flatnonzero(one.arm == arm))
            good = own.of(np.flatnonzero(own.refused == "")) if (own.refused == "").any() else own
            reasons, counts = np.unique(own.refused[own.refused != ""], return_counts=True)
            rows.append(
                {
                    "family": one.name,
                    "kind": one.family.kind,
                    "arm": arm,
                    "students": len(own.arm),
                    "accepted": int((own.refused == "").sum()),
                    "id_accuracy": float(good.measures.id_accuracy.mean()),
                    "by_f": float(good.measures.by_f.mean()),
                    "by_g": float(good.measures.by_own_g.mean()),
                    "id_loss": float(good.measures.id_loss.mean()),
                    "refused": "; ".join(f"{n} {why}" for why, n in zip(reasons, counts, strict=True)) or "–",
                }
            )
    return rows


def _twins(cohort: Cohort) -> int:
    return len(set(cohort.seed[cohort.arm == "learned"]) & set(cohort.seed[cohort.arm == "cheated"]))


def _same(cohort: Cohort) -> bool:
    pairs = cohort.of(np.flatnonzero(np.isin(cohort.arm, ("learned", "cheated"))))
    return all(
        len(set(digests[pairs.seed == seed])) == 1
        for seed in np.unique(pairs.seed)
        for digests in (pairs.first_weights, pairs.order)
    )
