"""The ranked tables: heads and MLPs with intervals, p-values, and what random parts of activations do."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from interp_jax.experiments.patching.listing import FAMILY, FDR, p_values, plain, rounded
from interp_jax.experiments.patching.view import DONE, View
from interp_jax.patching.effects.mediation import against_random
from interp_jax.patching.effects.shares import share_interval
from interp_jax.patching.prompts import DIRECTIONS
from interp_jax.results.blocks import Block, Section, TableBlock
from interp_jax.results.tables import Table

COLUMNS = ("node", "share {}", "from", "to", "p", FAMILY, FDR, "random parts", "σ above")


def ranking_blocks(view: View) -> list[Block]:
    """A table for each direction."""
    width, whole = view.about["widths"]
    mlps = (
        f" An MLP is compared with parts of what it adds that are as wide: {width} of its {whole} dimensions, so that an effect"
        f" which lies evenly in all is {whole / width:.3g} times that of a part."
        if view.has("mlp")
        else ""
    )
    text = (
        f"Heads{' and MLPs' if view.has('mlp') else ''} at all positions, by the size of their effect, with p-values among all"
        f" {len(node_names(view))}. Random parts are the mean of {view.config.random_nodes} random subspaces of what the same"
        f" layer's attention adds, as wide as a head ({width} of {whole} dimensions); σ above is how many of their standard"
        f" deviations the node is above them.{mlps}"
    )
    return [Section("Nodes, ranked", text), *(TableBlock(table_of(view, direction)) for direction in DIRECTIONS)]


def table_of(view: View, direction: str) -> Table:
    """The nodes with the largest effects."""
    effects, names = nodes_of(view, direction), node_names(view)
    order = np.argsort(-np.abs(effects.mean(-1)), kind="stable")[: view.config.show.nodes]
    shares, test = share_interval(effects[order], view.clean - view.corrupted), p_values(effects)
    beside, rows = beside_random(view, direction), []
    for row, i in enumerate(order):
        numbers, chances = (float(part[row]) for part in shares), (float(p[i]) for p in test)
        rows.append((names[i], *map(plain, numbers), *map(rounded, chances), *beside[i]))
    caption = f"{direction.capitalize()}, {len(view.clean)} pairs: share of the effect that is {DONE[direction]}."
    left_out = f" {len(rows)} of {len(names)} nodes." if len(rows) < len(names) else ""
    return Table([name.format(DONE[direction]) for name in COLUMNS], rows, caption + left_out)


def beside_random(view: View, direction: str) -> list[tuple[float, float]]:
    """Of each node: the mean share of its layer's random parts, and how many of their standard deviations it is above it."""
    effects, found = view.effects[direction], []
    for name, parts in (("z", "random"), ("mlp", "random_mlp")):
        for nodes, random in zip(effects.get(name, ()), effects.get(parts, ()), strict=True):
            nodes, chance = (jnp.asarray(x / view.total, jnp.float32) for x in (np.atleast_2d(nodes), random))
            size = against_random(nodes, chance).size
            found += [(plain(float(chance.mean())), plain(float(s))) for s in size]
    return found


def nodes_of(view: View, direction: str) -> Float[np.ndarray, "C B"]:
    """Effects of all heads, then of all MLPs."""
    effects = view.effects[direction]
    heads = effects["z"].reshape(-1, effects["z"].shape[-1])
    return np.concatenate([heads, effects["mlp"]]) if view.has("mlp") else heads


def node_names(view: View) -> list[str]:
    """Their names."""
    n_heads = view.n_layers * view.n_heads
    mlps = [view.described(n_heads + layer) for layer in range(view.n_layers) if view.has("mlp")]
    return [f"head {view.described(i)}" for i in range(n_heads)] + mlps
