"""What is patched in one direction: every node, and random parts of activations; and what is estimated of the same nodes."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from interp_jax import randomness
from interp_jax.experiments.patching.cells import all_cells, cell_names, cut_up, estimates_of, site_of
from interp_jax.experiments.patching.task import Places
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching.attribution.gradients import attribution
from interp_jax.patching.attribution.star import softmax_attribution
from interp_jax.patching.exact import views
from interp_jax.patching.exact.grids import Patched, patch_grid
from interp_jax.patching.exact.nodes import each
from interp_jax.patching.exact.plan import chunks, rows_of
from interp_jax.patching.exact.recordings import Prompts, roles
from interp_jax.patching.metrics import Metric

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


def patch_random(contrast: Contrast, direction: str, n: int, seed: int) -> Float[np.ndarray, "N L B"]:
    """A random subspace of a layer's attention output, as wide as a head, at all positions; `n` of each layer's."""
    params, cfg, prompts, metric, _ = contrast
    grid = each("blocks.attn.out", cfg, prompts.clean.shape[1], over=("layer",))
    shape, found = (cfg.n_layers, cfg.d_model, min(cfg.d_head, cfg.d_model)), []
    for i in range(n):
        basis = np.linalg.qr(np.asarray(jax.random.normal(randomness.key(seed, "patching.random", i), shape)))[0]
        found.append(patch_grid(params, cfg, prompts, grid, metric, direction, views.subspace(basis)).metric)
    return np.stack(found)


def estimate(contrast: Contrast, direction: str) -> dict[str, np.ndarray]:
    """Effects by attribution, [*cells B]: gradient × difference, and of queries and keys with an exact softmax too."""
    params, cfg, prompts, metric, places = contrast
    names, n = cell_names(cfg), len(prompts.at)
    sites = tuple(dict.fromkeys(site_of(name) for name in names))
    parts: list[dict[str, np.ndarray]] = []
    for rows in chunks(n, min(AT_ONCE, n)):
        some, measured = jax.tree.map(lambda x: rows_of(rows, x), (prompts, metric))  # noqa: B023
        here = places._replace(columns=places.columns[:, rows])
        base, source = (run.tokens for run in roles(some, direction))
        given = (params, cfg, base, source, some.at, measured)
        plain = attribution(*given, sites=sites, positions=some.positions).effects
        exact = softmax_attribution(*given, sites=(site_of("q"), site_of("k")), positions=some.positions).effects
        found = {f"estimate.{name}": estimates_of(name, plain, here) for name in names}
        parts.append(found | {f"softmax.{name}": estimates_of(name, exact, here) for name in "qk"})
    return {name: np.concatenate([part[name] for part in parts], -1)[..., :n] for name in parts[0]}
