"""What a group of dictionaries was told: its kind, in words, and how sparse each member is to be; and what goes wrong early."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from interp_jax.experiments.experiment import GroupResult
from interp_jax.train.run import ALIVE

Values = Float[np.ndarray, " R"]


def sparsity_of(group: GroupResult) -> Values:
    """What each member that did not diverge was told of its sparsity: k, the target of L0, or the penalty's weight."""
    cfg, alive = group.config.dictionary, group.diverged_at == ALIVE
    return np.asarray(getattr(cfg, sparsity_name(group)), np.float64)[alive]


def sparsity_name(group: GroupResult) -> str:
    """Which of the dictionary's numbers says how sparse it is."""
    cfg = group.config.dictionary
    if cfg.is_by_k:
        return "k"
    return "target" if cfg.control != "none" or cfg.has_target else "sparsity"


def name_of(group: GroupResult) -> str:
    """The kind, in words."""
    return NAMES[group.config.dictionary.kind]


def complaint(step: int, metrics: Mapping[str, Values]) -> str:
    """What to say of members none of whose features has been active since the line before; nothing where there are none."""
    silent = np.flatnonzero(np.asarray(metrics["l0"]) == 0)
    if not len(silent):
        return ""
    members = ", ".join(map(str, silent[:5])) + (" …" if len(silent) > 5 else "")
    return (
        f"no feature is active in {len(silent)} of {len(metrics['l0'])} dictionaries by step {step} (members {members}): the "
        "penalty is too strong (dictionary.sparsity, sparsity_warmup), thresholds too high (first_threshold), or the rate is"
    )


NAMES = {
    "standard": "L1",
    "p_anneal": "p-anneal",
    "gated": "Gated",
    "topk": "TopK",
    "batch_topk": "BatchTopK",
    "matryoshka": "Matryoshka",
    "abs_topk": "AbsTopK",
    "jumprelu": "JumpReLU",
    "matching_pursuit": "matching pursuit",
    "cross_layer": "cross-layer",
}
