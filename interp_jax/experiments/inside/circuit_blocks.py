"""The blocks of the report about circuits over tokens: which heads copy and match, and what the strongest ones are made of."""

from interp_jax.experiments.inside.runs import can_fold
from interp_jax.experiments.inside.view import View, head_name
from interp_jax.results import model_plots, plots
from interp_jax.results.blocks import Block, Figure, Section, TableBlock
from interp_jax.results.plot_style import shorten
from interp_jax.results.tables import Table

CIRCUITS = {
    "ov": ("OV: what heads say", "looked at", "made likely"),
    "qk": ("QK: where heads look", "query", "looked at"),
}
TOKEN_TEXT = 14  # characters of a token in a table
NOTHING = 1e-6  # of the largest singular value: rounding
SLIGHT = 0.1  # of the largest token in a direction: not named


def circuit_blocks(view: View) -> list[Block]:
    """Scores of all heads; spectra and tokens of the strongest."""
    cfg, seen = view.cfg, view.seen
    shown = seen["circuits"].tolist()
    scores = model_plots.matrix_grid(
        [seen["copying"], seen["matching"]],
        ["OV: copying", "QK: matching"],
        [str(h) for h in range(cfg.n_heads)],
        [str(layer) for layer in range(cfg.n_layers)],
        plots.Axes("head", "layer"),
        "score",
        (-1.0, 1.0),
    ).update_layout(coloraxis_colorscale="RdBu")  # blue copies
    spectra = model_plots.spectra(
        [seen["ov_values"], seen["qk_values"]],
        [title for title, _, _ in CIRCUITS.values()],
        [f"{head_name(head, cfg)}{view.kind_of(head)}" for head in shown],
        "singular value",
    )
    return [
        Section(
            "Circuits of heads: what the weights do to tokens",
            "By its weights alone a head is two matrices over the vocabulary. `W_E W_V W_O W_U` (OV): how much more likely it"
            " makes each token when it looks at another. `W_E W_Q W_Kᵀ W_Eᵀ · scale` (QK): the score of a token that looks for"
            " another one. Their eigenvalues tell a head that says what it looks at (copying), and one that looks for its own"
            " token (matching): `Σ Re λ / Σ |λ|` is 1 where all are positive, -1 where a head makes its token unlikely or looks"
            f" away from it, and near 0 where neither.{caveats(view)}",
        ),
        Figure(scores, f"Scores of all heads. {extremes(view)}"),
        Figure(
            spectra,
            f"Singular values of {len(shown)} heads: the strongest of each kind, and those that add most to the logit"
            " difference. A curve that falls fast is a head that does few things; a flat one treats many directions alike.",
        ),
        *(TableBlock(direction_table(view, circuit)) for circuit in CIRCUITS),
    ]


def direction_table(view: View, circuit: str) -> Table:
    """Tokens at the ends of the strongest directions of one kind of circuit."""
    seen, (title, rows, columns) = view.seen, CIRCUITS[circuit]
    lines = []
    least = NOTHING * float(seen[f"{circuit}_values"].max())
    for i, head in enumerate(seen["circuits"].tolist()):
        for k, value in enumerate(seen[f"{circuit}_values"][i, : seen[f"{circuit}_rows"].shape[1]].tolist()):
            ends = [token_list(view, circuit, side, i, k) for side in ("row", "column")]
            if value > least:
                lines.append((f"{head_name(head, view.cfg)}{view.kind_of(head)}", str(k + 1), value, *ends))
    caption = (
        f"{title}. The tokens at one end of each of the strongest directions, the largest first: those at left go with those at"
        " right, and so do those at the other ends, which are not shown. Where singular values are equal, directions are one"
        " choice among many. Heads whose matrix is 0 are left out."
    )
    return Table(("head", "direction", "singular value", rows, columns), lines, caption)


def token_list(view: View, circuit: str, side: str, i: int, k: int) -> str:
    """The tokens that are well in a direction, in quotes."""
    ids, weights = (view.seen[f"{circuit}_{side}{what}"][i, k] for what in ("s", "_weights"))
    return ", ".join(shorten(repr(text), TOKEN_TEXT) for text in view.names(ids[weights > SLIGHT * weights[0]]))


def extremes(view: View) -> str:
    """A sentence that names the heads with the highest scores."""
    best = {name: int(view.seen[name].argmax()) for name in ("copying", "matching")}
    copies, matches = (f"{head_name(i, view.cfg)} ({view.seen[name].flat[i]:.2f})" for name, i in best.items())
    return f"The highest: copying {copies}, matching {matches}."


def caveats(view: View) -> str:
    """Sentences that say what the circuits of this model leave out."""
    cfg = view.cfg
    said = " Biases and the divisors of norms are not in them" + (
        ", nor is what MLPs add to a token." if cfg.d_mlp else "."
    )
    if cfg.positions == "rotary":
        said += " Positions turn queries and keys in this model: QK is that of a token and another at the same place."
    if cfg.qk_norm:
        said += " Queries and keys are normalised besides, which QK leaves out."
    if cfg.placement == "sandwich":
        said += " So is what attention says, which OV leaves out."
    if not can_fold(cfg):
        said += " The first norms of this model do not fold into its weights, which are read as they are."
    return said
