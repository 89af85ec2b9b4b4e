"""Several grids as one: what is usually looked at side by side, computed by one program.

every_block      [site, layer, position]      the stream before a layer, what its attention and its MLP add
every_part       [part, layer, head]          of every head: z, q, k, v and pattern, at all positions or by position
"""

from collections.abc import Mapping, Sequence

import numpy as np

from interp_jax.errors import InputError
from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching.exact.nodes import Axis, Grid, Terms, each

BLOCKS = ("blocks.resid_pre", "blocks.attn.out", "blocks.mlp.out")
PARTS = tuple(f"blocks.attn.{part}" for part in ("z", "q", "k", "v", "pattern"))


def every_block(
    cfg: TransformerConfig, n_positions: int, positions: Sequence[int] | Mapping[str, Sequence[int]] | None = None
) -> Grid:
    """The stream, attention and MLP (where there are MLPs) of all layers, by position; `positions` as of `each`."""
    sites = BLOCKS if cfg.d_mlp else BLOCKS[:-1]
    return stack({site.removeprefix("blocks."): each(site, cfg, n_positions, positions=positions) for site in sites})


def every_part(cfg: TransformerConfig, n_positions: int, over: Sequence[str] = ("layer", "head")) -> Grid:
    """Parts of all heads; where heads share keys and values, a head's are those of the key/value head that it reads."""
    grids = {site.removeprefix("blocks.attn."): each(site, cfg, n_positions, over) for site in PARTS}
    shared_by = cfg.n_heads // cfg.n_groups
    return stack({name: repeat(grid, "head", shared_by) if name in "kv" else grid for name, grid in grids.items()})


def stack(grids: Mapping[str, Grid], axis: str = "site") -> Grid:
    """Grids of the same axes along a new first one, where their names stand.

    Raises:
      InputError: no grids, or different axes.
    """
    if not grids:
        raise InputError("no grids to stack")
    names, parts = tuple(grids), tuple(grids.values())
    for name, grid in grids.items():
        if grid.axes != parts[0].axes:
            ours, theirs = ([f"{a.name} {len(a.labels)}" for a in g.axes] for g in (grid, parts[0]))
            raise InputError(
                f"grid {name!r} has axes {ours}, {names[0]!r} has {theirs}: only equal ones can be stacked"
            )
    width = max(t.position.shape[2] for grid in parts for t in grid.terms.values())
    sites = dict.fromkeys(site for grid in parts for site in grid.terms)
    terms = {site: _joined([_widened(grid, site, width) for grid in parts]) for site in sites}
    return Grid(" | ".join(names), (Axis(axis, names), *parts[0].axes), terms)


def repeat(grid: Grid, axis: str, times: int) -> Grid:
    """A grid in which each cell along an axis stands `times` times, and the axis is numbered anew."""
    where = [a.name for a in grid.axes].index(axis)
    cells = np.repeat(np.arange(grid.n_cells).reshape(grid.shape), times, where)
    axes = list(grid.axes)
    axes[where] = Axis(axis, tuple(map(str, range(cells.shape[where]))))
    terms = {site: Terms(*(part[cells.ravel()] for part in t)) for site, t in grid.terms.items()}
    return Grid(grid.title, tuple(axes), terms)


def _widened(grid: Grid, site: str, width: int) -> Terms:
    """A site's terms with positions for `width` examples; none in every cell where the grid lacks it."""
    if site not in grid.terms:
        none = np.zeros((grid.n_cells, 1), np.int32)
        return Terms(none, none, np.zeros((grid.n_cells, 1, width), np.int32), none, none)
    t = grid.terms[site]
    return t._replace(position=np.repeat(t.position, width // t.position.shape[2], 2))


def _joined(parts: Sequence[Terms]) -> Terms:
    """Cells of several grids, one after the other; places for nodes that a cell does not need are of no layer."""
    most = max(t.first.shape[1] for t in parts)
    pad = lambda x: np.pad(x, ((0, 0), (0, most - x.shape[1]), *((0, 0),) * (x.ndim - 2)))
    return Terms(*(np.concatenate([pad(part) for part in column]) for column in zip(*parts, strict=True)))
