"""The stream as a sum (Elhage et al. 2021): what each part of a model added to it, from recorded activations.

    stream = embed (+ type_embed) (+ pos_embed) + Σ_l attn.out[l] + Σ_l mlp.out[l]                     components
    attn.out[l] = Σ_h z[l, h] W_O[l, h] + b_O[l]                                                       head_outputs
    mlp.out[l] = Σ_m post[l, m] W_out[l, m] + b_out[l]                                                 neuron_outputs

The sums are exact but for float error; what no head and no neuron said is in `rest`. Where a norm stands between a part and
the stream (a norm of embeddings, "sandwich"), the part is what is left of it after that norm with its divisor frozen, and
the norm's shift is in `rest`. Models with post-norms have no such sum: every layer rescales all that was there before.

Activations come from `taps.record(model, component_sites(cfg))`, with all layers.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax.anatomy.frozen_norms import apply_frozen, shift
from interp_jax.errors import InputError
from interp_jax.models.transformer import Params, TransformerConfig

Activations = Mapping[str, Array]


class HeadOutputs(NamedTuple):
    """What attention added to the stream: `heads.sum(3) + rest` is `blocks.attn.out`."""

    heads: Float[Array, "L B P H D"]
    rest: Float[Array, "L B P D"]


class NeuronOutputs(NamedTuple):
    """What MLPs added to the stream: `neurons.sum(3) + rest` is `blocks.mlp.out`."""

    neurons: Float[Array, "L B P M D"]
    rest: Float[Array, "L B P D"]


def component_sites(cfg: TransformerConfig) -> tuple[str, ...]:
    """The sites that `components` reads."""
    embed = ("embed", *(["type_embed"] if cfg.d_types else []), *(["pos_embed"] if cfg.positions == "learned" else []))
    norm = ("ln_embed.scale",) if cfg.embed_norm and cfg.norm != "none" else ()
    return embed + norm + ("blocks.attn.out",) + (("blocks.mlp.out",) if cfg.d_mlp else ())


def component_names(cfg: TransformerConfig) -> tuple[str, ...]:
    """Names of the components in order: those of the embedding, then attention and MLP layer by layer."""
    embed = tuple(site for site in component_sites(cfg) if site.endswith("embed"))
    parts = ("attn.out", "mlp.out") if cfg.d_mlp else ("attn.out",)
    layers = tuple(f"blocks.{layer}.{part}" for layer in range(cfg.n_layers) for part in parts)
    return embed + (("ln_embed.b",) if _embeddings_are_shifted(cfg) else ()) + layers


def components(params: Params, acts: Activations, cfg: TransformerConfig) -> Float[Array, "C B P D"]:
    """All that was added to the stream, in the order of `component_names`; the sum over C is the stream after the layers.

    Raises:
      InputError: post-norms; an activation that was not recorded at all layers.
    """
    check_is_sum(cfg)
    attn = recorded(acts, "blocks.attn.out", cfg)
    layers = [attn, recorded(acts, "blocks.mlp.out", cfg)] if cfg.d_mlp else [attn]
    by_layer = jnp.stack(layers, axis=1).reshape(-1, *attn.shape[1:])
    embedded = [jnp.broadcast_to(x, attn.shape[1:]) for x in _embeddings(params, acts, cfg)]
    return jnp.concatenate([jnp.stack(embedded), by_layer])


def accumulate(parts: Float[Array, "C *rows"]) -> Float[Array, "C *rows"]:
    """The stream after each component: `parts` summed up to and including it."""
    return jnp.cumsum(parts, axis=0)


def head_outputs(params: Params, acts: Activations, cfg: TransformerConfig) -> HeadOutputs:
    """What each head added to the stream, H times as large as a stream; needs `blocks.attn.z`.

    Raises:
      InputError: as `components`.
    """
    check_is_sum(cfg)
    z, attn = recorded(acts, "blocks.attn.z", cfg), params["blocks"]["attn"]
    heads = jnp.einsum("lbphe,lhed->lbphd", z, attn["W_O"], precision="highest")
    heads, rest = _after_norm(params, acts, cfg, "ln1_post", heads, attn.get("b_O"))
    return HeadOutputs(heads, rest)


def neuron_outputs(params: Params, acts: Activations, cfg: TransformerConfig) -> NeuronOutputs:
    """What each neuron added to the stream, M times as large as a stream: for few rows; needs `blocks.mlp.post`.

    Raises:
      InputError: as `components`; a model without MLPs.
    """
    check_is_sum(cfg)
    post, mlp = recorded_neurons(acts, cfg), params["blocks"]["mlp"]
    neurons = post[..., None] * mlp["W_out"][:, None, None]
    neurons, rest = _after_norm(params, acts, cfg, "ln2_post", neurons, mlp.get("b_out"))
    return NeuronOutputs(neurons, rest)


def freeze_final_norm(
    params: Params, acts: Activations, cfg: TransformerConfig, parts: Float[Array, "*C B P D"]
) -> Float[Array, "*C B P D"]:
    """Parts of the stream after ln_final, its divisor frozen: their sum, with ln_final's b, is what W_U reads.

    Raises:
      InputError: no linear head; `ln_final.scale` was not recorded.
    """
    return apply_frozen(cfg.norm_rule, *final_norm(params, acts, cfg), parts)


def final_norm(params: Params, acts: Activations, cfg: TransformerConfig) -> tuple[Params, Array]:
    """Weights and recorded divisor [B P 1] of ln_final; the divisor is 1 where nothing is normalised."""
    if cfg.head != "linear":
        raise InputError(
            f"model.head = {cfg.head!r}: ln_final does not normalise the stream, so its parts do not add up"
        )
    return params["ln_final"], recorded(acts, "ln_final.scale", cfg) if cfg.norm != "none" else jnp.ones(())


def layer_norm_of(
    params: Params, acts: Activations, cfg: TransformerConfig, name: str
) -> tuple[Params, Float[Array, "L B P 1"]]:
    """Weights [L 1 1 D] and recorded divisors of one of the layers' norms."""
    weights = jax.tree.map(lambda w: w[:, None, None], params["blocks"][name])
    return weights, recorded(acts, f"blocks.{name}.scale", cfg)


