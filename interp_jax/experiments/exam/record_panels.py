"""What a medical record shows of all families together: the worth of each cure, what was foreseen, and the instruments."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from interp_jax.diagnosis import detection, thresholds
from interp_jax.diagnosis.detection import Scored
from interp_jax.diagnosis.examination import Diagnoser
from interp_jax.diagnosis.localisation import chance, ndcg
from interp_jax.diagnosis.prognosis import TRIAL
from interp_jax.experiments.exam.own_record import arms
from interp_jax.experiments.exam.treatment import Record
from interp_jax.results.blocks import Block, Figure, Section, TableBlock
from interp_jax.results.plot_style import Axes
from interp_jax.results.plots import Points, scatter
from interp_jax.results.tables import Table, interval

PARTS = ("positions", "heads", "neurons")
DRAWS = 200  # random orders


def outcomes(every: Sequence[Record]) -> list[Block]:
    """Cures by families, patients by arm."""
    names = list(every[0].treatments)
    columns = ("family", "patients", "excluded", "as prescribed", "after a check\u2011up", *names)
    rows = []
    for one in every:
        for arm in arms(one):
            own = one.cohort.arm == arm
            score, checked = one.score(one.prescribed)[own], one.score(one.kept)[own]
            cells = [mean_of(checked, 0.0, 1.0), *(mean_alone(one.score(name)[own]) for name in names)]
            who = f"{int(own.sum())}\u00a0{arm}"
            rows.append((one.cohort.name, who, int(np.isnan(score).sum()), mean_of(score, 0.0, 1.0), *cells))
    caption = (
        "Score of each cure with the number of parts that the diagnosis prescribes: harmonic mean of the declared rule restored"
        " on conflicts, accuracy kept on D_ID, and exp(-KL) on D_ID. Means over patients; the first two with 95% intervals"
        " (Student). Prescribed: `cut` where the position with most of the shortcut says more beyond the rule than for it and"
        " the rule can mostly do without it, else `hide`. After a check-up: of these two the one after which a patient is the"
        " better, as far as D_ID tells. Excluded: the twin that learned is less than .05 better than the patient was."
    )
    return [
        Section(
            "What came of it",
            "Cures see inputs of D_ID, the declared rule's labels and the diagnosis, and take 300 steps at most. `fine tune` is"
            " the control: the shortcut is right on all of D_ID, so nothing speaks against it.",
        ),
        TableBlock(Table(columns, rows, caption)),
    ]


def mean_alone(values: Float[np.ndarray, " R"]) -> str:
    """Of those that are not excluded."""
    values = values[np.isfinite(values)]
    return f"{values.mean():.2f}" if len(values) else "–"


def mean_of(values: Float[np.ndarray, " R"], low: float = -np.inf, high: float = np.inf) -> str:
    """The same, with the interval of the mean, cut off where nothing can lie."""
    there = values[np.isfinite(values)]
    if len(there) < 2:
        return mean_alone(values)
    one = interval(there)
    return f"{one.mean:.2f} ({max(one.low, low):.2f}\u00a0…\u00a0{min(one.high, high):.2f})"


def whereabouts(every: Sequence[Record]) -> list[Block]:
    """How well the diagnosis says through what the shortcut goes, by the referee."""
    rows = []
    for one in every:
        cells = [cell for each, by_chance in agreement(one).values() for cell in (mean_of(each, 0.0, 1.0), by_chance)]
        rows.append((one.cohort.name, len(one.cohort.seed), *cells))
    columns = ("family", "patients", *(title for name in PARTS for title in (name, f"{name}, by chance")))
    caption = (
        "NDCG of the order in which the diagnosis puts parts, against what the referee finds: by how much the share of a"
        " patient's answers by the rival changes, on conflicts, with a part at its mean over D_ID (positions: before any"
        " layer). Means over patients, with 95% intervals (Student); by chance: of random orders. Patients in whom no part of a"
        " kind does anything are left out."
    )
    return [Section("Where it sits, by the referee"), TableBlock(Table(columns, rows, caption))]


def agreement(one: Record) -> dict[str, tuple[Float[np.ndarray, " R"], float]]:
    """Of each kind of part: NDCG of every patient, and the mean of random orders."""
    gains = dict(one.referee) | {"positions": one.referee["positions"][:, 0]}
    n, found = len(one.cohort.seed), {}
    for name in PARTS:
        gain, said = gains[name].reshape(n, -1), np.asarray(getattr(one.diagnosis, name)).reshape(n, -1)
        each = np.array([ndcg(*both) for both in zip(said, gain, strict=True)])
        by_chance = [chance(ndcg, gain.shape[1], own, DRAWS) for own in gain if own.any()]
        found[name] = each, float(np.mean(by_chance)) if by_chance else float("nan")
    return found


def foresight(every: Sequence[Record]) -> list[Block]:
    """How well the prognosis tells who is infected from who never learned, and what it says of the outcome."""
    rows, groups = [], []
    for one in every:
        infected, never = (one.foreseen.get(arm, np.zeros(0)) for arm in ("infected", "cheated"))
        told = (detection.auroc(infected, never), mean_of(infected), mean_of(never))
        rows.append((one.cohort.name, len(infected), len(never), *told))
        score = one.score(one.prescribed)
        for arm in arms(one):
            own = (one.cohort.arm == arm) & np.isfinite(score)
            if own.any():
                groups.append(Points(f"{one.cohort.name}, {arm}", one.prospect[own], score[own]))
    columns = (
        "family",
        "infected",
        "never learned",
        "AUROC",
        "prospect of the infected",
        "of those that never learned",
    )
    caption = (
        "AUROC: P(an infected patient's prospect is the better). Said before treatment, from D_ID, weights and the declared"
        " rule. Where the declared rule is soon learned, who never learned it is cured as well, and there is nothing to tell."
    )
    return [
        Section(
            "Curable, or never learned?",
            f"The prospect: how far a copy is from the declared answers, in nats below 0, after {TRIAL} steps of what is"
            " prescribed, on inputs of D_ID, while what is cut or hidden is so. Whoever once learned the rule is sooner back at"
            " it.",
        ),
        TableBlock(Table(columns, rows, caption)),
        Figure(
            scatter(groups, Axes("prospect", "score as prescribed", y_range=(-0.03, 1.03))),
            "What was foreseen, and what came of it: each point is a patient.",
        ),
    ]


def false_alarms(
    found: Mapping[str, Mapping[str, Scored]], instruments: Sequence[Diagnoser], families: Sequence[str]
) -> list[Block]:
    """How often each instrument accuses who learned, and finds who is infected."""
    if not found:
        return []
    tiers = {one.name: one.tier for one in instruments}
    rows = [
        (name, tiers[name], *cells(own, families)) for name, own in sorted(found.items(), key=lambda x: tiers[x[0]])
    ]
    columns = ["instrument", "tier"]
    for family in families:
        columns += [f"{family}: infected found", f"{family}: false alarms"]
    caption = (
        "Above what a new truthful entry exceeds with at most 5%, with exact 95% intervals. False alarms: students of the"
        " nuisance arm, who could read the cue, and for whom it was of no use; – where there is none."
    )
    return [Section("The instruments"), TableBlock(Table(columns, rows, caption))]


def cells(own: Mapping[str, Scored], families: Sequence[str]) -> list[str]:
    """Of one instrument: two for each family."""
    made = []
    for family in families:
        scored = own.get(family)
        for arm in ("infected", "nuisance"):
            if scored is None:
                made.append("–")
                continue
            made.append(str(thresholds.share(thresholds.above(scored, arm))))
    return made
