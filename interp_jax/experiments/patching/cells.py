"""The nodes that are patched one by one, exactly and by estimate, with the same axes:

resid_pre, attn_out, mlp_out    [L N]     the stream before a layer, what its attention and its MLP add, by position
z                               [L H]     what a head mixes, at all positions at once
q, k, v                         [L H]     queries; keys and values, by key/value head [L G]; at all positions at once
mlp                             [L]       what an MLP adds, at all positions at once
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from interp_jax.experiments.patching.task import Places
from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching.exact.nodes import Grid, Node, at_once

BY_POSITION = {"resid_pre": "blocks.resid_pre", "attn_out": "blocks.attn.out", "mlp_out": "blocks.mlp.out"}
BY_HEAD = {"z": "blocks.attn.z", "q": "blocks.attn.q", "k": "blocks.attn.k", "v": "blocks.attn.v"}
WHOLE = {"mlp": "blocks.mlp.out"}
TITLES = {
    "resid_pre": "stream before the layer",
    "attn_out": "attention output",
    "mlp_out": "MLP output",
    "z": "head output (z)",
    "q": "queries",
    "k": "keys",
    "v": "values",
    "mlp": "MLP, all positions",
}


def site_of(name: str) -> str:
    """The site that a name of this file stands for."""
    return {**BY_POSITION, **BY_HEAD, **WHOLE}[name]


def cell_names(cfg: TransformerConfig) -> tuple[str, ...]:
    """Those that a model has."""
    without = () if cfg.d_mlp else ("mlp_out", "mlp")
    return tuple(name for name in (*BY_POSITION, *BY_HEAD, *WHOLE) if name not in without)


def cell_nodes(name: str, cfg: TransformerConfig, places: Places) -> tuple[list[Node], tuple[int, ...]]:
    """The nodes of its cells, and the lengths of their axes."""
    site, layers = site_of(name), range(cfg.n_layers)
    if name in BY_POSITION:
        along = [Node(site, layer, tuple(map(int, at))) for layer in layers for at in places.columns]
        return along, (cfg.n_layers, len(places.columns))
    if name in BY_HEAD:
        units = cfg.n_groups if name in "kv" else cfg.n_heads
        return [Node(site, layer, unit=unit) for layer in layers for unit in range(units)], (cfg.n_layers, units)
    return [Node(site, layer) for layer in layers], (cfg.n_layers,)


def all_cells(cfg: TransformerConfig, places: Places) -> tuple[Grid, dict[str, tuple[int, ...]]]:
    """All cells of all names as one grid, which is one program, and the lengths of each name's axes."""
    found = {name: cell_nodes(name, cfg, places) for name in cell_names(cfg)}
    grid = at_once([[node] for nodes, _ in found.values() for node in nodes], cfg)
    return grid, {name: shape for name, (_, shape) in found.items()}


def cut_up(
    values: Float[np.ndarray, "C B"], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Float[np.ndarray, "*cells B"]]:
    """What belongs to each name, of what `all_cells` gave."""
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes.values()])
    parts = np.split(values, ends[:-1])
    return {name: part.reshape(*shape, -1) for part, (name, shape) in zip(parts, shapes.items(), strict=True)}


def estimates_of(name: str, effects: Any, places: Places) -> Float[np.ndarray, "L *cells B"]:
    """From effects [L B P …] of its site's single nodes, which add up, those of its cells."""
    found = np.asarray(effects)
    if name in BY_POSITION:
        return np.stack([at_columns(found, at) for at in places.columns], axis=1)
    return np.moveaxis(found.sum(2), 1, -1)


def at_columns(effects: Any, columns: Int[np.ndarray, " B"]) -> Float[np.ndarray, "L B *units"]:
    """Of effects [L B P …], those at each example's own column."""
    return np.asarray(effects)[:, np.arange(len(columns)), columns]


def every_column(places: Places, n_columns: int) -> Int[np.ndarray, "M B"]:
    """The columns of the plots, each pair's own, and then its other ones in order: with them, all of the P columns.

    A pair of which fewer are left than of others, since two places share a column, has its last one again.
    """
    rest = [np.setdiff1d(np.arange(n_columns), own) for own in places.columns.T]
    most = max(map(len, rest))
    filled = [np.r_[own, np.full(most - len(own), own[-1] if len(own) else 0)] for own in rest]
    return np.concatenate([places.columns, np.stack(filled, axis=1).astype(int)])
