"""The blocks of the report: the table of claims, heat maps with intervals, and along training what is read and what is used."""

from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go

from interp_jax.experiments.probing.findings import (
    ALL,
    TURNS,
    UNTRAINED,
    View,
    finding,
    reliance,
    reliance_along,
    twin_of,
)
from interp_jax.experiments.probing.reading import CONTROLS
from interp_jax.experiments.probing.tallies import Score, at
from interp_jax.experiments.probing.words import first_steps, sentence, verdict
from interp_jax.probes.controls import TRUE, TYPES
from interp_jax.results import model_plots, plots, token_plots
from interp_jax.results.report import Block, Details, Figure, Section, TableBlock, Text
from interp_jax.results.tables import Interval, Table

ACCURACY = "balanced accuracy"
LEVELS = (
    "variable", "read at", "accuracy", "constant", "shuffled", "token alone", "untrained twin", "control task",
)  # fmt: skip
CLAIMS = (
    "variable", "above the token", "above the twin", "selectivity", "reliance, nats", "where it changes", "verdict",
)  # fmt: skip


def data_blocks(view: View) -> list[Block]:
    """What was read, and what could not be."""
    about = view.about
    windows, length = about["windows"]
    facts = [
        ("model", about["model"]),
        ("data", f"{about['source']}: {windows} windows of {length} tokens"),
        ("tokens that are read", f"{about['rows']:,} drawn, of {about['groups']} groups and {about['tokens']} kinds"),
        ("probe", f"linear discriminant with equal priors; {view.config.reading.folds} folds of groups, nested"),
        ("use", f"{about['windows_of_use']} windows" if about["windows_of_use"] else "not measured: see below"),
    ]
    rows = [
        (name, about_it, ", ".join(f"{v}: {n:,}" for v, n in zip(values, about["counts"][name], strict=True)))
        for name, (values, about_it) in about["variables"].items()
    ]
    blocks: list[Block] = [
        Section("What is asked"),
        TableBlock(Table(("", ""), facts, "What is looked at.")),
        TableBlock(Table(("variable", "what it is", "tokens with each value"), rows, "What is read of each token.")),
    ]
    if about["left_out"]:
        blocks.append(
            Details(f"What was left out or is to be known: {len(about['left_out'])}", "\n".join(about["left_out"]))
        )
    return blocks


def claim_blocks(view: View) -> list[Block]:
    """Every variable in a row, and in words."""
    found = [finding(view, v) for v in range(len(view.variables))]
    levels = [
        (
            f.name,
            view.places[f.place],
            cell(f.accuracy),
            f.chance,
            cell(f.shuffled),
            cell(f.token),
            cell(f.twin),
            cell(f.types),
        )
        for f in found
    ]
    claims = [
        (f.name, *(cell(x) for x in (f.above_token, f.learned, f.selectivity, f.used, f.used_at_turns)), verdict(f))
        for f in found
    ]
    return [
        Section(
            "What survives its controls",
            "The score is the accuracy with every class counting alike, so a constant has 1 in the number of"
            " classes. Shuffled labels show noise; the embeddings show what the token alone tells; the untrained"
            " twin, a model of the same shape with random weights, at the place where it is read best, shows what"
            " needs no training. The control task gives every token of the vocabulary a value at random: what a"
            " probe scores there it has learned by heart, and selectivity is how far its score lies above that"
            " (Hewitt and Liang 2019); it is strict where the vocabulary is small. A claim survives where the 95%"
            " interval of the difference, over groups, lies above 0: of twenty claims that are false, one does by chance.",
        ),
        TableBlock(
            Table(
                LEVELS,
                levels,
                "Accuracies at the place where the model is read best, of the variable and of its controls.",
            )
        ),
        TableBlock(
            Table(
                CLAIMS,
                claims,
                "Differences, each with its 95% interval over groups. Reliance: see `Use, not presence`.",
            )
        ),
        Text("\n\n".join(sentence(f, view) for f in found)),
    ]


def cell(score: Score | None) -> Interval:
    """A score in a table; one that was not measured is no number."""
    nothing = Interval(np.nan, np.nan, np.nan)
    return nothing if score is None else Interval(float(score.mean), float(score.low), float(score.high))


