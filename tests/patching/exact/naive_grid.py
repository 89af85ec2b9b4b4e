"""One full forward pass per cell, with ordinary edits: what every grid has to equal."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax import taps
from interp_jax.models import transformer
from interp_jax.models.sites import sites
from interp_jax.patching.prompts import roles


def naive_grid(params, cfg, prompts, grid, metric, direction="denoising", change=None, source=None):
    """[C B]; `change(x, source, mask, layer)` is what a patch does, by default the source where the mask holds."""
    base, other = (given.tokens for given in roles(prompts, direction))
    acts = taps.record(transformer.stream, tuple(grid.terms))(params, other, cfg, prompts.positions)[1]
    acts = acts if source is None else source
    change = change or (lambda x, s, mask, layer: jnp.where(mask, s, x))
    run = jax.jit(partial(forward, cfg=cfg, change=change, names=tuple(grid.terms)))
    n = next(iter(grid.terms.values())).first.shape[0]
    values = []
    for cell in range(n):
        masks = {site: mask_of(t, cell, site, cfg, base.shape) for site, t in grid.terms.items()}
        logits = run(params, base, prompts.positions, acts, masks)
        values.append(metric.of(logits[jnp.arange(len(base)), prompts.at]))
    return np.asarray(values)


def forward(params, tokens, positions, acts, masks, cfg, change, names):
    patch = {s: lambda x, layer, s=s: change(x, acts[s][layer], masks[s][layer], layer) for s in names}
    return taps.edit_with(transformer.apply, patch)(params, tokens, cfg, positions)


def mask_of(terms, cell, site, cfg, shape):
    """[L B ...] that broadcasts to the activation: rows, then units, then what is looked at."""
    (batch, columns), letters = shape, next(s.shape for s in sites(cfg) if s.name == site).split()
    size = {"H": cfg.n_heads, "G": cfg.n_groups, "M": cfg.d_mlp}
    looks = "K" in letters
    units = next((size[c] for c in letters if c in size), 1)
    mask = np.zeros((cfg.n_layers, batch, units, columns, columns if looks else 1), bool)
    for k in range(terms.first.shape[1]):
        for layer in range(terms.first[cell, k], terms.stop[cell, k]):
            for b in range(batch):
                column = np.broadcast_to(terms.position[cell, k], batch)[b]
                unit, source = terms.unit[cell, k], terms.source[cell, k]
                everywhere = slice(None)
                mask[
                    layer,
                    b,
                    everywhere if unit < 0 else unit,
                    everywhere if column < 0 else column,
                    everywhere if source < 0 else source,
                ] = True
    if looks:
        return mask
    mask = np.swapaxes(mask[..., 0], 2, 3)  # L B P U
    return mask[..., None] if len(letters) == 4 else mask
