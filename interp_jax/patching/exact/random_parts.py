"""Random parts of what attention or an MLP adds, as wide as a head: the baseline that a node's effect has to exceed.

    patched = x + B Bᵀ (source - x)          B [D E] a random orthonormal basis, N of them for each layer; at all positions

A head is as wide as a part. An MLP speaks in all D directions: where its effect lies evenly in them, a part has E/D of it.

The bases of a layer stand side by side, so that a part is E coordinates of one view, and all parts of all layers are one grid.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from interp_jax import randomness
from interp_jax.errors import InputError, nearest
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching.exact.grids import Patched, Sources, patch_grid
from interp_jax.patching.exact.nodes import Axis, Grid, Node, terms_of
from interp_jax.patching.exact.plan import MEMORY
from interp_jax.patching.exact.views import View, features
from interp_jax.patching.metrics import Metric
from interp_jax.patching.prompts import DENOISING, Prompts

ATTENTION, MLP = "blocks.attn.out", "blocks.mlp.out"


def patch_random_parts(
    params: Params,
    cfg: TransformerConfig,
    prompts: Prompts,
    metric: Metric,
    direction: str = DENOISING,
    n: int = 20,
    seed: int = 0,
    memory: float = MEMORY,
    devices: Sequence[jax.Device] | None = None,
    site: str = ATTENTION,
    source: Sources | None = None,
) -> Patched:
    """The metric with each of `n` random parts of every layer patched: axes layer and part. A part does not depend on `n`.

    `site` is what attention adds to the stream, or "blocks.mlp.out"; `source` as of `patch_grid`.

    Raises:
      InputError: no parts, a site that is none of the two; else see `patch_grid`.
    """
    if site not in (ATTENTION, MLP):
        raise InputError(f"site = {site!r}: {nearest(site, (ATTENTION, MLP))}")
    if n < 1:
        raise InputError(f"{n} random parts: there is nothing to patch")
    view, width = side_by_side(random_bases(cfg, n, seed)), min(cfg.d_head, cfg.d_model)
    cells = [
        [Node(site, layer, unit=part * width + i) for i in range(width)]
        for layer in range(cfg.n_layers)
        for part in range(n)
    ]
    axes = (Axis("layer", tuple(map(str, range(cfg.n_layers)))), Axis("part", tuple(map(str, range(n)))))
    grid = Grid(f"random parts of {site.removeprefix('blocks.')}", axes, terms_of(cells, cfg))
    return patch_grid(params, cfg, prompts, grid, metric, direction, view, source, memory, devices)


def random_bases(cfg: TransformerConfig, n: int, seed: int) -> Float[np.ndarray, "N L D E"]:
    """Orthonormal bases of subspaces of the stream, for every layer, each as likely as any other."""
    shape = (cfg.n_layers, cfg.d_model, min(cfg.d_head, cfg.d_model))
    draws = [jax.random.normal(randomness.key(seed, "random parts", part), shape) for part in range(n)]
    return np.linalg.qr(np.stack(draws))[0]


def side_by_side(bases: Float[np.ndarray, "N L D E"]) -> View:
    """A view with the coordinates of all bases: the first E of them are those of the first."""
    joined = np.concatenate(list(bases), axis=-1)
    return features(coordinates, combined, jnp.asarray(joined), joined.shape[-1], by_layer=True)


def coordinates(bases: Float[Array, "D N"], x: Float[Array, "*rows D"]) -> Float[Array, "*rows N"]:
    """Of activations, in all bases."""
    return x @ bases.astype(x.dtype)


def combined(bases: Float[Array, "D N"], c: Float[Array, "*rows N"]) -> Float[Array, "*rows D"]:
    """The sum of what each basis makes of its coordinates: where those of one alone change, it changes by that one's part."""
    return c @ bases.T.astype(c.dtype)
