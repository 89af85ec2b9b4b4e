"""Weight processing: other weights for the same function, in which circuits are easier to read (Elhage et al. 2021).

    fold_norms               (n·g + s) W + b  =  n (g W) + (b + s W)         g, s: the weight and shift of a norm before W
    center_writing_weights   norm(x + c 1) = norm(x): what is written along the all-ones direction is never read
    center_unembed           softmax(l + c 1) = softmax(l)
    fold_value_biases        Σ_k pattern_qk (v_k + b_V) = Σ_k pattern_qk v_k + b_V, as the rows of a pattern sum to 1

Each is a pure function `(params, cfg) -> (params, cfg)`, can be jitted with `cfg` static, and leaves logits as they were
within float error; `center_unembed` moves all logits of a row alike, and so leaves their log-softmax. They compose; fold
norms before value biases, as the shift of a norm makes new ones. The tree that is returned is always that of `init` of the
config that is returned: a tied model whose W_U must differ from W_E is untied, and where a bias is made in a model that had
none, all biases of its kind are there, as zeros. What a model does not allow is refused: each function says why.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax.errors import InputError
from interp_jax.models.config import TransformerConfig
from interp_jax.models.initialisation import Params, init

Processed = tuple[Params, TransformerConfig]


def fold_norms(params: Params, cfg: TransformerConfig) -> Processed:
    """Move the weights and shifts of ln1, ln2 and ln_final into the matrices that read them; the norms only normalise then.

    The norms on outputs ("sandwich") and those of embeddings, queries and keys stay: no matrix follows them.

    Raises:
      InputError: post-norms, which the stream itself goes through; "shortformer" positions, which are added between the
        norm and W_Q, so that a folded weight would scale them too.
    """
    _refuse_where(
        cfg, "placement", cfg.placement == "post", "what its norms put out is the stream, so they do not fold"
    )
    shortformer = cfg.positions == "shortformer" and cfg.norm != "none"
    _refuse_where(
        cfg, "positions", shortformer, "W_pos is added after ln1, so that ln1 does not fold into W_Q and W_K"
    )
    if cfg.norm == "none":
        return params, cfg
    params, cfg = untie(params, cfg)
    if cfg.norm == "layer":
        params, cfg = add_biases(params, cfg, "all")
    blocks, offset = params["blocks"], cfg.norm_offset
    folded = {"attn": _fold(blocks["ln1"], offset, blocks["attn"], "QKV"), "ln1": _neutral(blocks["ln1"], offset)}
    if cfg.d_mlp:
        readers = ("in", "gate") if cfg.gated else ("in",)
        folded |= {"mlp": _fold(blocks["ln2"], offset, blocks["mlp"], readers), "ln2": _neutral(blocks["ln2"], offset)}
    params = params | {"blocks": blocks | folded}
    if cfg.head != "none":
        params["unembed"] = _fold(params["ln_final"], offset, params["unembed"], "U")
        params["ln_final"] = _neutral(params["ln_final"], offset)
    return params, cfg


def center_writing_weights(params: Params, cfg: TransformerConfig) -> Processed:
    """Take the mean over D out of everything that is added to the stream, whose mean over D is 0 from then on.

    Raises:
      InputError: where something reads the mean, or a norm stands between the weights and the stream.
    """
    _refuse_where(cfg, "norm", cfg.norm != "layer", "only layer norm takes the mean of the stream away")
    _refuse_where(cfg, "placement", cfg.placement != "pre", "its norms write to the stream with a mean of their own")
    _refuse_where(cfg, "embed_norm", cfg.embed_norm, "that norm writes to the stream with a mean of its own")
    _refuse_where(cfg, "head", cfg.head != "linear", "the stream's mean is read where no norm stands before")
    params, cfg = untie(params, cfg)
    tables = ("W_E", "W_type", "W_pos") if cfg.positions == "learned" else ("W_E", "W_type")
    blocks = params["blocks"]
    centred = {"attn": _center(blocks["attn"], ("W_O", "b_O"))}
    if cfg.d_mlp:
        centred["mlp"] = _center(blocks["mlp"], ("W_out", "b_out"))
    return params | {"embed": _center(params["embed"], tables), "blocks": blocks | centred}, cfg


def center_unembed(params: Params, cfg: TransformerConfig) -> Processed:
    """Take the mean over V out of W_U and b_U: the logits of a row have mean 0, and their log-softmax is as before.

    Raises:
      InputError: a cap on logits, under which a common shift matters; a model without logits.
    """
    _refuse_where(cfg, "logit_cap", bool(cfg.logit_cap), "a capped logit does not shift with the others")
    _refuse_where(cfg, "head", cfg.head == "none", "there is no W_U")
    params, cfg = untie(params, cfg)
    return params | {"unembed": _center(params["unembed"], ("W_U", "b_U"))}, cfg


def fold_value_biases(params: Params, cfg: TransformerConfig) -> Processed:
    """b_O += Σ_h b_V[group of h] W_O[h], and b_V = 0; for every member of the family."""
    if "b_V" not in params["blocks"]["attn"]:
        return params, cfg
    if cfg.biases == "qkv":
        params, cfg = add_biases(params, cfg, "layers")
    attn = params["blocks"]["attn"]
    per_head = jnp.repeat(attn["b_V"], cfg.n_heads // cfg.n_groups, axis=1)
    said = jnp.einsum("lhe,lhed->ld", per_head, attn["W_O"], precision="highest")
    attn = attn | {"b_O": attn["b_O"] + said, "b_V": jnp.zeros_like(attn["b_V"])}
    return params | {"blocks": params["blocks"] | {"attn": attn}}, cfg


def untie(params: Params, cfg: TransformerConfig) -> Processed:
    """The same model with a W_U of its own."""
    if not cfg.tied or cfg.head == "none":
        return params, cfg
    unembed = params["unembed"] | {"W_U": params["embed"]["W_E"].T}
    return params | {"unembed": unembed}, dataclasses.replace(cfg, tied=False)


def add_biases(params: Params, cfg: TransformerConfig, biases: str) -> Processed:
    """The same model with zeros for the biases that `model.biases = biases` names and that it did not have."""
    cfg = dataclasses.replace(cfg, biases=biases)
    shapes = jax.eval_shape(lambda: init(jax.random.key(0), cfg))
    return _fill(params, shapes, params["embed"]["W_E"].dtype), cfg


def _fill(params: Params, shapes: Params, dtype: jnp.dtype) -> Params:
    filled = dict(params)
    for name, shape in shapes.items():
        if isinstance(shape, dict):
            filled[name] = _fill(params[name], shape, dtype)
        elif name.startswith("b_") and name not in params:
            filled[name] = jnp.zeros(shape.shape, dtype)
    return filled


def _fold(norm: Params, offset: float, readers: Params, names: tuple[str, ...] | str) -> Params:
    """`readers` with `norm` folded into W_name and b_name; norm [*L D], weights [*L *heads D N], biases [*L *heads N]."""
    folded = dict(readers)
    for name in names:
        weight = readers[f"W_{name}"]
        folded[f"W_{name}"] = weight * _rows(norm["w"] + offset, weight)
        if "b" in norm:
            folded[f"b_{name}"] = readers[f"b_{name}"] + (weight * _rows(norm["b"], weight)).sum(-2)
    return folded


def _rows(values: Float[Array, "*L D"], weight: Float[Array, "..."]) -> Float[Array, "..."]:
    """`values`, one per row of each matrix of `weight`, as a factor on it."""
    heads = (1,) * (weight.ndim - values.ndim - 1)
    return values.reshape(*values.shape[:-1], *heads, values.shape[-1], 1)


def _neutral(norm: Params, offset: float) -> Params:
    """A norm of the same shape that only normalises."""
    weight = {"w": jnp.full_like(norm["w"], 1.0 - offset)}
    return weight | {"b": jnp.zeros_like(norm["b"])} if "b" in norm else weight


def _center(weights: Params, names: tuple[str, ...]) -> Params:
    """`weights` with the mean over the last axis taken out of those of `names` that are there."""
    return weights | {n: weights[n] - weights[n].mean(-1, keepdims=True) for n in names if n in weights}


def _refuse_where(cfg: TransformerConfig, field: str, holds: bool, reason: str) -> None:
    if holds:
        raise InputError(f"model.{field} = {getattr(cfg, field)!r}: {reason}")
