"""What is patched in one direction: every node, and random parts of activations; and what is estimated of the same nodes.

estimate     gradient × difference (AtP)
softmax      of queries and keys: the same with the softmax computed exactly
star         AtP*: that, and each layer's gradient dropped in turn; sizes, which have no sign; of several layers
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from interp_jax.experiments.patching.cells import all_cells, at_columns, cell_names, cut_up, estimates_of, site_of
from interp_jax.experiments.patching.task import Places
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching.attribution.estimates import attribute
from interp_jax.patching.attribution.gradients import gradient
from interp_jax.patching.attribution.runs import Estimate, Runs
from interp_jax.patching.attribution.star import softmax, star
from interp_jax.patching.exact.grids import Patched, patch_grid
from interp_jax.patching.exact.plan import chunks, rows_of
from interp_jax.patching.exact.random_parts import patch_random_parts
from interp_jax.patching.metrics import Metric
from interp_jax.patching.prompts import Prompts

METHODS = ("estimate", "softmax", "star")
AT_ONCE = 16  # examples whose gradients are held at once


class Contrast(NamedTuple):
    """A model, prompts, what is measured of them, and the positions of the plots."""

    params: Params
    cfg: TransformerConfig
    prompts: Prompts
    metric: Metric
    places: Places


def patch_nodes(contrast: Contrast, direction: str) -> tuple[Patched, dict[str, Float[np.ndarray, "*cells B"]]]:
    """All nodes of `cells.py`: the whole grid, and its metrics by name."""
    params, cfg, prompts, metric, places = contrast
    grid, shapes = all_cells(cfg, places)
    found = patch_grid(params, cfg, prompts, grid, metric, direction)
    return found, cut_up(found.metric, shapes)


def patch_random(contrast: Contrast, direction: str, n: int, seed: int) -> Float[np.ndarray, "L N B"]:
    """A random part of a layer's attention output, as wide as a head, at all positions; `n` of each layer's."""
    return patch_random_parts(*contrast[:4], direction, n, seed).metric


def estimate(contrast: Contrast, direction: str) -> dict[str, Float[np.ndarray, "*cells B"]]:
    """Effects by every method of attribution, "method.name" [*cells B]; and of heads' outputs by position, [L H N B]."""
    params, cfg, prompts, metric, places = contrast
    names, n = cell_names(cfg), len(prompts.at)
    sites = tuple(dict.fromkeys(site_of(name) for name in names))
    parts: list[dict[str, np.ndarray]] = []
    for rows in chunks(n, min(AT_ONCE, n)):
        some, measured = jax.tree.map(lambda x: rows_of(rows, np.asarray(x)), (prompts, metric))  # noqa: B023
        here = places._replace(columns=places.columns[:, rows])
        effects = attribute(params, cfg, some, measured, direction, sites, every_method).effects
        asked = [(method, name) for method in METHODS for name in names if f"{method}.{site_of(name)}" in effects]
        found = {f"{m}.{name}": estimates_of(name, effects[f"{m}.{site_of(name)}"], here) for m, name in asked}
        by_place = np.stack([at_columns(effects[f"estimate.{site_of('z')}"], at) for at in here.columns], axis=-1)
        parts.append(found | {"estimate.z_at": by_place.transpose(0, 2, 3, 1)})
    return {name: np.concatenate([part[name] for part in parts], -1)[..., :n] for name in parts[0]}


def every_method(runs: Runs, sites: tuple[str, ...]) -> Estimate:
    """Effects by "method.site", all methods in one program: that is half the compilation of one program for each."""
    cfg, attention = runs.cfg, (site_of("q"), site_of("k"))
    found = {"estimate": gradient(runs, sites), "softmax": softmax(runs, attention)}
    if cfg.n_layers > 1:
        found["star"] = star(runs, sites)
    effects = {f"{method}.{site}": values for method, one in found.items() for site, values in one.effects.items()}
    return found["estimate"]._replace(effects=effects)
