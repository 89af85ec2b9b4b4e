"""Relevance patching: attribution whose backward pass follows the rules of layer-wise relevance propagation.

    effect(node) = (source - base) · coefficient        coefficient: the gradient at the base run under these rules,

which change no value:

    norm          x / scale             scale is held
    activation    act(x)                x · r, with r = act(x)/x held                (0 at x = 0)
    gated MLP     act(x) y              the gradient of each factor is halved, and act as above
    attention     Σ_k pattern_k v_k     "frozen": pattern is held (RelP, Jafari et al. 2025)
                                        "half": each factor's gradient is halved, and so are those of q · k (AttnLRP,
                                        Achtibat et al. 2024)

Under "frozen", everything that a model without biases does is linear in the stream given what is held: so coefficients times
activations of the stream sum to the logit at every layer (conservation), and queries and keys have effect 0. The gradient
does worse where it is flat or noisy; the rules are a choice and no approximation of the effect. The activation of a head of
masked language models keeps its gradient.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from interp_jax import taps
from interp_jax.errors import InputError, nearest
from interp_jax.models.config import ACTIVATIONS, Ids, Places, TransformerConfig
from interp_jax.models.sites import sites as sites_of
from interp_jax.models.transformer import Params
from interp_jax.patching.attribution.gradients import Attribution, one_program
from interp_jax.patching.attribution.linearisation import Backward, Columns, linearise, measure
from interp_jax.patching.attribution.sites import first_order
from interp_jax.patching.metrics import Metric

ATTENTION = ("frozen", "half")


@one_program("attention")
def relevance(
    params: Params,
    cfg: TransformerConfig,
    base: Ids,
    source: Ids,
    at: Columns,
    metric: Metric,
    sites: Iterable[str] | None = None,
    positions: Places | None = None,
    attention: str = "frozen",
) -> Attribution:
    """Effects of all nodes of `sites` by one backward pass under the rules; arguments and errors are those of `attribution`.

    Raises:
      InputError: an unknown rule for attention.
    """
    if attention not in ATTENTION:
        raise InputError(f"attention = {attention!r}: {nearest(attention, ATTENTION)}")
    run = lambda tokens: measure(params, cfg, tokens, at, metric, positions)
    there, taken = taps.record(run, sites)(source)
    here = linearise(lambda: run(base), sites, rules(cfg, attention))
    effects = {s: first_order(s, taken[s] - here.activations[s], here.gradients[s], cfg) for s in sites}
    return Attribution(here.metric, there, effects)


def rules(cfg: TransformerConfig, attention: str = "frozen") -> Backward:
    """The rules as functions of sites: make them anew for each trace, since those of an MLP hand values to each other."""
    hold = lambda x, _: jax.lax.stop_gradient(x)
    halve = lambda x, _: _still(x) + 0.5 * (x - _still(x))
    norms = dict.fromkeys((site.name for site in sites_of(cfg) if site.name.endswith(".scale")), hold)
    # holding q and k holds the pattern, without making a model that attends in blocks build the whole of it
    held, halved = (("q", "k"), ()) if attention == "frozen" else ((), ("q", "k", "v", "pattern"))
    attn = {f"blocks.attn.{x}": hold for x in held} | {f"blocks.attn.{x}": halve for x in halved}
    return norms | attn | (_mlp_rules(cfg) if cfg.d_mlp else {})


def _mlp_rules(cfg: TransformerConfig) -> Backward:
    """Gradients go around the activation: its inputs are kept where they pass, and come back in at its output."""
    inputs: dict[str, Array] = {}

    def keep(name: str) -> Backward:
        def kept(x: Array, _: Array) -> Array:
            inputs[name] = x
            return _still(x)

        return {f"blocks.mlp.{name}": kept}

    def join(post: Array, _: Array) -> Array:
        pre = inputs["pre"]
        ratio = jnp.where(pre == 0, 0.0, _still(post) / jnp.where(pre == 0, 1.0, _still(pre)))
        through = ratio * (pre - _still(pre))
        if cfg.gated:
            other = inputs["pre_linear"]
            through = 0.5 * (through + _still(ACTIVATIONS[cfg.activation](pre)) * (other - _still(other)))
        return post + through.astype(post.dtype)

    return keep("pre") | (keep("pre_linear") if cfg.gated else {}) | {"blocks.mlp.post": join}


def _still(x: Array) -> Array:
    return jax.lax.stop_gradient(x)
