"""Patching one node at a time by a whole forward pass: what the estimates are compared with."""

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax import taps
from interp_jax.patching.attribution.sites import attributable_sites
from interp_jax.patching.prompts import DENOISING, measure, prompts_of, roles
from tests.models.transformer_oracle import random_model


def contrast(cfg, dtype=jnp.float64):
    """A random model of the family in float64, and prompts that differ at several positions and are read at unlike ones."""
    params, corrupted = random_model(cfg)
    params = jax.tree.map(lambda x: x.astype(dtype), params)
    changed = jnp.array([1, 3, 5, 6])
    clean = corrupted.at[:, changed].set((corrupted[:, changed] + 3) % cfg.d_vocab)
    return params, prompts_of(clean, corrupted, at=[6, 6, 5])


def noisy(cfg, prompts):
    """The same prompts, where noise on some embeddings is all that the corrupted run differs by."""
    noise = np.random.default_rng(4).normal(size=(*prompts.clean.shape, cfg.d_model))
    noise[:, [0, 4]] = 0
    return prompts._replace(corrupted=prompts.clean, noise=jnp.asarray(noise))


def node_masks(shape, site, cfg):
    """One mask per node of one layer and example, [N, *nodes, 1]: shape is that of the site, its layer axis left out."""
    axes = attributable_sites(cfg)[site].split()
    sizes = [1 if a in ("B", "D", "E", "1") else n for a, n in zip(axes, shape, strict=True)]
    return np.eye(int(np.prod(sizes)), dtype=bool).reshape(-1, *sizes), sizes


def exact_effects(params, cfg, prompts, metric, site, direction=DENOISING):
    """The effect of each node of a site within the layers, [L B *nodes]."""
    base, source = roles(prompts, direction)
    run = lambda given: measure(params, given, cfg, prompts, metric)
    acts = taps.record(run, (site,))(source)[1]
    masks, sizes = node_masks(acts[site].shape[1:], site, cfg)

    def patched(layer, where):
        return taps.edit(run)({site: taps.Edit("replace", acts[site][layer], where, layer)}, base)

    grid = jax.vmap(jax.vmap(patched, (None, 0)), (0, None))(jnp.arange(cfg.n_layers), masks) - run(base)
    nodes = [
        n for n, a in zip(sizes, attributable_sites(cfg)[site].split(), strict=True) if a not in ("B", "D", "E", "1")
    ]
    return jnp.moveaxis(grid, -1, 1).reshape(cfg.n_layers, len(prompts.at), *nodes)
