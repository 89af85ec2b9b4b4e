"""The metrics that a config can name, of contrast pairs, and which way each of them goes."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from interp_jax.data.contrast.pairs import Pairs
from interp_jax.errors import InputError
from interp_jax.experiments.patching.batches import batches
from interp_jax.models import transformer
from interp_jax.models.attention import take
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching import metrics
from interp_jax.patching.metrics import Metric
from interp_jax.patching.prompts import NOISING, Prompts, roles, stream

Logits = Callable[[], Float[np.ndarray, "B V"]]
NO_GRADIENT = "rank"  # name of the metric that no estimate can be made of
FLAT_AT_CLEAN = "KL divergence"  # of the one whose gradient is 0 at the clean run, where it is smallest


class Choice(NamedTuple):
    """A metric that can be named.

    Attributes:
      make: of the pairs, and of the logits of their clean runs.
      unit: for people; "" is its name in the config.
      sense: 1 where more of it is better, -1 where less is.
    """

    make: Callable[[Pairs, Logits], Metric]
    unit: str = ""
    sense: int = 1


CHOICES = {
    "logit_difference": Choice(lambda pairs, _: metrics.logit_difference(pairs.answers, pairs.others)),
    "probability_difference": Choice(lambda pairs, _: metrics.probability_difference(pairs.answers, pairs.others)),
    "probability": Choice(lambda pairs, _: metrics.probability(pairs.answers)),
    "log_probability": Choice(lambda pairs, _: metrics.log_probability(pairs.answers)),
    "loss": Choice(lambda pairs, _: metrics.loss(pairs.answers), sense=-1),
    "kl": Choice(lambda _, clean: metrics.kl(clean()), "KL divergence from the clean run", -1),
    "rank": Choice(lambda pairs, _: metrics.rank(pairs.answers), "rank of the answer", -1),
}
METRICS = tuple(CHOICES)


def metric_of(pairs: Pairs, name: str, clean: Logits | None = None) -> Metric:
    """The metric of that name for these pairs; "kl" asks for the logits of the clean runs.

    Raises:
      InputError: "kl" without them.
    """

    def lacking() -> Float[np.ndarray, "B V"]:
        raise InputError(f"metric = {name!r} compares with the clean runs: give their logits")

    return CHOICES[name].make(pairs, clean or lacking)


def unit_of(name: str) -> str:
    """A metric for people."""
    return CHOICES[name].unit or name.replace("_", " ")


def clean_logits(params: Params, cfg: TransformerConfig, prompts: Prompts) -> Float[np.ndarray, "B V"]:
    """Of the clean runs, where they are measured."""
    n = len(prompts.at)
    return np.concatenate([np.asarray(_logits(params, cfg, some)) for _, some in batches(prompts, n)])[:n]


@partial(jax.jit, static_argnums=1)
def _logits(params: Params, cfg: TransformerConfig, prompts: Prompts) -> Float[Array, "B V"]:
    clean, _ = roles(prompts, NOISING)
    rows = take(stream(params, clean, cfg, prompts), prompts.at[:, None])[:, 0]
    return transformer.unembed(params, rows, cfg, None)