def recorded(acts: Activations, site: str, cfg: TransformerConfig) -> Array:
    """The activation at a site, with all layers.

    Raises:
      InputError: the site or some of its layers were not recorded.
    """
    if site not in acts:
        raise InputError(f"{site!r} is needed and was not recorded: record {{{site!r}: ...}}")
    if site.startswith("blocks.") and acts[site].shape[0] != cfg.n_layers:
        raise InputError(
            f"{site!r} is needed at all {cfg.n_layers} layers, got {acts[site].shape[0]}: record with ..."
        )
    return acts[site]


def recorded_neurons(acts: Activations, cfg: TransformerConfig) -> Float[Array, "L B P M"]:
    """`blocks.mlp.post`; errors are those of `recorded`."""
    if not cfg.d_mlp:
        raise InputError("model.d_mlp = 0: a model without MLPs has no neurons")
    return recorded(acts, "blocks.mlp.post", cfg)


def check_is_sum(cfg: TransformerConfig) -> None:
    """Raise `InputError` where the stream is not a sum of what the parts of the model said."""
    if cfg.placement == "post":
        raise InputError(
            "model.placement = 'post': norms rescale the stream after each layer, so it is not a sum of parts"
        )


def _embeddings_are_shifted(cfg: TransformerConfig) -> bool:
    return cfg.embed_norm and cfg.norm == "layer"


def _embeddings(params: Params, acts: Activations, cfg: TransformerConfig) -> list[Array]:
    """What the stream begins with, in parts."""
    parts = [recorded(acts, site, cfg) for site in component_sites(cfg) if site.endswith("embed")]
    if not cfg.embed_norm or cfg.norm == "none":
        return parts
    norm = params["embed"]["ln"]
    parts = [apply_frozen(cfg.norm_rule, norm, recorded(acts, "ln_embed.scale", cfg), x) for x in parts]
    return [*parts, shift(norm)] if _embeddings_are_shifted(cfg) else parts


def _after_norm(
    params: Params, acts: Activations, cfg: TransformerConfig, name: str, parts: Array, bias: Array | None
) -> tuple[Array, Array]:
    """Parts [L B P N D] of a layer's output and the bias [L D] that goes with them, after the norm on outputs, if any."""
    rest = jnp.zeros(()) if bias is None else bias[:, None, None]
    rest = jnp.broadcast_to(rest, (*parts.shape[:3], parts.shape[4])).astype(parts.dtype)
    if cfg.placement != "sandwich" or cfg.norm == "none":
        return parts, rest
    norm, scale = layer_norm_of(params, acts, cfg, name)
    per_part = jax.tree.map(lambda w: w[:, :, :, None], norm)
    rest = apply_frozen(cfg.norm_rule, norm, scale, rest) + shift(norm)
    return apply_frozen(cfg.norm_rule, per_part, scale[..., None], parts), rest
