"""AtP*: attribution that neither a saturated softmax nor cancellation blinds (Kramár et al. 2024, arXiv:2403.00745).

    softmax    queries and keys: the softmax is computed again, exactly; what follows it, to first order
    star       besides, GradDrop:  size(node) = 1/(L-1) Σ_l |effect of the node with layer l's gradient dropped|

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

from interp_jax.errors import InputError
from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching.attribution.linearisation import Backward, Linearisation, linearise, weighted_sum
from interp_jax.patching.attribution.runs import Effects, Estimate, Runs
from interp_jax.patching.attribution.sites import first_order
from interp_jax.patching.attribution.softmax import KEYS, QUERIES, Reads, read_sites, softmax_effects


def softmax(runs: Runs, sites: tuple[str, ...]) -> Estimate:
    """Effects with their sign, a method of `attribute`: of queries and keys through the exact softmax, else as `gradient`."""
    recorded = needed(sites, runs.cfg)
    (there, taken), here = runs.recorded_source(recorded), linearise(runs.base, recorded)
    return Estimate(here.metric, there, _effects(runs, sites, taken)(here))


def star(runs: Runs, sites: tuple[str, ...]) -> Estimate:
    """Sizes of effects, at least 0, by L backward passes: a method of `attribute`.

    Raises:
      InputError: a model of one layer, in which nothing would be left.
    """
    cfg = runs.cfg
    if cfg.n_layers < 2:
        raise InputError("GradDrop needs model.n_layers of at least 2: with one layer, use the method softmax")
    recorded = needed(sites, cfg)
    there, taken = runs.recorded_source(recorded)
    effects = _effects(runs, sites, taken)

    def sizes(keep: Bool[Array, " L"]) -> Effects:
        return jax.tree.map(jnp.abs, effects(linearise(runs.base, recorded, dropped(keep, cfg))))

    weights = jnp.full(cfg.n_layers, 1 / (cfg.n_layers - 1))
    return Estimate(runs.base(), there, weighted_sum(sizes, weights, ~jnp.eye(cfg.n_layers, dtype=bool)))


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


def _effects(runs: Runs, sites: tuple[str, ...], taken: dict[str, Array]) -> Callable[[Linearisation], Effects]:
    """From a linearised base run, the effects of putting in what was `taken` of the source run."""
    cfg = runs.cfg

    def effects(here: Linearisation) -> Effects:
        acts, gradients = here.activations, here.gradients
        linear = [s for s in sites if s not in QUERIES + KEYS]
        found = {s: first_order(s, taken[s] - acts[s], gradients[s], cfg) for s in linear}
        if len(linear) == len(sites):
            return found
        base, source = (Reads(*(run[s] for s in read_sites(cfg))) for run in (acts, taken))
        v, gradient = acts["blocks.attn.v"], gradients["blocks.attn.z"]
        weights = runs.params["blocks"]["attn"]
        exact = softmax_effects(weights, cfg, base, source, v, gradient, runs.prompts.positions)
        return found | {s: exact.q if s in QUERIES else exact.k for s in sites if s not in found}

    return effects
