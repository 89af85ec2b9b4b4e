"""By which way heads and MLPs act: direct paths into the queries, keys or values of each later head, and of all at once.

Senders are numbered: head h of layer l is l H + h; after all heads, the MLP of layer l is L H + l.
"""

from functools import partial

import numpy as np
from jaxtyping import Int

from interp_jax.experiments.patching.causes import Contrast
from interp_jax.experiments.patching.sources import RUN
from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching.paths.patch import Sender, every_head, every_mlp, patch_paths

INPUTS = ("q", "k", "v")


def patch_routes(contrast: Contrast, direction: str, senders: Int[np.ndarray, " S"]) -> dict[str, np.ndarray]:
    """All paths from some heads and MLPs; see `runs.py` for names and axes.

    No model with post-norms has direct paths, none of one layer has paths between heads, and senders speak as in the other run.
    """
    params, cfg, prompts, metric, _, source = contrast
    if cfg.placement == "post" or source != RUN:
        return {}
    run = partial(patch_paths, params, cfg, prompts, senders_of(cfg, senders), metric=metric, direction=direction)
    found = {"path_logits": run("logits").metric}
    if cfg.n_layers == 1:
        return found
    found |= {f"path_{way}": run(way).metric for way in INPUTS}
    return found | {"path_all": np.stack([run(way, receivers="together").metric for way in INPUTS], axis=1)}


def senders_of(cfg: TransformerConfig, numbers: Int[np.ndarray, " S"]) -> list[Sender]:
    """Heads and MLPs by their numbers."""
    everyone = (*every_head(cfg), *every_mlp(cfg))
    return [everyone[number] for number in numbers]
