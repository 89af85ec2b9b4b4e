"""By which way heads act: direct paths from a head into the queries, keys or values of another, and of all others at once.

    Δ = head(source) - head(base), as it enters the stream
    q'[l], k'[l], v'[l] = what layer l, after the head's, makes of the base run's stream[l] + Δ

The metric of a path is that of the base run with q' (or k', or v') in one head; "at once", in all heads of all later layers.
Where several heads do the same work, none of their paths shows alone what all of them do together.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax import taps
from interp_jax.experiments.patching.causes import Contrast
from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching.exact.cone import Shared
from interp_jax.patching.exact.grids import patch_grid
from interp_jax.patching.exact.nodes import Node, at_once
from interp_jax.patching.exact.path_program import Paths, record_run, said
from interp_jax.patching.exact.paths import Sender, patch_paths
from interp_jax.patching.exact.recordings import Input, Prompts, roles, stream

INPUTS = ("q", "k", "v")
SITES = tuple(f"blocks.attn.{name}" for name in INPUTS)


def patch_routes(contrast: Contrast, direction: str, senders: Int[np.ndarray, " S"]) -> dict[str, np.ndarray]:
    """All paths from the heads `senders` (l H + h); see `runs.py` for names and axes.

    No model with post-norms has direct paths, and none of one layer has paths between heads.
    """
    params, cfg, prompts, metric, _ = contrast
    if cfg.placement == "post":
        return {}
    heads = [Sender(int(i) // cfg.n_heads, int(i) % cfg.n_heads) for i in senders]
    receivers = (*INPUTS, "logits") if cfg.n_layers > 1 else ("logits",)
    run = lambda receiver: patch_paths(params, cfg, prompts, heads, receiver, metric, direction).metric
    found = {f"path_{receiver}": run(receiver) for receiver in receivers}
    return found | ({"path_all": patch_into_all(contrast, direction, heads)} if cfg.n_layers > 1 else {})


def patch_into_all(contrast: Contrast, direction: str, senders: list[Sender]) -> Float[np.ndarray, "S 3 B"]:
    """Paths into the queries, the keys and the values of all later heads at once."""
    params, cfg, prompts, metric, _ = contrast
    given, other = roles(prompts, direction)
    base, own, base_metric = record_run(params, given, cfg, prompts, metric)
    theirs = record_run(params, other, cfg, prompts, metric)[1]
    paths = Paths(Shared(params, base, prompts.positions, prompts.at, {}, metric), own, theirs, None)
    found = []
    for layer, head in senders:
        if layer + 1 == cfg.n_layers:
            found.append(np.tile(np.asarray(base_metric), (len(SITES), 1)))
            continue
        later = [[Node(site, layer + 1, window=cfg.n_layers - layer - 1)] for site in SITES]
        read = what_is_read(cfg, paths, given, prompts, layer, head)
        patched = patch_grid(params, cfg, prompts, at_once(later, cfg, INPUTS), metric, direction, source=read)
        found.append(patched.metric)
    return np.stack(found)


@partial(jax.jit, static_argnums=0)
def what_is_read(
    cfg: TransformerConfig, paths: Paths, given: Input, prompts: Prompts, layer: Array, head: Array
) -> dict[str, Float[Array, "L B P _ E"]]:
    """q', k' and v' of all layers; those of layers up to the head's own are the base run's."""
    later = (jnp.arange(cfg.n_layers) > layer)[:, None, None, None]
    before = paths.shared.base.streams[:-1] + jnp.where(later, said(cfg, paths, layer, head), 0)
    model = taps.record(taps.edit(stream), SITES)
    return model({"blocks.resid_pre": [taps.Edit("replace", before)]}, paths.shared.params, given, cfg, prompts)[1]
