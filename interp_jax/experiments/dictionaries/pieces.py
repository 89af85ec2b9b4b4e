"""What crosscoders found in which piece: features of one model alone, or of both (Lindsey et al. 2024)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from interp_jax.experiments.dictionaries.told import name_of
from interp_jax.experiments.experiment import GroupResult
from interp_jax.results import plots
from interp_jax.results.blocks import Block, Figure, Section, TableBlock
from interp_jax.results.tables import Table
from interp_jax.train.run import ALIVE

ABOUT = """A feature's share of a piece is the length of its row there over the sum of its lengths. A feature that has less than
a tenth outside of one piece is that piece's own. Features that never fired on held-out text are left out."""
OWN = 0.9  # share above which a feature belongs to one piece
BINS = 20


def blocks_of(groups: Sequence[GroupResult]) -> list[Block]:
    """A histogram and a table, where there are crosscoders."""
    found = [(group, shares(group)) for group in groups if "lengths" in group.observations[max(group.observations)]]
    if not found:
        return []
    edges = np.linspace(0, 1, BINS + 1)
    n_pieces = found[0][1][0].shape[1]
    lines, rows = [], []
    for group, members in found:
        for piece in range(n_pieces if n_pieces > 2 else 1):
            counts = np.mean([np.histogram(each[:, piece], edges)[0] for each in members], 0)
            name = f"{name_of(group)}, piece {piece}" if n_pieces > 2 else name_of(group)
            lines.append(plots.Line(name, (edges[1:] + edges[:-1]) / 2, counts))
        own = [np.mean([(each[:, piece] > OWN).sum() for each in members]) for piece in range(n_pieces)]
        alive = np.mean([len(each) for each in members])
        rows.append([name_of(group), alive, *own, alive - sum(own)])
    figure = plots.lines(lines, plots.Axes("share of the first piece" if n_pieces == 2 else "share", "features"))
    columns = ("kind", "features that fire", *(f"piece {i} alone" for i in range(n_pieces)), "shared")
    caption = "Means over the members of each kind. Expect a middle peak of shared features, and few at the ends."
    return [
        Section("Pieces", ABOUT),
        Figure(figure, caption),
        TableBlock(Table(columns, rows, "Numbers of features.")),
    ]


def shares(group: GroupResult) -> list[Float[np.ndarray, "_ I"]]:
    """Of each member that did not diverge: each firing feature's share of every piece."""
    seen = group.observations[max(group.observations)]
    fired = seen["sums.fired"].sum(1) > 0
    lengths = seen["lengths"] / np.maximum(seen["lengths"].sum(-1, keepdims=True), 1e-12)
    return [lengths[i, fired[i]] for i in np.flatnonzero(group.diverged_at == ALIVE)]
