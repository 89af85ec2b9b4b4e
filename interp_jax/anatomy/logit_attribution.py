"""Direct logit attribution: how much each part of a model says for one token, or for one against another.

With ln_final's divisor frozen at its recorded value, logits are linear in the stream, and the stream is a sum of parts:

    logit[a] - logit[b] = Σ_parts part · direction + constant          direction = pull_back(W_U[:, a] - W_U[:, b])

so the sum over all parts is the true difference (of logits before their cap, where there is one). What a part does through
later layers is not counted: "direct". See Elhage et al. 2021; Wang et al. 2022, "Interpretability in the Wild".

Per head and per neuron the direction is pulled back through W_O and W_out first, so that nothing larger than the
recorded activation is made. Activations come from `taps.record(model, attribution_sites(cfg))`, with all layers.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from interp_jax.anatomy.decomposition import (
    Activations,
    check_is_sum,
    component_sites,
    final_norm,
    layer_norm_of,
    recorded,
    recorded_neurons,
)
from interp_jax.anatomy.frozen_norms import pull_back, shift
from interp_jax.models.bounds import check_rows
from interp_jax.models.transformer import Params, TransformerConfig, look_up


class Readout(NamedTuple):
    """What is read off the final stream: stream · direction + constant."""

    direction: Float[Array, "B P D"]
    constant: Float[Array, "B P"]


class HeadAttribution(NamedTuple):
    """`heads.sum(-1) + rest` is the attribution of `blocks.attn.out`."""

    heads: Float[Array, "L B P H"]
    rest: Float[Array, "L B P"]


class NeuronAttribution(NamedTuple):
    """`neurons.sum(-1) + rest` is the attribution of `blocks.mlp.out`."""

    neurons: Float[Array, "L B P M"]
    rest: Float[Array, "L B P"]


def attribution_sites(cfg: TransformerConfig) -> tuple[str, ...]:
    """The sites that are needed to attribute logits to components, heads and neurons."""
    neurons = ("blocks.mlp.post",) if cfg.d_mlp else ()
    norms = ("ln_final.scale",)
    if cfg.placement == "sandwich":
        norms += ("blocks.ln1_post.scale", "blocks.ln2_post.scale") if cfg.d_mlp else ("blocks.ln1_post.scale",)
    return (*component_sites(cfg), "blocks.attn.z", *neurons, *(norms if cfg.norm != "none" else ()))


def logit_readout(
    params: Params,
    acts: Activations,
    cfg: TransformerConfig,
    tokens: Int[Array, "#B #P"],
    others: Int[Array, "#B #P"] | None = None,
) -> Readout:
    """Reads, at every position, the logit of `tokens` less that of `others`; [B 1] asks for the same at all positions.

    Raises:
      InputError: no linear head; `ln_final.scale` was not recorded; a token beyond the vocabulary.
    """
    norm, scale = final_norm(params, acts, cfg)
    said, bias = _unembedding(params, cfg, tokens)
    if others is not None:
        said, bias = (x - y for x, y in zip((said, bias), _unembedding(params, cfg, others), strict=True))
    batch, positions = recorded(acts, "blocks.attn.out", cfg).shape[1:3]
    constant = (said * shift(norm)).sum(-1) + bias
    direction = pull_back(cfg.norm_rule, norm, scale, said)
    return Readout(
        jnp.broadcast_to(direction, (batch, positions, direction.shape[-1])),
        jnp.broadcast_to(constant, (batch, positions)),
    )


def attribute(parts: Float[Array, "*C B P D"], readout: Readout) -> Float[Array, "*C B P"]:
    """What each part of the stream adds to the readout; with `readout.constant`, `components` sum to all of it."""
    return jnp.einsum("...bpd,bpd->...bp", parts, readout.direction, precision="highest")


def attribute_heads(params: Params, acts: Activations, cfg: TransformerConfig, readout: Readout) -> HeadAttribution:
    """What each head adds to the readout.

    Raises:
      InputError: an activation that was not recorded at all layers.
    """
    z, attn = recorded(acts, "blocks.attn.z", cfg), params["blocks"]["attn"]
    direction, rest = _at_layers(params, acts, cfg, readout, "ln1_post", attn.get("b_O"))
    read = jnp.einsum("lhed,lbpd->lbphe", attn["W_O"], direction, precision="highest")
    return HeadAttribution((z * read).sum(-1), rest)


def attribute_neurons(
    params: Params, acts: Activations, cfg: TransformerConfig, readout: Readout
) -> NeuronAttribution:
    """What each neuron adds to the readout.

    Raises:
      InputError: an activation that was not recorded at all layers, or a model without MLPs.
    """
    post, mlp = recorded_neurons(acts, cfg), params["blocks"]["mlp"]
    direction, rest = _at_layers(params, acts, cfg, readout, "ln2_post", mlp.get("b_out"))
    return NeuronAttribution(post * jnp.einsum("lmd,lbpd->lbpm", mlp["W_out"], direction, precision="highest"), rest)


def _unembedding(params: Params, cfg: TransformerConfig, tokens: Int[Array, "#B #P"]) -> tuple[Array, Array]:
    """Columns of W_U [#B #P D] and entries of b_U [#B #P]."""
    check_rows(params, tokens, cfg)
    table = params["embed"]["W_E"] if cfg.tied else params["unembed"]["W_U"].T
    bias = params["unembed"].get("b_U", jnp.zeros(table.shape[0], table.dtype))
    return look_up(table, tokens), look_up(bias[:, None], tokens)[..., 0]


def _at_layers(
    params: Params, acts: Activations, cfg: TransformerConfig, readout: Readout, name: str, bias: Array | None
) -> tuple[Float[Array, "L B P D"], Float[Array, "L B P"]]:
    """The direction in which the readout reads a layer's output before the norm on it, if any, and what its constants say."""
    check_is_sum(cfg)
    direction = jnp.broadcast_to(readout.direction, (cfg.n_layers, *readout.direction.shape))
    rest = jnp.zeros(direction.shape[:3], direction.dtype)
    if cfg.placement == "sandwich" and cfg.norm != "none":
        norm, scale = layer_norm_of(params, acts, cfg, name)
        rest = (direction * shift(norm)).sum(-1)
        direction = pull_back(cfg.norm_rule, norm, scale, direction)
    return direction, rest if bias is None else rest + (direction * bias[:, None, None]).sum(-1)
