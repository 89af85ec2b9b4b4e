"""What is patched: nodes of the computation, sets of them, and grids over layers, positions and units.

A node is a site at some layers, at one position or at all, and in one unit of the site or in all: a head of q, k, v, z, result,
scores or pattern (of k and v: a key/value head), a neuron of the MLP's sites, a coordinate of a subspace elsewhere. A cell is a
set of nodes that are patched at once; a grid is a table of cells with an axis for each thing that varies.

    each("blocks.resid_pre", cfg, 16)                                         layer × position
    each("blocks.attn.z", cfg, 16, over=("layer", "head"))                    all positions at once
    each("blocks.attn.pattern", cfg, 16, over=("layer", "head", "position", "source"))
    each("blocks.mlp.out", cfg, 16, window=3)                                 three layers at once
    at_once([[Node("blocks.attn.z", 3, unit=2), Node("blocks.mlp.out", 5)], …])
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from interp_jax.errors import InputError, nearest
from interp_jax.models.sites import SITES, Site, sites
from interp_jax.models.transformer import TransformerConfig

ALL = -1  # every position, unit or source
UNIT_AXES = {"H": "head", "G": "head", "M": "neuron"}
AXES = ("layer", "head", "neuron", "coordinate", "position", "source")
STREAMS = ("blocks.resid_pre", "blocks.resid_post")
LOOKS = ("blocks.attn.scores", "blocks.attn.pattern")  # sites with columns that are looked at
Index = Int[np.ndarray, "C K"]


class Node(NamedTuple):
    """One node: a site at layers layer … layer + window - 1; None stands for all.

    Attributes:
      position: a column, or one for each example, [B].
      unit: head, neuron or coordinate.
      source: of `scores` and `pattern`, the column that is looked at.
    """

    site: str
    layer: int
    position: int | Sequence[int] | None = None
    unit: int | None = None
    source: int | None = None
    window: int = 1


class Terms(NamedTuple):
    """The nodes of one site in each of C cells, at most K of them: none where `first` is `stop`."""

    first: Index
    stop: Index
    position: Int[np.ndarray, "C K #B"]
    unit: Index
    source: Index


class Axis(NamedTuple):
    """An axis of a grid and what stands along it."""

    name: str
    labels: tuple[str, ...]


class Grid(NamedTuple):
    """Cells, in the order of the axes; a site's terms say what each cell patches there.

    Attributes:
      title: what is patched, for people.
      axes: their lengths multiply to C.
      terms: by site.
    """

    title: str
    axes: tuple[Axis, ...]
    terms: Mapping[str, Terms]

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(len(axis.labels) for axis in self.axes)

    @property
    def n_cells(self) -> int:
        """How many cells."""
        return int(np.prod(self.shape, dtype=int))


def each(
    site: str,
    cfg: TransformerConfig,
    n_positions: int,
    over: Sequence[str] | None = None,
    window: int = 1,
    positions: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    layers: Sequence[int] | None = None,
    n_coordinates: int = 0,
) -> Grid:
    """A cell for every combination of what is named in `over`; all of what is not.

    Args:
      site: a site of the model.
      cfg: of the model.
      n_positions: columns P of the prompts.
      over: some of "layer", "head", "neuron", "coordinate", "position", "source"; by default layer and position, and heads
        too where the site has them. Layers are always there.
      window: layers that are patched at once, from the one named upwards, as far as there are any.
      positions: these columns only; or named places, with a column for each example.
      layers: these layers only.
      n_coordinates: of the subspace, for "coordinate".

    Raises:
      InputError: a site that the model lacks or that has no such axis; a layer or position beyond the model's.
    """
    found = site_of(site, cfg)
    over = ("layer", *((unit_axis(found),) if unit_axis(found) else ()), "position") if over is None else tuple(over)
    _check_axes(found, over, n_coordinates)
    units = {"head": cfg.n_groups if "G" in found.shape.split() else cfg.n_heads, "neuron": cfg.d_mlp}
    places, place_labels = _places(positions, n_positions)
    along = {
        "layer": (list(range(cfg.n_layers) if layers is None else layers), None),
        "position": (places, place_labels),
        "source": (list(range(n_positions)), None),
        "coordinate": (list(range(n_coordinates)), None),
        **{name: (list(range(n)), None) for name, n in units.items()},
    }
    if bad := [layer for layer in along["layer"][0] if not 0 <= layer < cfg.n_layers]:
        raise InputError(f"layer {bad[0]}: the model has layers 0 to {cfg.n_layers - 1}")
    axes = tuple(Axis(name, tuple(along[name][1] or map(str, along[name][0]))) for name in over)
    cells = []
    for values in itertools.product(*(along[name][0] for name in over)):
        at = dict(zip(over, values, strict=True))
        unit = next((at[name] for name in ("head", "neuron", "coordinate") if name in at), None)
        cells.append([Node(site, at["layer"], at.get("position"), unit, at.get("source"), window)])
    return Grid(f"{site.removeprefix('blocks.')}", axes, terms_of(cells, cfg))


def at_once(sets: Sequence[Sequence[Node]], cfg: TransformerConfig, labels: Sequence[str] | None = None) -> Grid:
    """A cell for each set of nodes, of any sites, all of which are patched at once.

    Raises:
      InputError: an empty set, a node that the model lacks, or another number of labels than of sets.
    """
    if labels is not None and len(labels) != len(sets):
        raise InputError(f"{len(labels)} labels for {len(sets)} sets of nodes")
    if empty := [i for i, nodes in enumerate(sets) if not nodes]:
        raise InputError(f"set {empty[0]} has no nodes: nothing would be patched")
    names = tuple(labels) if labels is not None else tuple(map(str, range(len(sets))))
    return Grid("sets of nodes", (Axis("set", names),), terms_of(sets, cfg))


def terms_of(cells: Sequence[Sequence[Node]], cfg: TransformerConfig) -> dict[str, Terms]:
    """The cells as arrays, site by site."""
    used = sorted({node.site for nodes in cells for node in nodes})
    found = {}
    for site in used:
        own = [[node for node in nodes if node.site == site] for nodes in cells]
        _check_nodes(own, site_of(site, cfg), cfg)
        found[site] = _terms(own, cfg.n_layers)
    return found


def _terms(cells: Sequence[Sequence[Node]], n_layers: int) -> Terms:
    shape = (len(cells), max(map(len, cells)))
    width = max((np.size(n.position) for nodes in cells for n in nodes if n.position is not None), default=1)
    first, stop, unit, source = (np.zeros(shape, np.int32) for _ in range(4))
    position = np.full((*shape, width), ALL, np.int32)
    for i, nodes in enumerate(cells):
        for j, node in enumerate(nodes):
            first[i, j], stop[i, j] = node.layer, min(node.layer + node.window, n_layers)
            unit[i, j], source[i, j] = (ALL if v is None else v for v in (node.unit, node.source))
            position[i, j] = ALL if node.position is None else node.position
    return Terms(first, stop, position, unit, source)


def site_of(name: str, cfg: TransformerConfig) -> Site:
    """The site of that name that the model has, inside its layers.

    Raises:
      InputError: there is none.
    """
    known = {site.name: site for site in sites(cfg) if site.name.startswith("blocks.")}
    if name not in known:
        exists = next((site for site in SITES if site.name == name), None)
        why = "no site of that name" if exists is None else "this model has no such site"
        raise InputError(f"cannot patch {name!r}: {why}; {nearest(name, known)}")
    return known[name]


def unit_axis(site: Site) -> str | None:
    """What the units of a site are called; None where it has none of its own."""
    return next((UNIT_AXES[letter] for letter in site.shape.split() if letter in UNIT_AXES), None)


def looks(site: Site) -> bool:
    """Whether a site has an axis of columns that are looked at."""
    return "K" in site.shape.split()


def _check_axes(site: Site, over: tuple[str, ...], n_coordinates: int) -> None:
    if unknown := [name for name in over if name not in AXES]:
        raise InputError(f"over = {unknown[0]!r}: {nearest(unknown[0], AXES)}")
    if "layer" not in over:
        raise InputError(f"over = {over}: 'layer' is missing; for one layer, give layers=(3,)")
    has = {"layer", "position", unit_axis(site), *(["source"] if looks(site) else [])}
    has |= {"coordinate"} if n_coordinates and unit_axis(site) != "head" else set()
    if lacking := [name for name in over if name not in has]:
        raise InputError(f"{site.name!r} [{site.shape}] has no axis {lacking[0]!r}; it has {sorted(has - {None})}")
    if {"neuron", "coordinate"} <= set(over):
        raise InputError(f"over = {over}: neurons or coordinates of a view of them, not both")


def _check_nodes(cells: Sequence[Sequence[Node]], site: Site, cfg: TransformerConfig) -> None:
    for node in (node for nodes in cells for node in nodes):
        if not 0 <= node.layer < cfg.n_layers or node.window < 1:
            raise InputError(
                f"{site.name!r} at layer {node.layer}, window {node.window}: layers are 0 to {cfg.n_layers - 1}"
            )
        for name in ("position", "unit", "source"):
            value = getattr(node, name)
            if value is not None and np.min(value) < 0:
                raise InputError(f"{site.name!r}: {name} = {value}: counted from 0; leave it out for all of them")
        if node.source is not None and not looks(site):
            raise InputError(f"{site.name!r} [{site.shape}] has no axis 'source'")


def _places(
    positions: Sequence[int] | Mapping[str, Sequence[int]] | None, n_positions: int
) -> tuple[list[int | tuple[int, ...]], tuple[str, ...] | None]:
    """Columns, and their names where they have any."""
    if isinstance(positions, Mapping):
        places: list[int | tuple[int, ...]] = [tuple(int(c) for c in np.ravel(p)) for p in positions.values()]
        names: tuple[str, ...] | None = tuple(positions)
    else:
        places, names = list(range(n_positions) if positions is None else positions), None
    if bad := [c for p in places for c in np.ravel(p) if not 0 <= c < n_positions]:
        raise InputError(f"position {bad[0]}: the prompts have columns 0 to {n_positions - 1}")
    return places, names
