"""Attribution patching: what patching each node would do, to first order (Nanda 2023; Syed et al. 2023).

    effect(node) ≈ (source - base) · ∂metric/∂activation       the gradient at the base run, summed over the node's vector

`base` is the run that would be patched, `source` the one whose activations would be put in: with base corrupted and source
clean the effects are those of *denoising*, the other way round of *noising*. An effect is a difference of the metric, in its
units, of one example. One backward pass gives all nodes of all sites, where exact patching runs the model once per node. It
is exact where the metric is linear in the node, and blind where the gradient at the base run is flat: see `star.py`.

Effects at several nodes add up: that of a head at all positions is the sum over P. Nodes' axes are in `sites.py`.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Integer

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.models.config import Ids, Places, TransformerConfig
from interp_jax.models.transformer import Params, check_rows
from interp_jax.patching.attribution.linearisation import Columns, linearise, measure
from interp_jax.patching.attribution.sites import check_sites, first_order, node_sites
from interp_jax.patching.metrics import Metric, check_tokens

Tokens = Integer[Array | np.ndarray, "_ _"]  # of any shapes: they are checked
Integers = Integer[Array | np.ndarray, " _"]


class Attribution(NamedTuple):
    """Estimated effects.

    Attributes:
      base: the metric of the run that is patched.
      source: the metric of the run that activations are taken from.
      effects: site -> nodes, with the axes of `node_axes`.
    """

    base: Float[Array, " B"]
    source: Float[Array, " B"]
    effects: dict[str, Float[Array, "..."]]


def one_program(*static: str) -> Callable[[Callable[..., Attribution]], Callable[..., Attribution]]:
    """Decorates a method of attribution: its input is checked, and the rest compiled once per `sites` and `static` options.

    The method sees `sites` as a tuple of names.
    """

    def decorate(method: Callable[..., Attribution]) -> Callable[..., Attribution]:
        compiled = jax.jit(method, static_argnames=("cfg", "sites", *static))

        @functools.wraps(method)
        def checked(
            params: Params,
            cfg: TransformerConfig,
            base: Tokens,
            source: Tokens,
            at: Integers,
            metric: Metric,
            sites: Iterable[str] | None = None,
            positions: Places | None = None,
            **options: Any,
        ) -> Attribution:
            chosen = node_sites(cfg) if sites is None else (sites,) if isinstance(sites, str) else tuple(sites)
            check_sites(chosen, cfg)
            check_runs(params, cfg, base, source, at, metric, positions)
            return compiled(params, cfg, base, source, at, metric, chosen, positions, **options)

        return checked

    return decorate


@one_program()
def attribution(
    params: Params,
    cfg: TransformerConfig,
    base: Ids,
    source: Ids,
    at: Columns,
    metric: Metric,
    sites: Iterable[str] | None = None,
    positions: Places | None = None,
) -> Attribution:
    """First-order effects of all nodes of `sites`.

    Args:
      params: of the model.
      cfg: of the model.
      base: tokens of the run that is patched.
      source: tokens of the run whose activations are put in.
      at: the column of each example whose logits are read.
      metric: differentiable.
      sites: of `attributable_sites`; by default `node_sites`.
      positions: of both runs; -1 marks padding.

    Raises:
      InputError: runs of different shapes, a column that is none or is padding, a site that has no effects, a metric without
        gradient or of other examples, tokens beyond the model's tables.
    """
    run = lambda tokens: measure(params, cfg, tokens, at, metric, positions)
    there, taken = taps.record(run, sites)(source)
    here = linearise(lambda: run(base), sites)
    effects = {s: first_order(s, taken[s] - here.activations[s], here.gradients[s], cfg) for s in sites}
    return Attribution(here.metric, there, effects)


def check_runs(
    params: Params,
    cfg: TransformerConfig,
    base: Tokens,
    source: Tokens,
    at: Integers,
    metric: Metric,
    positions: Places | None,
) -> None:
    """Raise `InputError` as `attribution` does, for values as far as they are not traced."""
    if base.shape != source.shape:
        raise InputError(f"base has tokens {base.shape} and source {source.shape}: positions must be aligned")
    if len(at) != len(base):
        raise InputError(f"at names columns of {len(at)} examples, and there are {len(base)}")
    if wrong := [len(leaf) for leaf in jax.tree.leaves(metric) if len(leaf) != len(base)]:
        raise InputError(f"the metric {metric.name!r} is of {wrong[0]} examples, and there are {len(base)}")
    if metric.name == "rank":
        raise InputError("the metric 'rank' has no gradient: attribute another, such as the logit difference")
    for tokens in (base, source):
        check_rows(params, tokens, cfg, positions)
    if not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(metric)):
        check_tokens(metric, cfg.d_vocab)
    _check_columns(base.shape, at, positions)


def _check_columns(shape: tuple[int, ...], at: Integers, positions: Places | None) -> None:
    """Raise `InputError` where the metric would read what is not there."""
    if isinstance(at, jax.core.Tracer):
        return
    bad = np.flatnonzero((np.asarray(at) < 0) | (np.asarray(at) >= shape[1]))
    if len(bad):
        raise InputError(f"at = {int(at[bad[0]])} of example {bad[0]}: columns go from 0 to {shape[1] - 1}")
    if positions is None or isinstance(positions, jax.core.Tracer):
        return
    read = np.take_along_axis(np.broadcast_to(positions, shape), np.asarray(at)[:, None], axis=1)[:, 0]
    if len(padded := np.flatnonzero(read < 0)):
        raise InputError(f"at = {int(at[padded[0]])} of example {padded[0]} is a column of padding")
