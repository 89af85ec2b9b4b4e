"""The ranked tables: heads and MLPs with intervals, p-values, and what random parts of activations do."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from interp_jax.experiments.patching.view import DONE, View
from interp_jax.patching.effects.mediation import against_random, assess
from interp_jax.patching.prompts import DIRECTIONS
from interp_jax.results.report import Block, Section, TableBlock
from interp_jax.results.tables import Table

COLUMNS = ("node", "share {}", "from", "to", "p", "corrected p", "random parts", "σ above")


def ranking_blocks(view: View) -> list[Block]:
    """A table for each direction."""
    text = (
        "Heads and MLPs at all positions, by the size of their effect. Intervals are 95%, the wider of a studentised bootstrap"
        " over pairs and Student's; p is the chance of an effect as large under flips of the pairs' signs, and corrected p that"
        f" of even one such among all {len(node_names(view))} nodes (step-down maximum). Random parts are the mean of"
        f" {view.config.random_nodes} random subspaces of the same layer's attention output, as wide as a head; σ above is"
        " how many of their standard deviations the head is above them."
    )
    return [Section("Nodes, ranked", text), *(TableBlock(table_of(view, direction)) for direction in DIRECTIONS)]


def table_of(view: View, direction: str) -> Table:
    """The nodes with the largest effects."""
    effects = nodes_of(view, direction) / view.total
    found = assess(jnp.asarray(effects, jnp.float32))
    beside = beside_random(view, direction)
    names, rows = node_names(view), []
    for i in np.argsort(-np.abs(np.asarray(found.mean)), kind="stable")[: view.config.show.nodes]:
        numbers = [float(part[i]) for part in (found.mean, found.low, found.high)]
        chances = [rounded(float(part[i])) for part in (found.p, found.family_wise)]
        rows.append((names[i], *map(plain, numbers), *chances, *(beside[i] if i < len(beside) else (np.nan, np.nan))))
    caption = f"{direction.capitalize()}, {len(view.clean)} pairs: share of the effect that is {DONE[direction]}."
    left_out = f" {len(rows)} of {len(names)} nodes." if len(rows) < len(names) else ""
    return Table([name.format(DONE[direction]) for name in COLUMNS], rows, caption + left_out)


def beside_random(view: View, direction: str) -> list[tuple[float, float]]:
    """Of each head: the mean share of its layer's random parts, and how many of their standard deviations it is above it."""
    heads, random = (view.effects[direction][name] / view.total for name in ("z", "random"))
    found = []
    for layer in range(view.n_layers):
        chance = jnp.asarray(random[layer], jnp.float32)
        size = against_random(jnp.asarray(heads[layer], jnp.float32), chance).size
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


def plain(share: float) -> float:
    """Three decimals, and no -0."""
    return round(share, 3) + 0.0


def rounded(p: float) -> float:
    """Two digits of a p-value."""
    return float(f"{p:.2g}")
