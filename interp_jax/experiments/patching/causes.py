"""What is patched in one direction: every node, and random parts of activations; and what is estimated of the same nodes.

estimate     gradient × difference (AtP)
integrated   integrated gradients: the same, averaged along the path between the runs
softmax      of queries and keys: gradient × difference with the softmax computed exactly
star         AtP*: that, and each layer's gradient dropped in turn; sizes, which have no sign; of several layers
relevance    gradient × difference by the rules of relevance propagation (RelP)
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from interp_jax.experiments.patching.batches import batches
from interp_jax.experiments.patching.cells import (
    all_cells,
    at_columns,
    cell_names,
    cut_up,
    estimates_of,
    every_column,
    site_of,
)
from interp_jax.experiments.patching.measure import FLAT_AT_CLEAN, NO_GRADIENT
from interp_jax.experiments.patching.sources import RUN, Activations, sources_of
from interp_jax.experiments.patching.task import Places
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching.attribution import estimates
from interp_jax.patching.attribution.estimates import Method
from interp_jax.patching.attribution.gradients import gradient
from interp_jax.patching.attribution.integrated import Integrated
from interp_jax.patching.attribution.relevance import Relevance
from interp_jax.patching.attribution.runs import Estimate, Runs, runs_of
from interp_jax.patching.attribution.star import softmax, star
from interp_jax.patching.exact import random_parts
from interp_jax.patching.exact.grids import Patched, patch_grid
from interp_jax.patching.metrics import Metric, check_finite
from interp_jax.patching.prompts import NOISING, Prompts

METHODS: dict[str, Method] = {
    "estimate": gradient,
    "integrated": Integrated(),
    "softmax": softmax,
    "star": star,
    "relevance": Relevance(),
}


class Contrast(NamedTuple):
    """A model, prompts, what is measured of them, the positions of the plots, and what is put in; see `sources.py`."""

    params: Params
    cfg: TransformerConfig
    prompts: Prompts
    metric: Metric
    places: Places
    source: str = RUN


class Estimated(NamedTuple):
    """What is estimated in one direction.

    Attributes:
      effects: "method.name" [*cells B], and "integrated.whole" [B], the sum of integrated gradients at the embeddings, which
        is the whole effect but for the error of their steps; empty where nothing can be estimated.
      ranked: mean effects of heads' outputs at every column of `every_column`; None likewise.
    """

    effects: dict[str, Float[np.ndarray, "*cells B"]]
    ranked: Float[np.ndarray, "L H M"] | None


def patch_nodes(contrast: Contrast, direction: str) -> tuple[Patched, dict[str, Float[np.ndarray, "*cells B"]]]:
    """All nodes of `cells.py`: the whole grid, and its metrics by name."""
    params, cfg, prompts, metric, places, _ = contrast
    grid, shapes = all_cells(cfg, places)
    source = put_in(contrast, direction, *grid.terms)
    found = patch_grid(params, cfg, prompts, grid, metric, direction, source=source)
    return found, cut_up(found.metric, shapes)


def put_in(contrast: Contrast, direction: str, *sites: str) -> Activations | None:
    """What takes the place of the other run's activations."""
    return sources_of(contrast.source, *contrast[:3], direction, sites)


def patch_random(contrast: Contrast, direction: str, n: int) -> dict[str, Float[np.ndarray, "L N B"]]:
    """Random parts, as wide as a head, of what a layer's attention and its MLP add, at all positions; `n` of each.

    They are the same for all seeds, so that a part is one thing for the pairs of all.
    """
    sites = {"random": random_parts.ATTENTION} | ({"random_mlp": random_parts.MLP} if contrast.cfg.d_mlp else {})
    run = lambda site: random_parts.patch_random_parts(
        *contrast[:4], direction, n, site=site, source=put_in(contrast, direction, site)
    )
    return {name: run(site).metric for name, site in sites.items()}


def methods_of(contrast: Contrast, direction: str) -> tuple[str, ...]:
    """The methods that can say something: all are of the other run's activations, and but one of the base run's gradient."""
    if contrast.source != RUN or contrast.metric.name == NO_GRADIENT:
        return ()
    if contrast.metric.name == FLAT_AT_CLEAN and direction == NOISING:
        return ("integrated",)
    return tuple(name for name in METHODS if name != "star" or contrast.cfg.n_layers > 1)


def estimate(contrast: Contrast, direction: str) -> Estimated:
    """Effects by every method that can be asked."""
    params, cfg, prompts, metric, places, _ = contrast
    method = EveryMethod(methods_of(contrast, direction))
    if not method.names:
        return Estimated({}, None)
    names, n = cell_names(cfg), len(prompts.at)
    sites, everywhere = tuple(dict.fromkeys(map(site_of, names))), every_column(places, prompts.clean.shape[1])
    parts: list[dict[str, np.ndarray]] = []
    for rows, some in batches((prompts, metric), n):
        effects = estimates.estimate(method, runs_of(params, cfg, *some, direction), sites).effects
        here = places._replace(columns=places.columns[:, rows])
        asked = [(m, name) for m in method.names for name in names if f"{m}.{site_of(name)}" in effects]
        found = {f"{m}.{name}": estimates_of(name, effects[f"{m}.{site_of(name)}"], here) for m, name in asked}
        found["integrated.whole"] = np.asarray(effects["integrated.embed"]).sum(-1)
        by_place = [at_columns(effects[f"{method.names[0]}.{site_of('z')}"], at) for at in everywhere[:, rows]]
        parts.append(found | {"ranked": np.stack(by_place, axis=-1).transpose(0, 2, 3, 1)})
    joined = {name: np.concatenate([part[name] for part in parts], -1)[..., :n] for name in parts[0]}
    for name, values in joined.items():
        check_finite(values, f"{metric.name}, estimated: {name}")
    ranked = joined.pop("ranked").mean(-1)
    return Estimated(joined, ranked)


@dataclasses.dataclass(frozen=True)
class EveryMethod:
    """Effects by "method.site", all methods in one program: that is half the compilation of one program for each."""

    names: tuple[str, ...]

    def __call__(self, runs: Runs, sites: tuple[str, ...]) -> Estimate:
        """Effects at `sites`; by "softmax" of queries and keys alone, by "integrated" at the embeddings besides."""
        own = {"softmax": (site_of("q"), site_of("k")), "integrated": (*sites, "embed")}
        found = {name: METHODS[name](runs, own.get(name, sites)) for name in self.names}
        effects: dict[str, Array] = {
            f"{name}.{site}": values for name, one in found.items() for site, values in one.effects.items()
        }
        return found[self.names[0]]._replace(effects=effects)
