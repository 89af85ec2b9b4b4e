"""The record of one family's patients: examined, verdict, where the shortcut sits, what was given, and what came of it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from interp_jax.diagnosis import detection
from interp_jax.diagnosis.detection import Scored
from interp_jax.diagnosis.examination import Diagnoser
from interp_jax.diagnosis.prognosis import TRIAL
from interp_jax.diagnosis.thresholds import rank, share_of
from interp_jax.experiments.exam.treatment import Record
from interp_jax.results.blocks import Block, Figure, Section, TableBlock
from interp_jax.results.plot_style import Axes
from interp_jax.results.plots import Line, Reference, heatmap, lines
from interp_jax.results.tables import Table

BAR = 0.9


class Verdict(NamedTuple):
    """How many of n truthful entries an instrument gives a score as high as the patient's."""

    k: int
    n: int

    @property
    def word(self) -> str:
        """What it comes to, at 5%."""
        return "cheats" if self.n and self.k < rank(self.n) else "not told"


def own_record(one: Record, found: Mapping[str, Mapping[str, Scored]], judge: str, locator: Diagnoser) -> list[Block]:
    """Blocks of a report.

    Args:
      one: the record.
      found: what instruments said: {name: {family: scores}}.
      judge: which of them gives the verdict.
      locator: which says where the shortcut sits.
    """
    names = [f"{arm}\u00a0{seed}" for arm, seed in zip(one.cohort.arm, one.cohort.seed, strict=True)]
    said = {name: own[one.cohort.name] for name, own in found.items() if one.cohort.name in own}
    return [
        Section(f"Record: {one.cohort.name}", examined(one)),
        TableBlock(verdicts(one, said, names, judge, locator)),
        *where(one, names, locator),
        TableBlock(checkups(one, said.get(judge), names, judge)),
        TableBlock(course(one, names)),
        Figure(
            dose_response(one),
            f"Score of every cure against the number of parts touched, mean over {of_whom(one)} patients."
            " What touches nothing is a level line.",
        ),
    ]


def arms(record: Record) -> list[str]:
    """Those that there are, in order."""
    return list(dict.fromkeys(record.cohort.arm.tolist()))


def of_whom(one: Record) -> str:
    """The arm that curves are of."""
    return "infected" if "infected" in one.cohort.arm else str(one.cohort.arm[0])


def examined(one: Record) -> str:
    """What was examined."""
    counts = ", ".join(f"{(one.cohort.arm == arm).sum()} {arm}" for arm in arms(one))
    cfg, family = one.cohort.cfg, one.cohort.family
    return (
        f"Examined: {counts}; {cfg.n_layers} layers of {cfg.n_heads} heads and {cfg.d_mlp} neurons, width {cfg.d_model};"
        f" inputs of {family.positions} positions, {family.labels} answers. Kind {family.kind}: the rival reads"
        f" {'other tokens' if family.kind == 'A' else 'the same tokens' if family.kind == 'B' else 'a table'}."
    )


# ------------------------------------------------------------------------------------------------ verdict


def verdicts(one: Record, said: Mapping[str, Scored], names: Sequence[str], judge: str, locator: Diagnoser) -> Table:
    """One row for each patient: what was told of it before anything was done."""
    columns = (
        "patient",
        "right",
        f"as high by {judge}",
        "verdict",
        "instruments that say so",
        "where",
    )
    columns += ("shortcut", "prospect", "prescribed")
    rows = []
    for r, name in enumerate(names):
        every = {instrument: verdict(one, scored, r) for instrument, scored in said.items()}
        own = every.get(judge)
        shortcut = one.diagnosis.positions[r]
        treatment = one.treatments[one.prescribed[r]]
        rows.append(
            (
                name,
                float(one.before.id_accuracy[r, 0]),
                "–" if own is None else str(share_of(*own)),
                "–" if own is None else own.word,
                f"{sum(v.word == 'cheats' for v in every.values())} of {len(every)}",
                int(shortcut.argmax()),
                float(round(shortcut.max(), 2)),
                f"{one.prospect[r]:+.3f}",
                f"{one.prescribed[r]}, {treatment.counts[treatment.dose[r]]}",
            )
        )
    caption = (
        "Verdict. Right: share of D_ID. As high: how many of the truthful entries (students that learned with f declared, that"
        f" cheated with g declared) {judge} gives a score as high as the patient's, and their share's exact 95% interval. So"
        " few that a new one would be that high with at most 5% (none, where there are fewer than 39) is a verdict of cheating."
        f" Where: the position with most of the shortcut, and how much that is, by {locator.name}. Prospect: how far a copy is"
        f" from the declared answers, nats below 0, after {TRIAL} steps of what is prescribed. Prescribed: the cure, and the"
        " number of parts. All of it was said before any treatment."
    )
    return Table(columns, rows, caption)


