"""The same from our side: one compiled program gives the output, every site, and gradients at the stream."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax import taps
from interp_jax.models import transformer
from interp_jax.models.config import TransformerConfig
from interp_jax.models.sites import sites
from interp_jax.taps.edits import Edit
from third_party.huggingface.parity.batches import Batch, projection

STREAM = ("blocks.resid_pre", "blocks.resid_post")
GRADIENT = "gradient of "
NOT_SHOWN = ("blocks.attn.result",)  # by the reference


class Run(NamedTuple):
    """What a model gave, ours or the reference.

    Attributes:
      output: [B P V] logits, or [B P D] the stream of a model without.
      sites: by name, with layers stacked; gradients at the stream under `GRADIENT` and its name.
    """

    output: np.ndarray
    sites: dict[str, np.ndarray]


def model(params: Any, tokens: Any, cfg: TransformerConfig, positions: Any, types: Any) -> Any:
    """Logits, or the stream of a model without."""
    function = transformer.stream if cfg.head == "none" else transformer.apply
    return function(params, tokens, cfg, positions, types if cfg.d_types else None)


@functools.partial(jax.jit, static_argnums=2)
def output(params: Any, tokens: Any, cfg: TransformerConfig, positions: Any, types: Any) -> Any:
    """The output alone."""
    return model(params, tokens, cfg, positions, types)


def forward(params: Any, batch: Batch, cfg: TransformerConfig) -> np.ndarray:
    """The output of a batch."""
    return np.asarray(output(params, batch.tokens, cfg, batch.positions, batch.types))


@functools.partial(jax.jit, static_argnums=2)
def _everything(params: Any, tokens: Any, cfg: TransformerConfig, positions: Any, types: Any, weight: Any) -> Any:
    names = [site.name for site in sites(cfg) if site.name not in NOT_SHOWN]
    dtype = params["embed"]["W_E"].dtype
    nothing = jnp.zeros((cfg.n_layers, *tokens.shape, cfg.d_model), dtype)

    def scalar(added: Any) -> Any:
        edits = {site: Edit("add", value) for site, value in added.items()}
        result, seen = taps.edit(taps.record(model, names))(edits, params, tokens, cfg, positions, types)
        return (result * weight).sum(), (result, seen)

    gradients, (result, seen) = jax.grad(scalar, has_aux=True)(dict.fromkeys(STREAM, nothing))
    return result, seen | {GRADIENT + site: value for site, value in gradients.items()}


def run(params: Any, batch: Batch, cfg: TransformerConfig) -> Run:
    """Everything."""
    width = cfg.d_model if cfg.head == "none" else cfg.d_vocab
    weight = projection((*batch.tokens.shape, width)) * batch.real[..., None]
    weight = jnp.asarray(weight, params["embed"]["W_E"].dtype)
    result, seen = _everything(params, batch.tokens, cfg, batch.positions, batch.types, weight)
    return Run(np.asarray(result), {name: np.asarray(value) for name, value in seen.items()})
