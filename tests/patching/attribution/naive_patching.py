"""Patching one node at a time by a whole forward pass: what the estimates are compared with."""

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax import taps
from interp_jax.patching.attribution.linearisation import measure
from interp_jax.patching.attribution.sites import attributable_sites
from tests.models.transformer_oracle import random_model


def contrast(cfg, dtype=jnp.float64):
    """A random model of the family in float64, two runs that differ at several positions, and a column to read."""
    params, base = random_model(cfg)
    params = jax.tree.map(lambda x: x.astype(dtype), params)
    changed = jnp.array([1, 3, 5, 6])
    source = base.at[:, changed].set((base[:, changed] + 3) % cfg.d_vocab)
    return params, base, source, np.array([6, 6, 5])


def node_masks(shape, site, cfg):
    """One mask per node of one layer and example, [N, *nodes, 1]: shape is that of the site, its layer axis left out."""
    axes = attributable_sites(cfg)[site].split()
    sizes = [1 if a in ("B", "D", "E", "1") else n for a, n in zip(axes, shape, strict=True)]
    return np.eye(int(np.prod(sizes)), dtype=bool).reshape(-1, *sizes), sizes


def exact_effects(params, cfg, base, source, at, metric, site, positions=None):
    """The effect of each node of a site within the layers, [L B *nodes]."""
    run = lambda tokens: measure(params, cfg, tokens, at, metric, positions)
    acts = taps.record(run, (site,))(source)[1]
    masks, sizes = node_masks(acts[site].shape[1:], site, cfg)

    def patched(layer, where):
        return taps.edit(run)({site: taps.Edit("replace", acts[site][layer], where, layer)}, base)

    grid = jax.vmap(jax.vmap(patched, (None, 0)), (0, None))(jnp.arange(cfg.n_layers), masks) - run(base)
    nodes = [
        n for n, a in zip(sizes, attributable_sites(cfg)[site].split(), strict=True) if a not in ("B", "D", "E", "1")
    ]
    return jnp.moveaxis(grid, -1, 1).reshape(cfg.n_layers, len(base), *nodes)
