"""The least arithmetic of each grid of `patching.py`: products whose inputs a patch changes and that reach the metric.

Of a cell that changes the stream before layer l at positions S, these are, with p the first of S:

    layer l      queries, keys and values of S; attention, W_O and MLP of the rows from p on
    above it     everything, for the rows from p on
    last layer   keys and values of the changed rows; of all else only the last row, where the metric is read

A patch inside a layer changes one head there: its mix of values and its slice of W_O, then the MLP, then the layers above.
Counted are multiplications and additions of the products with weights and of attention; norms and activations are not.
"""

from typing import NamedTuple

from interp_jax.models.transformer import TransformerConfig

N_TOKENS = 2  # columns of W_U that the logit difference reads


class Cone(NamedTuple):
    """Multiply-adds of one example's cells, in a model of this shape."""

    n_layers: int
    d_model: int
    n_heads: int
    d_head: int
    d_mlp: int
    n_positions: int

    @property
    def last(self) -> int:
        """The last position."""
        return self.n_positions - 1

    def rows(self, layer: int, first: int) -> range:
        """The rows from `first` on that are worth computing past the keys and values of a layer."""
        return range(self.last if layer == self.n_layers - 1 else first, self.n_positions)

    def above(self, layer: int, changed: range) -> int:
        """Of layers `layer` and above, where the stream before them is changed at these positions."""
        if layer == self.n_layers:
            return N_TOKENS * self.d_model
        rows, width = self.rows(layer, changed.start), self.n_heads * self.d_head
        asking = [p for p in changed if p in rows]
        projected = (2 * len(changed) + len(asking)) * self.d_model * width
        return (
            projected + self.n_heads * self.attention(rows) + self.written(rows, width) + self.above(layer + 1, rows)
        )

    def attention(self, rows: range) -> int:
        """One head's scores and mix."""
        return sum(2 * self.d_head * (row + 1) for row in rows)

    def written(self, rows: range, width: int) -> int:
        """W_O for heads of this width together, and the MLP."""
        return len(rows) * self.d_model * (width + 2 * self.d_mlp)

    def head(self, layer: int, rows: range) -> int:
        """From one head's changed pattern or values at these rows on."""
        if self.last not in rows and layer == self.n_layers - 1:
            return 0
        rows = range(self.last, self.n_positions) if layer == self.n_layers - 1 else rows
        return self.attention(rows) + self.written(rows, self.d_head) + self.above(layer + 1, rows)

    def receiver(self, layer: int, component: str, direct: bool) -> int:
        """From one sender's write at all positions, through one receiver's q, k or v, on: to the logits only, if `direct`."""
        rows = range(self.last, self.n_positions) if direct else self.rows(layer, 0)
        read = (len(rows) if component == "q" else self.n_positions) * self.d_model * self.d_head
        if direct:
            return read + self.attention(rows) + self.d_head * self.d_model + N_TOKENS * self.d_model
        return read + self.head(layer, rows)


def cone(cfg: TransformerConfig, n_positions: int) -> Cone:
    """The shape of a model with plain MLPs and as many keys as queries."""
    return Cone(cfg.n_layers, cfg.d_model, cfg.n_heads, cfg.d_head, cfg.d_mlp, n_positions)


def operations(grid: str, of: Cone, batch: int) -> float:
    """Floating operations of all cells of a grid."""
    layers, everywhere = range(of.n_layers), range(of.n_positions)
    if "paths" in grid:
        total = paths(grid[-1], grid.startswith("direct"), of)
    elif grid == "residual pre":
        total = sum(of.above(i, range(p, p + 1)) for i in layers for p in everywhere)
    elif grid == "head outputs":  # the mix of values is given
        total = of.n_heads * sum(of.head(i, everywhere) - of.attention(of.rows(i, 0)) for i in layers)
    elif grid == "head q":
        total = of.n_heads * sum(of.head(i, range(p, p + 1)) for i in layers for p in everywhere)
    else:
        total = of.n_heads * sum(of.head(i, range(p, of.n_positions)) for i in layers for p in everywhere)
    return 2.0 * batch * total


def paths(component: str, direct: bool, of: Cone) -> int:
    """All pairs of heads of which the receiver lies in a later layer; what a sender writes is computed once."""
    writes = (of.n_layers - 1) * of.n_heads * of.n_positions * of.d_head * of.d_model
    pairs = (i * of.n_heads**2 * of.receiver(i, component, direct) for i in range(1, of.n_layers))
    return writes + sum(pairs)
