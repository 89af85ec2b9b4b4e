"""The blocks of the report that do not depend on the prompt: kinds of head, and composition."""

import numpy as np

from interp_jax.anatomy.composition import random_composition
from interp_jax.anatomy.heads import HeadScores
from interp_jax.experiments.inside.runs import can_fold
from interp_jax.experiments.inside.view import View, head_name
from interp_jax.results import model_plots, plots, tables
from interp_jax.results.blocks import Block, Figure, Section, TableBlock

STRONGEST = 3  # heads of each kind in the table
PAIRS = 8  # pairs of heads in the table
MOST_HEADS = 48  # that are drawn one by one in a matrix of pairs


def kind_blocks(view: View) -> list[Block]:
    """Kinds of head on repeated random tokens."""
    cfg, rows = view.cfg, []
    for kind, scores in view.kinds._asdict().items():
        mean = scores.mean(0).ravel()
        for i in np.argsort(-mean, kind="stable")[:STRONGEST]:
            score = tables.interval(scores.reshape(len(scores), -1)[:, i])
            rows.append((kind, head_name(int(i), cfg), score, view.uniform[kind]))
    figure = model_plots.matrix_grid(
        [score.mean(0) for score in view.kinds],
        HeadScores._fields,
        [str(h) for h in range(cfg.n_heads)],
        [str(layer) for layer in range(cfg.n_layers)],
        plots.Axes("head", "layer"),
        "score",
        (0.0, 1.0),
    )
    draws = len(view.kinds.previous)
    return [
        Section(
            "Kinds of head",
            "Random tokens, all different, then the same again: nothing but copying helps there. A score is the mean over"
            " queries q of the attention on one key k: `k = q - 1` (previous), `k = q - T` (duplicate) or `k = q - T + 1`"
            " (induction), T the length of the segment. 1 is a head that does nothing else; what chance gives is the score of a"
            " head that looks everywhere alike.",
        ),
        Figure(figure, f"Scores of all heads, mean of {draws} draw{'s' if draws > 1 else ''} of the random tokens."),
        TableBlock(
            tables.Table(
                ("kind", "head", "score", "a uniform head"),
                rows,
                f"The strongest heads of each kind; intervals are 95%, over {draws} draws." if draws > 1 else
                "The strongest heads of each kind, on one draw: sweep the seed for intervals.",
            )
        ),
    ]  # fmt: skip


def composition_blocks(view: View) -> list[Block]:
    """Composition scores of all pairs of heads."""
    cfg = view.cfg
    level = random_composition(cfg.d_model)
    if cfg.n_layers < 2:
        return [Section("Composition of heads", "The model has one layer: no head is before another.")]
    raw = (
        ""
        if can_fold(cfg)
        else " The first norms of this model do not fold into its weights, which are read as they are."
    )
    matrices, names, drawn = pair_matrices(view)
    figure = model_plots.matrix_grid(matrices, ("Q", "K", "V"), names, names, plots.Axes("later", "earlier"), "score")
    return [
        Section(
            "Composition of heads",
            "How much of what an earlier head writes a later one reads: `‖A B‖ / (‖A‖ ‖B‖)`, with A the earlier head's"
            " `W_V W_O`, and B what the later one reads with: `W_Q W_Kᵀ` for its queries (Q), its transpose for its keys (K),"
            " `W_V W_O` for its values (V). Matrices turned at random have a root mean square of"
            f" 1/√D = {level:.3g}, so that is nothing; a pair well above it may work together. It is a property of weights:"
            f" whether it is used, the prompt decides.{raw}",
        ),
        Figure(figure, drawn),
        TableBlock(pair_table(view, level)),
    ]


def pair_matrices(view: View) -> tuple[list[np.ndarray], list[str], str]:
    """Q, K and V scores by pair of heads, or the largest by pair of layers where heads are too many; names; a caption."""
    cfg = view.cfg
    n = cfg.n_layers * cfg.n_heads
    scores = [view.seen[kind] for kind in "qkv"]
    if n <= MOST_HEADS:
        names = [head_name(i, cfg) for i in range(n)]
        return [s.reshape(n, n) for s in scores], names, "Rows are earlier heads, columns later ones, as layer.head."
    names = [str(layer) for layer in range(cfg.n_layers)]
    return [s.max((1, 3)) for s in scores], names, "The largest score of any pair of heads, by layer."


def pair_table(view: View, level: float) -> tables.Table:
    """The pairs of heads that stand out most."""
    n = view.cfg.n_layers * view.cfg.n_heads
    found = np.stack([view.seen[kind].reshape(n, n) for kind in "qkv"])
    rows = []
    for i in np.argsort(-found.ravel(), kind="stable")[:PAIRS]:
        kind, earlier, later = np.unravel_index(i, found.shape)
        if found.flat[i] > 0:
            pair = (head_name(int(earlier), view.cfg), head_name(int(later), view.cfg))
            rows.append((*pair, "QKV"[kind], float(found.flat[i]), float(found.flat[i]) / level))
    caption = f"The pairs with the highest scores of all kinds, at most {PAIRS}."
    return tables.Table(("earlier head", "later head", "by", "score", "times random"), rows, caption)
