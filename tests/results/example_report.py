"""A report with every kind of block, which the browser test draws: `python tests/results/example_report.py DIRECTORY`."""

import sys
from pathlib import Path

import numpy as np

from interp_jax.results import grid_plots, plots, report
from interp_jax.results.blocks import Code, Details, Figure, Section, TableBlock, Tokens
from interp_jax.results.manifest import manifest
from interp_jax.results.sweep_plots import Coordinate, parallel
from interp_jax.results.tables import Table, interval

COMMAND = "./launch/local --config configs/superposition.py"


def polygon(corners, features=5):
    """Features 0..corners-1 on a regular polygon, the others at the origin."""
    angle = 2 * np.pi * np.arange(features) / corners + 0.4
    return np.stack([np.cos(angle), np.sin(angle)], 1) * (np.arange(features) < corners)[:, None]


def blocks():
    """Every kind of block and of plot."""
    rng = np.random.default_rng(0)
    inverse = np.geomspace(1, 30, 12)
    curves = []
    for name, floor in (("ReLU output", 0.02), ("linear", 0.11), ("absolute value", 0.05)):
        steps = np.arange(0, 10_000, 50)
        loss = floor + 0.3 * np.exp(-steps / 1200) + 0.002 * rng.normal(size=len(steps))
        curves.append(plots.Line(name, steps, loss, loss - 0.012, loss + 0.012))
    d_star = plots.Line(
        "5 seeds, 95% interval",
        inverse,
        1 / (1 + 0.3 * np.log(inverse)),
        *(1 / (1 + 0.3 * np.log(inverse)) + s * 0.04 for s in (-1, 1)),
    )
    marks = [
        plots.Reference(v, label)
        for v, label in (
            (1, "1"),
            (0.75, "3/4 tetrahedron"),
            (2 / 3, "2/3 triangle"),
            (0.5, "1/2 antipodal"),
            (0.4, "2/5 pentagon"),
            (0.375, "3/8 square antiprism"),
        )
    ]
    x = np.repeat(inverse, 40)
    dots = plots.Points(
        "feature",
        x * rng.uniform(0.96, 1.04, len(x)),
        rng.choice([1, 0.5, 0.4, 0], len(x)) + 0.01 * rng.normal(size=len(x)),
    )
    ends = [polygon(n) for n in (2, 3, 4, 5, 5, 5)]
    titles = [f"1/(1−S) = {v:.3g}" for v in (1, 1.5, 2.2, 3.8, 8, 20)]
    density, importance = np.geomspace(0.01, 1, 60), np.geomspace(0.1, 10, 60)
    grid = np.log10(importance)[:, None] + 0 * density
    phase = np.where(np.abs(grid) < -0.4 * np.log10(density) - 0.15, 2, np.where(grid > 0, 1, 0))
    noisy = np.where(rng.uniform(size=phase.shape) < 0.02, (phase + 1) % 3, phase)
    low = 10 ** (-0.4 * np.log10(density) - 0.15)
    right = density < 10 ** (-0.375)
    edges = [
        plots.Line(
            "boundary, closed form",
            np.r_[density[right], density[right][::-1]],
            np.r_[low[right], 1 / low[right][::-1]],
        )
    ]
    words = [
        "def",
        " mean",
        "(",
        "values",
        "):",
        "\n",
        "    ",
        "return",
        " sum",
        "(",
        "values",
        ")",
        " /",
        " len",
        "(",
        "values",
        ")",
        "\n",
    ]
    attention = np.tril(rng.dirichlet(np.ones(18) * 0.3, 18))
    attention /= attention.sum(1, keepdims=True)
    return [
        Section(
            "Loss",
            "Each line is one kind of model; the band is the 95% interval over `5` seeds.\n\nA second paragraph.",
        ),
        Figure(
            plots.lines(curves, plots.Axes("step", "loss", y_scale="log")),
            "Loss along training. All three fall quickly and then level off; the linear model cannot go below the "
            "variance that it leaves out.",
        ),
        TableBlock(
            Table(
                ["model", "members", "final loss", "D*"],
                [
                    ["ReLU output", 40, interval(rng.normal(0.02, 0.001, 5)), 0.51234],
                    ["linear", 40, interval(rng.normal(0.11, 0.001, 5)), 0.998],
                    ["absolute value", 12_000, interval([0.05]), float("nan")],
                ],
                "Final loss: mean ± 95% interval over 5 seeds.",
            )
        ),
        Section(
            "Superposition grows with sparsity",
            "D* = m / ‖W‖² is the number of hidden dimensions per represented feature.",
        ),
        Figure(
            plots.lines(
                [d_star],
                plots.Axes("1/(1−S)", "D* = m / ‖W‖²", x_scale="log", y_range=(0, 1.1)),
                marks[:1] + marks[3:4],
            ),
            "D* against sparsity. Dense inputs give one dimension per feature; at high sparsity two features share one.",
        ),
        Figure(
            plots.scatter([dots], plots.Axes("1/(1−S)", "dimensionality Dᵢ", x_scale="log"), marks),
            "Each point is one feature. Features sit on the lines of regular polytopes.",
        ),
        Figure(
            grid_plots.heatmap_grid(
                [v @ v.T for v in ends], titles, plots.Axes("feature", "feature"), "WᵀW", columns=6
            ),
            "WᵀW at six sparsities. White is no interference, red is positive, blue negative.",
        ),
        Figure(
            grid_plots.arrows_grid(
                ends, titles, plots.Axes("hidden 1", "hidden 2"), 0.9 ** np.arange(5), "importance", columns=6
            ),
            "The columns of W in the plane. Antipodal pairs turn into a pentagon.",
        ),
        Section("Phases", "Where a feature is ignored, has a dimension of its own, or shares one."),
        Figure(
            grid_plots.phase_diagram(
                [("measured", noisy), ("predicted", phase)],
                ["ignored", "own dimension", "superposition"],
                density,
                importance,
                plots.Axes("feature density 1−S", "relative importance", "log", "log"),
                edges,
            ),
            "Measured and predicted phase; the line is where the closed-form losses are equal.",
        ),
        Section("Text", "A real snippet."),
        Figure(
            plots.heatmap(attention, plots.Axes("key", "query"), "attention", words, words),
            "Attention of head 1.3, rows sum to one.",
        ),
        Figure(plots.heatmap(rng.normal(size=(4, 8)), plots.Axes("head", "layer"), "score"), "A score per head."),
        Figure(
            parallel(
                [
                    Coordinate("model.n_hidden", [2, 5, 10, 20] * 10),
                    Coordinate("learning_rate", np.geomspace(1e-4, 1e-1, 40).tolist()),
                    Coordinate("kind", ["ReLU", "linear"] * 20),
                    Coordinate("loss", np.linspace(0.3, 0.01, 40).tolist()),
                ],
                np.linspace(0.3, 0.01, 40),
                "loss",
            ),
            "Forty runs, a line each.",
        ),
        Tokens(words, rng.normal(size=len(words)), "Change of the loss per token: blue improved, red got worse."),
        Tokens(words, rng.uniform(size=len(words)), "Probability of the right token."),
        Code("$ " + COMMAND + "\nsampled: def f(x):\n    return x"),
        Details("How the interval is computed", "Student's t over seeds:\n  mean ± t(.975, n−1) s/√n"),
    ]


def write(directory):
    """The report's path."""
    made = manifest(
        {"model": {"n_features": 20, "n_hidden": 5}, "steps": 10_000}, "4f1c", {"compile": 2.1, "run": 71.3}
    )
    summary = (
        "Forty small autoencoders, from dense to sparse inputs. As inputs become sparse, features leave the coordinate "
        "axes and share dimensions, first in antipodal pairs, then in pentagons."
    )
    return report.write_report(directory, "Toy models of superposition", summary, blocks(), COMMAND, made)


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
