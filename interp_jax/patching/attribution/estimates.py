"""What patching each node would do, estimated for all nodes at once by a few backward passes.

    method                     passes       effect of a node
    gradients.gradient         1            to first order (AtP)
    star.softmax               1            the same, and of queries and keys with the softmax computed exactly
    star.star                  layers       AtP*: that, and what gradients that cancel hide; sizes without a sign
    integrated.Integrated      steps        to first order, with the gradient averaged along the path between the runs
    relevance.Relevance        1            to first order, by the rules of relevance propagation

A method is any hashable function (`Runs`, sites) -> `Estimate`; it is compiled once for each set of sites. Instances of a
frozen dataclass with equal options are one method. An effect is a difference of the metric, in its units, of one example;
effects of several nodes add up: that of a head at all positions is the sum over P. The axes of nodes are in `sites.py`.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from interp_jax.errors import InputError
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching.attribution.gradients import gradient
from interp_jax.patching.attribution.runs import Effects, Estimate, Runs, runs_of
from interp_jax.patching.attribution.sites import check_sites, node_axes, node_sites
from interp_jax.patching.metrics import Metric, check_finite
from interp_jax.patching.prompts import DENOISING, Prompts, check_question, is_traced, ordered

Method = Callable[[Runs, tuple[str, ...]], Estimate]


class Attribution(NamedTuple):
    """Estimated effects.

    Attributes:
      clean, corrupted: the metric of the two runs.
      effects: site -> nodes, with the axes of `node_axes`.
      direction: "denoising" or "noising".
    """

    clean: Float[Array, " B"]
    corrupted: Float[Array, " B"]
    effects: Effects
    direction: str


def attribute(
    params: Params,
    cfg: TransformerConfig,
    prompts: Prompts,
    metric: Metric,
    direction: str = DENOISING,
    sites: str | Iterable[str] | None = None,
    method: Method = gradient,
) -> Attribution:
    """Effects of all nodes of `sites`, as `method` estimates them.

    Args:
      params: of the model.
      cfg: of the model.
      prompts: clean and corrupted ones, aligned.
      metric: differentiable; one number per example.
      direction: "denoising" estimates patches of clean into corrupted, "noising" of corrupted into clean.
      sites: of `attributable_sites`; by default `node_sites`.
      method: see above.

    Raises:
      InputError: a site that has no effects, a metric without gradient or of other examples, tokens beyond the model's tables,
        an unknown direction, options that the method lacks, a metric or an effect that is not finite.
    """
    chosen = node_sites(cfg) if sites is None else (sites,) if isinstance(sites, str) else tuple(sites)
    check_sites(chosen, cfg)
    check_question(params, cfg, prompts, metric)
    if metric.name == "rank":
        raise InputError("the metric 'rank' has no gradient: attribute another, such as the logit difference")
    base, source, effects = estimate(method, runs_of(params, cfg, prompts, metric, direction), chosen)
    if not is_traced(base):
        for values in (base, source):
            check_finite(values, metric.name)
        check_effects(effects, cfg, metric.name)
    return Attribution(*ordered(base, source, direction), effects, direction)


def check_effects(effects: Effects, cfg: TransformerConfig, name: str) -> None:
    """Raise `InputError` that names the first site and example with an effect that is not finite."""
    for site, found in effects.items():
        batch = node_axes(site, cfg).index("B")
        fine = np.isfinite(np.asarray(found)).all(tuple(i for i in range(found.ndim) if i != batch))
        if not fine.all():
            where = int(fine.argmin())
            raise InputError(
                f"effects at {site!r} are not finite on example {where}: nor is the gradient of {name!r} there"
            )


@partial(jax.jit, static_argnums=(0, 2))
def estimate(method: Method, runs: Runs, sites: tuple[str, ...]) -> Estimate:
    """What a method gives, compiled."""
    return method(runs, sites)
