"""The blocks of the report: methods at one divergence, curves, samples, what was learned, and what was asked."""

import numpy as np
import plotly.graph_objects as go

from interp_jax.experiments.steering.findings import (
    METHODS,
    best_layers,
    curves_of,
    random_of,
    random_scores,
    scores_of,
)
from interp_jax.experiments.steering.methods import ALONE, DIRECTIONS, REFT, TARGETED
from interp_jax.experiments.steering.predictions import LOWEST, side_blocks
from interp_jax.experiments.steering.samples import TIMES
from interp_jax.experiments.steering.view import View, cell
from interp_jax.results import grid_plots, plots
from interp_jax.results.blocks import Block, Code, Details, Figure, Section, TableBlock, Text
from interp_jax.results.plot_style import GREY, translucent
from interp_jax.results.tables import Interval, Table

EFFECT = "effect, nats of log-probability"


def asked_blocks(view: View) -> list[Block]:
    """What is steered, towards what, and on which text."""
    about = view.about
    fit, measured, length = about["windows"]
    facts = [
        ("model", about["model"]),
        ("text", f"{about['source']}: windows of {length} tokens"),
        ("directions are found on", f"{fit} windows of {about['files'][0]} files"),
        ("they are measured on", f"{measured} windows of {about['files'][1]} other files"),
        ("given at", "the stream after a layer, at every position"),
        (
            "a dose of 1",
            "the root mean square length of that stream: " + ", ".join(f"{s:.3g}" for s in view.arrays["scale"]),
        ),
    ]
    rows = [
        (
            target["name"],
            target["about"],
            f"{target['measured'][1]:,}, of which {target['measured'][0]:,}",
            view.unsteered(t),
            " ".join(repr(token) for token in target["tokens"][:6]) + (" …" if len(target["tokens"]) > 6 else ""),
        )
        for t, target in enumerate(about["targets"])
    ]
    columns = (
        "target",
        "what is decided",
        "decision points, and so in the text",
        "log P of the class",
        "tokens of the class",
    )
    blocks: list[Block] = [
        Section("What is asked"),
        TableBlock(Table(("", ""), facts, "What is looked at.")),
        TableBlock(Table(columns, rows, "What the model is steered towards, on the windows that are measured.")),
    ]
    if about["left_out"]:
        blocks.append(Details(f"Files that were left out: {len(about['left_out'])}", "\n".join(about["left_out"])))
    return blocks


def curve_blocks(view: View) -> list[Block]:
    """Effect over divergence of all methods, and over the dose for those that are matched in norm."""
    blocks: list[Block] = [
        Section(
            "Dose and response",
            "The effect is how much more likely the class of tokens becomes where it is decided, in nats of its"
            " log-probability. The price is the divergence of the next token's distribution at all other"
            " positions, where nothing was to change. Random directions, in grey, are of the same length; their band"
            f" holds all {view.config.doses.random} of them, other bands are 95% intervals over files.",
        )
    ]
    for t, name in enumerate(view.targets):
        curves, random = curves_of(view.arrays, t), random_of(view.arrays, t)
        chosen = best_layers(scores_of(view.arrays, t, view.config.doses))
        layer = int(chosen[DIRECTIONS.index(TARGETED)])
        series = [
            plots.Line(
                f"{method}, layer {chosen[m]}", *above(curves.kl[m, chosen[m]], *(c[m, chosen[m]] for c in curves[:3]))
            )
            for m, method in enumerate(METHODS)
            if method != ALONE
        ]
        of_random = random.effect[:, layer]
        band = (of_random.mean(0), of_random.min(0), of_random.max(0))
        series.append(plots.Line(f"random, layer {layer}", *above(random.kl[:, layer].mean(0), *band)))
        axes = plots.Axes("divergence elsewhere, nats", EFFECT, x_scale="log")
        caption = f"Towards {name}: each method at the layer at which it does most at the bound."
        blocks.append(Figure(with_grey(plots.lines(series, axes)), caption))
        doses = np.array(view.config.doses.doses)
        series = [
            plots.Line(method, doses, *(c[m, layer] for c in curves[:3]))
            for m, method in enumerate(DIRECTIONS)
            if method != ALONE
        ]
        series.append(plots.Line("random", doses, *band))
        axes = plots.Axes("dose, in lengths of the stream", EFFECT, x_scale="log")
        caption = f"Towards {name}: directions at layer {layer}, all of the same length at the same dose."
        blocks.append(Figure(with_grey(plots.lines(series, axes)), caption))
    return blocks


