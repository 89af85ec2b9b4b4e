"""The blocks of the report about use: when it begins along training, what erasing costs by layer, and how much is erased."""

import numpy as np

from interp_jax.experiments.probing.claims import Claim
from interp_jax.experiments.probing.findings import (
    ALL,
    TURNS,
    View,
    reliance,
    reliance_along,
    reliance_of_all,
    twin_of,
)
from interp_jax.experiments.probing.reading import CONTROLS
from interp_jax.experiments.probing.tallies import Score, at
from interp_jax.experiments.probing.words import chance, first_steps
from interp_jax.probes.controls import TRUE
from interp_jax.results import plots
from interp_jax.results.blocks import Block, Figure, Section, TableBlock
from interp_jax.results.tables import Interval, Table, cell_text

RANDOM, ORDERS = "as many random directions", "the same of labels in another order"
TOLD = {
    "leace": "What a linear probe could read of a variable is erased from the stream, by the least change (LEACE)",
    "orthogonal": "What a linear probe could read of a variable is erased from the stream, by an orthogonal projection",
    "inlp": "What three linear probes of a variable find, one after the other, is erased from the stream (INLP)",
    "projection": "The directions along which one linear probe reads a variable are erased from the stream",
    "interchange": "What a linear probe could read of a variable is put into the stream from another window",
    "mean": "What the mean of the stream owes to a variable, which is told, is taken off",
    "transport": "The classes of a variable, which is told, get one mean and one covariance in the stream (QLEACE)",
}
CONTROL = {
    "leace": f"{RANDOM} of the whitened stream", "orthogonal": RANDOM, "inlp": RANDOM, "projection": RANDOM,
    "interchange": f"{RANDOM} of the whitened stream", "mean": ORDERS, "transport": ORDERS,
}  # fmt: skip
ACCURACY = "balanced accuracy, or R² of a number"


def cell(score: Score | None) -> Interval:
    """A score in a table; one that was not measured is no number."""
    nothing = Interval(np.nan, np.nan, np.nan)
    return nothing if score is None else Interval(float(score.mean), float(score.low), float(score.high))


def claimed(claim: Claim | None) -> str:
    """A claim in a table."""
    if claim is None:
        return "–"
    return f"{cell_text(cell(claim.above))}, {chance(claim)}".replace(" ", "\u00a0").replace(",", ", ")


def along_blocks(view: View) -> list[Block]:
    """When it becomes readable, and when used."""
    if len(view.trained) < 2:
        return []
    order = sorted(
        range(len(view.variables)), key=lambda v: reliance_along(view, v, TURNS) is None
    )  # colours stay the same
    told = lambda step: "never" if step is None else f"{step:,}"
    rows = [(view.variables[v], view.places[view.best[v]], *map(told, first_steps(view, v))) for v in order]
    at_best = lambda v: at(view.accuracy, slice(1, None), view.best[v], v, CONTROLS.index(TRUE))
    twins = ", ".join(f"{float(twin_of(view, v).mean):.2f} ({view.variables[v]})" for v in order)
    axes = plots.Axes("step of training", ACCURACY, x_scale="log")
    blocks: list[Block] = [
        Section(
            "When it becomes readable, and when used",
            "Along training, at the place where the model itself is read best. Read means above the untrained twin"
            " at its best place, with p at most .05; used means read, and that erasing costs more than erasing as many"
            " random directions, with p at most .025 on all tokens or on those at which the variable changes (.05 where"
            " only the first are there); each at all later steps that were looked at, too.",
        ),
        TableBlock(
            Table(
                ("variable", "at", "read from step", "used from step"), rows, "The first step from which on it holds."
            )
        ),
        Figure(plots.lines([line(view, v, at_best(v)) for v in order], axes), f"What is read. The twin has {twins}."),
    ]
    for which, said in ((ALL, "on all tokens"), (TURNS, "on the tokens at which the variable changes")):
        found = [(v, reliance_along(view, v, which)) for v in order]
        curves = [line(view, v, claim.above) for v, claim in found if claim is not None]
        if curves:
            axes = plots.Axes("step of training", "reliance, nats per token", x_scale="log")
            figure = plots.lines(curves, axes, [plots.Reference(0.0, "as random")])
            blocks.append(Figure(figure, f"What is used, {said}."))
    return blocks


def line(view: View, v: int, score: Score) -> plots.Line:
    """A score along training."""
    return plots.Line(view.variables[v], np.array(view.trained), score.mean, score.low, score.high)


def use_blocks(view: View) -> list[Block]:
    """What erasing costs, layer by layer."""
    heading = "Use, not presence"
    if "use.place" not in view.seen:
        why = (
            "Use was not measured: it needs a causal model with logits, padding on the right if at all, and one site"
            " without heads that is read in every layer. What is read here may be unused."
        )
        return [Section(heading, why)]
    layers = range(1, len(view.places))
    names = [view.places[s] for s in layers]
    blocks: list[Block] = [
        Section(
            heading,
            f"{TOLD[view.config.use.eraser]}, of one layer, at every position, and the loss is measured again; reliance is"
            f" what it rises by above the rise by {CONTROL[view.config.use.eraser]} ({view.config.use.draws} draws). The"
            " loss without an"
            f" edit is {float(view.seen['loss'][-1]):.3g} nats per token. Later layers may compute anew what was"
            " erased, so a reliance of 0 at one layer does not say that a variable is never used: it is also erased at"
            " every layer, by erasers each of which is fitted to what the earlier ones leave (Belrose et al. 2023). Directions"
            " that hold much of the variance, as those that tell tokens apart, cost more than random ones,"
            " whatever is read from them. So p is that of another random direction that costs as much, where their costs are"
            " normal; a variable is called used where, of the looks at it where it is read best (on all tokens, on those at"
            " which it changes, and erased at every layer), one has a p of at most .05 divided by how many looks there are.",
        )
    ]
    for which, said in ((ALL, "on all tokens"), (TURNS, "on the tokens at which the variable changes")):
        rows = [
            (name, *(claimed(reliance(view, s, v, which)) for s in layers), claimed(reliance_of_all(view, v, which)))
            for v, name in enumerate(view.variables)
            if view.seen["use.counts"][v, which].sum()
        ]
        if rows:
            caption = f"Reliance in nats per token, by the layer at which is erased, {said}; 95% intervals, and p."
            blocks.append(TableBlock(Table(("variable", *names, "every layer"), rows, caption)))
    return [*blocks, TableBlock(sizes(view))]


def sizes(view: View) -> Table:
    """How much is erased, at the place where each variable is read best."""
    rows = []
    for v, name in enumerate(view.variables):
        u = np.flatnonzero((view.seen["use.place"] == view.best[v]) & (view.seen["use.variable"] == v))[0]
        share, drawn = (float(view.seen[key][u]) for key in ("use.taken", "use.taken_at_random"))
        rows.append((name, view.places[view.best[v]], int(view.seen["use.rank"][u]), f"{share:.1%}", f"{drawn:.1%}"))
    columns = ("variable", "erased at", "directions", "share of the variance", "that of random ones")
    return Table(columns, rows, "How much is erased.")