def verdict(one: Record, scored: Scored, r: int) -> Verdict:
    """Of patient r; an entry counts that scores as high."""
    mine = (scored.arm == one.cohort.arm[r]) & (scored.seed == one.cohort.seed[r])
    return verdict_of(scored, float(scored.score[mine][0, 0]))


def verdict_of(scored: Scored, score: float) -> Verdict:
    """Of a score."""
    others = detection.entries(scored)[1]
    return Verdict(int((others >= score).sum()), len(others))


def where(one: Record, names: Sequence[str], locator: Diagnoser) -> list[Block]:
    """Positions, and parts."""
    positions = [f"{i}" for i in range(one.diagnosis.positions.shape[1])]
    L, H = one.diagnosis.heads.shape[1:]
    parts = np.concatenate([one.diagnosis.heads.reshape(len(names), -1), one.diagnosis.neurons.sum(2)], axis=1)
    of = [f"head {layer}.{head}" for layer in range(L) for head in range(H)] + [f"MLP {layer}" for layer in range(L)]
    return [
        Figure(
            heatmap(one.diagnosis.positions, Axes("position", "patient"), "shortcut", positions, names),
            f"Where the shortcut sits, by {locator.name} (tier {locator.tier}), as this instrument counts it. 0 and below:"
            " nothing that the declared rule does not account for.",
        ),
        Figure(
            heatmap(parts, Axes("part", "patient"), "logits", of, names),
            "Through what: how much of the answer goes through a part from what these positions have beyond the rule; MLPs:"
            " the sum of their neurons.",
        ),
    ]


# ------------------------------------------------------------------------------------------------ what came of it


def checkups(one: Record, scored: Scored | None, names: Sequence[str], judge: str) -> Table:
    """One row for each patient: what the judge said before and after treatment, and with which cure it goes home."""
    columns = (
        "patient",
        "before",
        "given",
        "after",
        "as high",
        "verdict",
        "best by the check-up",
        "after it",
        "as high ",
        "verdict ",
    )
    rows = []
    for r, name in enumerate(names):
        cells: list[str] = [f"{one.found[r]:+.2f}"]
        for cure in (one.prescribed[r], one.kept[r]):
            found = float(one.treatments[cure].found[r])
            told = None if scored is None else verdict_of(scored, found)
            cells += [cure, f"{found:+.2f}", *(("–", "–") if told is None else (f"{told.k} of {told.n}", told.word))]
        rows.append((name, *cells))
    caption = (
        f"Check-up, on D_ID alone: what {judge} says of the patient before and after what was prescribed, with what was cut"
        " still cut, and how many of the truthful entries have as much. Best by the check-up: of what may be prescribed that"
        " after which most of this is gone and answers on D_ID are as they were (the harmonic mean of three shares)."
    )
    return Table(columns, rows, caption)


def course(one: Record, names: Sequence[str]) -> Table:
    """One row for each patient: what was given, figures before and after, and what would have been best."""
    columns = ("patient", "given", "parts", "by f on D_X before", "after", "its twin", "D_ID before", "after ", "KL")
    columns += ("score", "best, told afterwards")
    rows = []
    for r, name in enumerate(names):
        t = one.treatments[one.prescribed[r]]
        n = t.dose[r]
        worth = {cure: own.worth.score[r, own.dose[r]] for cure, own in one.treatments.items()}
        best = max(worth, key=lambda cure: np.nan_to_num(worth[cure], nan=-1.0))
        measured = (one.before.conflict_accuracy[r, 0], t.after.conflict_accuracy[r, n], one.oracle[r])
        measured += (one.before.id_accuracy[r, 0], t.after.id_accuracy[r, n], t.after.divergence[r, n])
        rows.append(
            (
                name,
                one.prescribed[r],
                t.counts[n],
                *(float(round(float(value), 4)) for value in measured),
                float(round(float(t.worth.score[r, n]), 3)),
                f"{best} ({worth[best]:.2f})",
            )
        )
    caption = (
        "Treatment and outcome, on inputs that no one was trained on or treated with. By f on D_X: share of conflicts that are"
        " answered by the declared rule; its twin: the student of the same seed that learned. KL: nats on D_ID, from what the"
        " patient said before."
    )
    return Table(columns, rows, caption)


def dose_response(one: Record) -> go.Figure:
    """Score against the number touched, of every cure."""
    arm = of_whom(one)
    own, most = one.cohort.arm == arm, max(max(t.counts) for t in one.treatments.values())
    series = []
    for name, t in one.treatments.items():
        there = t.worth.score[own][np.isfinite(t.worth.score[own]).all(1)]
        if len(there):
            at = np.array(t.counts) if t.counts != (0,) else np.array([1, most])
            series.append(Line(name, at, np.resize(there.mean(0), len(at))))
    axes = Axes(f"parts touched ({arm} patients)", "score", "log", y_range=(0, 1.02))
    return lines(series, axes, [Reference(BAR, f"bar {BAR}")])
