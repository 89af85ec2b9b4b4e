"""The blocks of the report: the table of claims, and heat maps with intervals; those about use are in `use_blocks.py`."""

from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go

from interp_jax.experiments.probing.findings import UNTRAINED, View, finding
from interp_jax.experiments.probing.reading import CONTROLS
from interp_jax.experiments.probing.tallies import Score, at
from interp_jax.experiments.probing.use_blocks import ACCURACY, along_blocks, cell, claimed, use_blocks
from interp_jax.experiments.probing.words import sentence, verdict
from interp_jax.probes.controls import TRUE, TYPES
from interp_jax.results import model_plots, plots, token_plots
from interp_jax.results.blocks import Block, Details, Figure, Section, TableBlock, Text
from interp_jax.results.tables import Table

LEVELS = (
    "variable", "read at", "score", "constant", "shuffled", "token alone", "untrained twin", "control task",
    "one direction", "elsewhere",
)  # fmt: skip
CLAIMS = (
    "variable", "above shuffled", "above the token", "above the twin", "selectivity", "reliance, nats", "verdict",
)  # fmt: skip


def data_blocks(view: View) -> list[Block]:
    """What was read, and what could not be."""
    about = view.about
    windows, length = about["windows"]
    facts = [
        ("model", about["model"]),
        ("data", f"{about['source']}: {windows} windows of {length} tokens"),
        ("tokens that are read", f"{about['rows']:,} drawn, of {about['groups']} groups and {about['tokens']} kinds"),
        (
            "probe",
            f"linear discriminant with equal priors; ridge of numbers; {view.config.reading.folds} folds of groups, nested",
        ),
        ("use", f"{about['windows_of_use']} windows" if about["windows_of_use"] else "not measured: see below"),
    ]
    rows = [(name, about_it, about["told"][name]) for name, (_, about_it) in about["variables"].items()]
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
            cell(f.direction),
            cell(f.elsewhere),
        )
        for f in found
    ]
    claims = [
        (
            f.name,
            *(claimed(x) for x in (f.above_noise, f.above_token, f.learned, f.selectivity, f.used)),
            verdict(f),
        )
        for f in found
    ]
    n_levels = len(LEVELS) - all(f.elsewhere is None for f in found)
    return [
        Section(
            "What survives its controls",
            "The score is the accuracy with every class counting alike, so a constant has 1 in the number of classes; of"
            " a number it is R², and a constant has 0. Shuffled labels show noise; the embeddings show what the token"
            " alone tells; the untrained twin, a model of the same shape with random weights, at the place where it is"
            " read best, shows what needs no training. The control task gives every token of the vocabulary a value at"
            " random: what a probe scores there it has learned by heart, and selectivity is how far its score lies above"
            " that (Hewitt and Liang 2019); it is strict where the vocabulary is small. One direction is a random one of"
            " the stream, read as the only column. A claim survives where p is at most .05, so of twenty claims that are"
            f" false, one does by chance. Shuffled labels and the control task are drawn {len(view.seen['figures'])} times,"
            " with folds of their own, and p is the rank among them; the token and the twin are compared document by"
            " document and fold by fold; of reliance p is that of another random direction.",
        ),
        TableBlock(
            Table(
                LEVELS[:n_levels],
                [row[:n_levels] for row in levels],
                "Scores at the place where the model is read best, of the variable and of its controls.",
            )
        ),
        TableBlock(
            Table(
                CLAIMS,
                claims,
                "Differences, each with its 95% interval over groups, and p. Reliance: see `Use, not presence`.",
            )
        ),
        Text("\n\n".join(sentence(f, view) for f in found)),
    ]


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
            "Each cell is the score with half of its 95% interval; point at it for more. What grows from left"
            " to right is made by the layers. The control task must fall where the stream moves from what the"
            " token is to what it means.",
        )
    ]
    for m, control, caption in maps[: 3 if view.has_control_task else 2]:
        score = at(view.accuracy, m, slice(None), slice(None), CONTROLS.index(control))
        blocks.append(Figure(score_map(score, view), caption))
    titles = [
        f"{name} ({view.chance(v):.2g}{'' if view.is_class(v) else ', R²'})" for v, name in enumerate(view.variables)
    ]
    panels = [view.by_bin.mean[:, v] for v in range(len(view.variables))]
    hover = [told(at(view.by_bin, slice(None), v)) for v in range(len(view.variables))]
    axes, bins = plots.Axes("position in the window", ""), view.about["bins"]
    figure = model_plots.matrix_grid(panels, titles, bins, view.places, axes, ACCURACY, (0.0, 1.0), hover)
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
    hover = told(Score(*(part.swapaxes(0, 1) for part in score)))
    columns = [name.replace("embeddings", "embed").replace("layer ", "L") for name in view.places]
    return token_plots.token_grid(
        text, score.mean.T, columns, view.variables, plots.Axes("place", ""), ACCURACY, hover
    )


def told(score: Score) -> list[list[str]]:
    """Each cell with its interval, to be pointed at."""
    return [
        [f"{a:.3f}\n95%: {lo:.3f} to {hi:.3f}" for a, lo, hi in zip(*row, strict=True)]
        for row in zip(score.mean, score.low, score.high, strict=True)
    ]


def short(x: float) -> str:
    """Two digits without the zero before them."""
    return f"{x:.2f}".removeprefix("0")


PARTS: tuple[Callable[[View], list[Block]], ...] = (claim_blocks, map_blocks, along_blocks, use_blocks, data_blocks)
