"""AtP*: attribution that neither a saturated softmax nor cancellation blinds (Kramár et al. 2024, arXiv:2403.00745).

    softmax_attribution    queries and keys: the softmax is computed again, exactly; what follows it, to first order
    attribution_star       besides, GradDrop:  size(node) = 1/(L-1) Σ_l |effect of the node with layer l's gradient dropped|

A query that moves a saturated attention from one key to another has a large effect and hardly a gradient. And what a node says
directly may cancel against what a later layer makes of it, to first order and on this example: AtP then sees neither. With the
gradient through that layer dropped, the direct effect is seen.

Dropping layer l stops the gradient at what its attention and MLP add to the stream. A node within layer l then has effect 0,
so that L - 1 terms count; a node of the stream has L of them and is overrated by at most L/(L-1). The layer to drop is data:
one program makes all L backward passes, one after the other.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.models.config import Ids, Places, TransformerConfig
from interp_jax.models.transformer import Params, in_order
from interp_jax.patching.attribution.gradients import Attribution, one_program
from interp_jax.patching.attribution.linearisation import (
    Backward,
    Columns,
    Linearisation,
    linearise,
    measure,
    weighted_sum,
)
from interp_jax.patching.attribution.sites import first_order
from interp_jax.patching.attribution.softmax import KEYS, QUERIES, Reads, read_sites, softmax_effects
from interp_jax.patching.metrics import Metric


@one_program()
def softmax_attribution(
    params: Params,
    cfg: TransformerConfig,
    base: Ids,
    source: Ids,
    at: Columns,
    metric: Metric,
    sites: Iterable[str] | None = None,
    positions: Places | None = None,
) -> Attribution:
    """Effects with their sign: of queries and keys through the exact softmax, of other nodes as in `attribution`.

    Arguments and errors are those of `attribution`.
    """
    run = lambda tokens: measure(params, cfg, tokens, at, metric, positions)
    there, taken = taps.record(run, needed(sites, cfg))(source)
    here = linearise(lambda: run(base), needed(sites, cfg))
    return Attribution(here.metric, there, _effects(params, cfg, sites, taken, positions)(here))


@one_program()
def attribution_star(
    params: Params,
    cfg: TransformerConfig,
    base: Ids,
    source: Ids,
    at: Columns,
    metric: Metric,
    sites: Iterable[str] | None = None,
    positions: Places | None = None,
) -> Attribution:
    """Sizes of effects, at least 0, by L backward passes; arguments and errors are those of `attribution`.

    Raises:
      InputError: a model of one layer, in which nothing would be left.
    """
    if cfg.n_layers < 2:
        raise InputError("GradDrop needs model.n_layers of at least 2: with one layer, use softmax_attribution")
    run = lambda tokens: measure(params, cfg, tokens, at, metric, positions)
    there, taken = taps.record(run, needed(sites, cfg))(source)
    effects = _effects(params, cfg, sites, taken, positions)

    def sizes(keep: Bool[Array, " L"]) -> dict[str, Array]:
        return jax.tree.map(jnp.abs, effects(linearise(lambda: run(base), needed(sites, cfg), dropped(keep, cfg))))

    weights = jnp.full(cfg.n_layers, 1 / (cfg.n_layers - 1))
    return Attribution(run(base), there, weighted_sum(sizes, weights, ~jnp.eye(cfg.n_layers, dtype=bool)))


def dropped(keep: Bool[Array, " L"], cfg: TransformerConfig) -> Backward:
    """Gradients pass through what a layer adds to the stream where `keep`, and past it always."""

    def gate(x: Array, layer: Any) -> Array:
        still = jax.lax.stop_gradient(x)
        return still + jnp.where(keep[layer], x - still, 0.0)

    return dict.fromkeys(("blocks.attn.out", *(["blocks.mlp.out"] if cfg.d_mlp else [])), gate)


def needed(sites: Iterable[str], cfg: TransformerConfig) -> tuple[str, ...]:
    """The sites to record for those that are asked for."""
    exact = any(site in QUERIES + KEYS for site in sites)
    inputs = (*read_sites(cfg), "blocks.attn.v", "blocks.attn.z") if exact else ()
    return tuple(dict.fromkeys((*sites, *inputs)))


def _effects(
    params: Params, cfg: TransformerConfig, sites: Iterable[str], taken: dict[str, Array], positions: Places | None
) -> Callable[[Linearisation], dict[str, Array]]:
    """From a linearised base run, the effects of putting in what was `taken` of the source run."""

    def effects(here: Linearisation) -> dict[str, Array]:
        acts, gradients = here.activations, here.gradients
        linear = [s for s in sites if s not in QUERIES + KEYS]
        found = {s: first_order(s, taken[s] - acts[s], gradients[s], cfg) for s in linear}
        if len(linear) == len(tuple(sites)):
            return found
        base, source = (Reads(*(run[s] for s in read_sites(cfg))) for run in (acts, taken))
        v, gradient = acts["blocks.attn.v"], gradients["blocks.attn.z"]
        columns = in_order(v.shape[2]) if positions is None else jnp.asarray(positions)
        exact = softmax_effects(params["blocks"]["attn"], cfg, base, source, v, gradient, columns)
        return found | {s: exact.q if s in QUERIES else exact.k for s in sites if s not in found}

    return effects
