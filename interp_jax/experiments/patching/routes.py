"""By which way heads and MLPs act: direct paths into the queries, keys or values of each later head, and of all at once.

Senders are numbered: head h of layer l is l H + h; after all heads, the MLP of layer l is L H + l.
"""

from functools import partial

import numpy as np
from jaxtyping import Int

from interp_jax.experiments.patching.causes import Contrast, put_in
from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching.paths.patch import Sender, every_head, every_mlp, patch_paths
from interp_jax.patching.paths.senders import sites_of

INPUTS = ("q", "k", "v")


def patch_routes(contrast: Contrast, direction: str, senders: Int[np.ndarray, " S"]) -> dict[str, np.ndarray]:
    """All paths from some heads and MLPs; see `runs.py` for names and axes.

    No model with post-norms has direct paths, and none of one layer has paths between heads.
    """
    params, cfg, prompts, metric, *_ = contrast
    if cfg.placement == "post":
        return {}
    who = senders_of(cfg, senders)
    source = put_in(contrast, direction, *sites_of(who))
    run = partial(patch_paths, params, cfg, prompts, who, metric=metric, direction=direction, source=source)
    found = {"path_logits": run("logits").metric}
    if cfg.n_layers == 1:
        return found
    found |= {f"path_{way}": run(way).metric for way in INPUTS}
    return found | {"path_all": np.stack([run(way, receivers="together").metric for way in INPUTS], axis=1)}


def senders_of(cfg: TransformerConfig, numbers: Int[np.ndarray, " S"]) -> list[Sender]:
    """Heads and MLPs by their numbers."""
    everyone = (*every_head(cfg), *every_mlp(cfg))
    return [everyone[number] for number in numbers]