def map_blocks(view: View) -> list[Block]:
    """Layer by variable, of the model, its twin and the control task; layer by position of each variable."""
    last, untrained = len(view.steps) - 1, view.steps.index(UNTRAINED)
    maps = (
        (last, TRUE, "The model: each variable by place."),
        (untrained, TRUE, "Its untrained twin: what is read of random weights."),
        (last, TYPES, "The control task in the model: random labels of tokens, which the probe has by heart."),
    )
    blocks: list[Block] = [
        Section(
            "What is read where",
            "Each cell is the accuracy with half of its 95% interval; point at it for more. What grows from left"
            " to right is made by the layers. The control task must fall where the stream moves from what the"
            " token is to what it means.",
        )
    ]
    for m, control, caption in maps[: 3 if view.about["tokens"] > 1 else 2]:
        score = at(view.accuracy, m, slice(None), slice(None), CONTROLS.index(control))
        blocks.append(Figure(score_map(score, view), caption))
    titles = [f"{name} ({view.chance(v):.2g})" for v, name in enumerate(view.variables)]
    panels = [view.by_bin.mean[:, v] for v in range(len(view.variables))]
    figure = model_plots.matrix_grid(
        panels, titles, view.about["bins"], view.places, plots.Axes("position in the window", ""), ACCURACY, (0.0, 1.0)
    )
    caption = (
        "The model: layer by position, one probe for all positions. In brackets what a constant has. Half intervals are"
        f" {describe(view.by_bin)}."
    )
    return [*blocks, Figure(figure, caption)]


def describe(score: Score) -> str:
    """The size of intervals."""
    half = (score.high - score.mean)[np.isfinite(score.high)]
    return f"{np.median(half):.2g} in the middle, {half.max():.2g} at most"


def score_map(score: Score, view: View) -> go.Figure:
    """A cell for each variable and place, [S V]."""
    half = score.high - score.mean
    text = [
        [f"{short(a)}±{short(h)}" for a, h in zip(*row, strict=True)] for row in zip(score.mean.T, half.T, strict=True)
    ]
    hover = [
        [f"{a:.3f}\n95%: {lo:.3f} to {hi:.3f}" for a, lo, hi in zip(*row, strict=True)]
        for row in zip(score.mean.T, score.low.T, score.high.T, strict=True)
    ]
    columns = [name.replace("embeddings", "embed").replace("layer ", "L") for name in view.places]
    return token_plots.token_grid(
        text, score.mean.T, columns, view.variables, plots.Axes("place", ""), ACCURACY, hover
    )


def short(x: float) -> str:
    """Two digits without the zero before them."""
    return f"{x:.2f}".removeprefix("0")


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
            " at its best place; used means that erasing costs more than erasing as many random directions, on all"
            " tokens or on those at which the variable changes; each with its whole 95% interval, and at all later"
            " steps that were looked at.",
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
        curves = [line(view, v, score) for v, score in found if score is not None]
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
            "Use was not measured: it needs a causal model with logits, windows without padding, and one site of"
            " the stream that is read in every layer. What is read here may be unused."
        )
        return [Section(heading, why)]
    layers = range(1, len(view.places))
    names = [view.places[s] for s in layers]
    blocks: list[Block] = [
        Section(
            heading,
            "What a linear probe could read of a variable is erased from the stream of one layer, at every"
            " position (LEACE), and the loss is measured again; reliance is what it rises by above the rise by as"
            f" many random directions of the whitened stream ({view.config.use.draws} draws). The loss without an"
            f" edit is {float(view.seen['loss'][-1]):.3g} nats per token. Later layers may compute anew what was"
            " erased, so a reliance of 0 at one layer does not say that a variable is never used; and directions"
            " that hold much of the variance, as those that tell tokens apart, cost more than random ones,"
            " whatever is read from them.",
        )
    ]
    for which, said in ((ALL, "on all tokens"), (TURNS, "on the tokens at which the variable changes")):
        rows = [
            (name, *(cell(reliance(view, s, v, which)) for s in layers))
            for v, name in enumerate(view.variables)
            if view.seen["use.counts"][v, which].sum()
        ]
        if rows:
            caption = f"Reliance in nats per token, by the layer at which is erased, {said}; 95% intervals."
            blocks.append(TableBlock(Table(("variable", *names), rows, caption)))
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


PARTS: tuple[Callable[[View], list[Block]], ...] = (claim_blocks, map_blocks, along_blocks, use_blocks, data_blocks)
