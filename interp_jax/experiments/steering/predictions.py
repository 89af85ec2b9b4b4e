"""Side effects in the report: what was predicted of every direction from other files, beside what was measured; gates."""

import numpy as np

from interp_jax.experiments.steering.findings import best_layers, ratios, scores_of
from interp_jax.experiments.steering.methods import ALONE, DIRECTIONS, TARGETED
from interp_jax.experiments.steering.view import View, cell
from interp_jax.results import plots
from interp_jax.results.blocks import Block, Figure, Section, TableBlock
from interp_jax.results.tables import Table, cell_text

LOWEST = 1e-4  # divergence that is drawn


def side_blocks(view: View) -> list[Block]:
    """What else changes: other targets at the bound, predicted and measured; gates; how alike directions are."""
    doses, T = view.config.doses, len(view.targets)
    rows = []
    for method in (TARGETED, ALONE):
        m = DIRECTIONS.index(method)
        for t, name in enumerate(view.targets):
            scores = scores_of(view.arrays, t, doses)
            layer = int(best_layers(scores)[m])
            dose = float(scores.dose[m, layer])
            cells: list[Any] = [method, name]
            for other in range(T):
                measured = cell(scores_of(view.arrays, t, doses, other), m, layer)
                said = dose * float(view.arrays["predicted.effect"][m, t, layer, other])
                cells.append(f"{said:+.2f} → {cell_text(measured)}" if np.isfinite(measured.mean) else "–")
            rows.append(cells)
    columns = ["method", "towards", *(f"{name}: predicted → measured" for name in view.targets)]
    caption = (
        "Effects on every target of what was given for one of them, at the bound: predicted by gradients from other files, to"
        " first order, and measured. `others kept` is to leave the others at 0."
    )
    blocks: list[Block] = [
        Section(
            "Side effects, predicted and measured",
            "The targeted direction is the one with the largest predicted effect of all with that predicted"
            " divergence: Fisher's matrix of the positions at which nothing is to change, times the dose squared,"
            " says what it costs before anything is steered.",
        )
    ]
    if T > 1:
        blocks.append(TableBlock(Table(columns, rows, caption)))
    return [*blocks, *prediction_figures(view), TableBlock(prediction_table(view)), TableBlock(gate_table(view))]


def measured_and_predicted(view: View) -> tuple[np.ndarray, ...]:
    """Of all directions at all doses, [K T L X]: effects predicted and measured, divergences predicted and measured."""
    doses = np.array(view.config.doses.doses)
    K, T, L = view.arrays["predicted.kl"].shape[:3]
    found = np.zeros((4, K, T, L, len(doses)))
    for t in range(T):
        effect, kl = ratios(
            view.arrays, view.arrays["directions.wanted"][:, t], view.arrays["directions.kl"][:, t], t, t
        )
        found[0, :, t] = view.arrays["predicted.effect"][:, t, :, t, None] * doses
        found[1, :, t], found[3, :, t] = effect[0], kl[0]
        found[2, :, t] = view.arrays["predicted.kl"][:, t, :, t, None] * doses**2
    return tuple(found)


def prediction_figures(view: View) -> list[Block]:
    """Every direction, layer and dose as a point: the divergence, and the effect."""
    said, effect, predicted, kl = measured_and_predicted(view)
    doses = view.config.doses.doses
    names = [
        f"{method}, {name}, layer {layer}"
        for method in DIRECTIONS
        for name in view.targets
        for layer in range(kl.shape[2])
    ]
    of_dose = lambda x, y, i: plots.Points(f"dose {doses[i]:g}", x[..., i].ravel(), y[..., i].ravel(), names)
    axes = plots.Axes("predicted divergence, nats", "measured", x_scale="log", y_scale="log")
    some = [of_dose(np.maximum(predicted, LOWEST / 10), np.maximum(kl, LOWEST / 10), i) for i in range(len(doses))]
    small = [i for i in range(len(doses)) if doses[i] <= 0.4] or [0]
    effects = [of_dose(said, effect, i) for i in small]
    return [
        Figure(
            plots.scatter(some, axes),
            "Divergence: every direction at every layer and dose; on the diagonal it is as said.",
        ),
        Figure(
            plots.scatter(effects, plots.Axes("predicted effect, nats", "measured")),
            "Effect, likewise, of the smaller doses: to first order it goes on for ever, and a probability does not.",
        ),
    ]


def prediction_table(view: View) -> Table:
    """By predicted divergence: how far measured effects and divergences are from what was predicted."""
    said, effect, predicted, kl = measured_and_predicted(view)
    rows = []
    for low, high in ((0, 0.003), (0.003, 0.03), (0.03, 0.3), (0.3, np.inf)):
        there = (predicted >= low) & (predicted < high) & (np.abs(said) > 0.05)
        if there.sum() < 2:
            continue
        quartiles = lambda x: "{:.2f} ({:.2f} to {:.2f})".format(*np.quantile(x, (0.5, 0.25, 0.75)))
        name = f"{low:g} to {high:g}" if np.isfinite(high) else f"above {low:g}"
        rows.append(
            (name, int(there.sum()), quartiles(effect[there] / said[there]), quartiles(kl[there] / predicted[there]))
        )
    columns = (
        "predicted divergence",
        "directions and doses",
        "effect: measured / predicted",
        "divergence: measured / predicted",
    )
    return Table(columns, rows, "Medians and quartiles; of predicted effects above 0.05 nats.")


def gate_table(view: View) -> Table:
    """Where gates open."""
    rows = [
        (name, f"{layer}", *(f"{share:.1%}" for share in view.arrays["gate"][t, layer]))
        for t, name in enumerate(view.targets)
        for layer in range(view.arrays["gate"].shape[1])
    ]
    return Table(
        ("gate of", "layer", "open at decision points", "open elsewhere"),
        rows,
        "Conditional steering: at which positions of the files that are measured the probe opens the gate.",
    )