def with_grey(figure: go.Figure) -> go.Figure:
    """The last curve and its band in grey."""
    band, line = figure.data[-2:]
    band.update(fillcolor=translucent(GREY, 0.25))
    line.update(line={"color": GREY, "width": 3, "dash": "solid"}, marker={"color": GREY})
    return figure


def above(kl: np.ndarray, *values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of doses whose divergence is large enough to be drawn."""
    shown = kl > LOWEST
    return kl[shown], *(v[shown] for v in values)


def table_blocks(view: View) -> list[Block]:
    """Methods at one divergence, by target; at the best layer of each."""
    doses, rows = view.config.doses, [[method] for method in (*METHODS, "random")]
    for t in range(len(view.targets)):
        scores = scores_of(view.arrays, t, doses)
        chosen = best_layers(scores)
        for m, layer in enumerate(chosen):
            dose = float(scores.dose[m, layer])
            rows[m] += [cell(scores, m, layer), f"{layer}: {dose:.2f}" if np.isfinite(dose) else ""]
        layer = int(chosen[DIRECTIONS.index(TARGETED)])
        random = random_scores(view.arrays, t, doses)
        rows[-1] += [spread(random.effect[:, layer]), f"{layer}: {np.nanmean(random.dose[:, layer]):.2f}"]
    columns = ["method", *(word for name in view.targets for word in (name, "layer: dose"))]
    caption = (
        f"Effect in nats at {doses.bound:g} nats of divergence elsewhere, with 95% intervals over files, at the layer at which"
        " the method does most, and the dose that it takes; of random directions the mean and twice the standard deviation over"
        " directions. A dash: no dose gets there."
    )
    return [Section("Methods at one divergence"), TableBlock(Table(columns, rows, caption))]


def spread(values: np.ndarray) -> Interval:
    """The mean and twice the standard deviation of what is finite."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return Interval(float("nan"), float("nan"), float("nan"))
    mean, half = float(values.mean()), 2 * float(values.std(ddof=1))
    return Interval(mean, mean - half, mean + half)


def sample_blocks(view: View) -> list[Block]:
    """What is written."""
    blocks: list[Block] = [
        Section(
            "Steered text",
            "What the model writes after decision points at which the text did something else, each time with the"
            f" same random numbers, at temperature {view.config.written.temperature:g}: without an edit, with the"
            " direction that does most at the bound in the dose that reaches it, and in twice that dose. The edit is in force"
            " in every pass, through the cache.",
        )
    ]
    for sample in view.about["samples"]:
        given = f"{sample['method']} at layer {sample['layer']}, dose {sample['dose']:.3g}"
        blocks.append(Text(f"Towards {sample['target']}: {given}."))
        for s, prompt in enumerate(sample["prompts"]):
            parts = [f"--- prompt\n{prompt}"]
            parts += [f"--- dose × {times:g}\n{sample['written'][i][s]}" for i, times in enumerate(TIMES)]
            blocks.append(Code("\n".join(parts)))
    return blocks


def learned_blocks(view: View) -> list[Block]:
    """What fine-tuning found, and how alike directions are."""
    rows = [
        (name, f"{layer}", form, float(view.arrays["rate"][f, t, layer]), float(view.arrays["loss"][f, t, layer]))
        for t, name in enumerate(view.targets)
        for layer in range(view.arrays["scale"].shape[0])
        for f, form in enumerate((REFT, "LoReFT"))
    ]
    table = Table(
        ("towards", "layer", "form", "learning rate", "loss"),
        rows,
        "Representation fine-tuning: the better of the rates, and -log p of the wanted tokens over its last steps.",
    )
    T = len(view.targets)
    panels = [view.arrays["cosines"][:, :, t].mean(-1) for t in range(T)]
    titles = [f"towards {name}" for name in view.targets]
    figure = grid_plots.heatmap_grid(panels, titles, plots.Axes("direction", "direction"), "cosine", T)
    order = ", ".join(f"{k}: {name}" for k, name in enumerate(DIRECTIONS))
    return [
        Section("How alike directions are, and what was learned"),
        Figure(figure, f"Cosines of directions, means over layers. In order: {order}."),
        TableBlock(table),
    ]


PARTS = (table_blocks, curve_blocks, side_blocks, sample_blocks, learned_blocks, asked_blocks)
