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

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array

from interp_jax.errors import InputError, nearest
from interp_jax.models.config import ACTIVATIONS, TransformerConfig
from interp_jax.models.sites import sites as sites_of
from interp_jax.patching.attribution.linearisation import Backward, linearise
from interp_jax.patching.attribution.runs import Estimate, Runs
from interp_jax.patching.attribution.sites import first_order

ATTENTION = ("frozen", "half")


@dataclasses.dataclass(frozen=True)
class Relevance:
    """Effects by one backward pass under the rules: a method of `attribute`.

    Raises:
      InputError: an unknown rule for attention.
    """

    attention: str = "frozen"

    def __post_init__(self) -> None:
        if self.attention not in ATTENTION:
            raise InputError(f"attention = {self.attention!r}: {nearest(self.attention, ATTENTION)}")

    def __call__(self, runs: Runs, sites: tuple[str, ...]) -> Estimate:
        """Effects of all nodes of `sites`."""
        (there, taken), backward = runs.recorded_source(sites), rules(runs.cfg, self.attention)
        here = linearise(runs.base, sites, backward)
        effects = {s: first_order(s, taken[s] - here.activations[s], here.gradients[s], runs.cfg) for s in sites}
        return Estimate(here.metric, there, effects)


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
