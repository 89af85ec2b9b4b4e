"""The metrics that a config can name, of contrast pairs."""

from collections.abc import Callable

from interp_jax.data.contrast.pairs import Pairs
from interp_jax.patching import metrics
from interp_jax.patching.metrics import Metric

MADE: dict[str, Callable[[Pairs], Metric]] = {
    "logit_difference": lambda pairs: metrics.logit_difference(pairs.answers, pairs.others),
    "probability_difference": lambda pairs: metrics.probability_difference(pairs.answers, pairs.others),
    "probability": lambda pairs: metrics.probability(pairs.answers),
    "log_probability": lambda pairs: metrics.log_probability(pairs.answers),
}
METRICS = tuple(MADE)


def metric_of(pairs: Pairs, name: str) -> Metric:
    """The metric of that name for these pairs."""
    return MADE[name](pairs)
