"""What a group of dictionaries was told: its kind, in words, and how sparse each member is to be; and what goes wrong early."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from interp_jax.dictionaries.config import WITH_THRESHOLDS, Dictionary
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


def complaint(cfg: Dictionary, step: int, metrics: Mapping[str, Values]) -> str:
    """What to say of members none of whose features has been active since the line before; nothing where there are none."""
    silent = np.flatnonzero(np.asarray(metrics["l0"]) == 0)
    if not len(silent):
        return ""
    members = ", ".join(map(str, silent[:5])) + (" …" if len(silent) > 5 else "")
    return (
        f"no feature is active in {len(silent)} of {len(metrics['l0'])} {NAMES[cfg.kind]} dictionaries by step {step} (members "
        f"{members}): {cause(cfg)}"
    )


def cause(cfg: Dictionary) -> str:
    """Why all features of a dictionary of this kind may be silent."""
    rate = "the rate is too high (optimizer.learning_rate)"
    if cfg.is_by_k:
        return f"none is positive on what is read: {rate}, or what is read is 0 or far larger than the rate is for (normalise)"
    causes = ["the penalty is too strong (dictionary.sparsity, sparsity_warmup)"]
    if cfg.kind in WITH_THRESHOLDS:
        causes.append("thresholds are too high (dictionary.first_threshold)")
    return ", ".join([*causes, f"or {rate}"])


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
