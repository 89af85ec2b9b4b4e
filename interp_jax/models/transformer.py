"""The transformer family: decoders and encoders, attention-only or with MLPs (Vaswani et al. 2017; Elhage et al. 2021).

    x  = W_E[tokens] (+ W_pos[positions]) (+ W_type[types])
    x += attention(norm(x));   x += W_out act(W_in norm(x) + b_in) + b_out         per layer, norms placed before ("pre")
    logits = norm(x) W_U + b_U

`embed`, `blocks` and `unembed` are the whole model: `apply` and generation compose them, and nothing else evaluates a block.
How members of the family differ is said in `config.py`. Positions are "learned" (added to the stream), "shortformer" (added
to what queries and keys read, so that the stream carries none: Press et al. 2020), "rotary", "relative" (a learned score per
head and distance) or "none". Parameters of layers are stacked on a leading L axis and scanned. The sites are in `sites.py`.

Positions of rows are 0, 1, … unless they are given; -1 marks padding, which is neither seen nor cached. On either side of
real tokens it changes none of their values; what comes out at a row of padding means nothing. An id or position beyond a
table raises where it is concrete, and inside `jit`, where nothing can be raised, makes its sequence NaN.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Integer

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.models.attention import Cache, Prefix, Rows, attention, cap, take
from interp_jax.models.bounds import check_rows
from interp_jax.models.config import ACTIVATIONS, Ids, LayerData, Places, TransformerConfig, layer_data
from interp_jax.models.initialisation import Params, init
from interp_jax.models.norms import apply_norm

__all__ = ["Params", "TransformerConfig", "apply", "blocks", "embed", "init", "init_cache", "stream", "unembed"]


def apply(
    params: Params,
    tokens: Ids,
    cfg: TransformerConfig,
    positions: Places | None = None,
    types: Places | None = None,
) -> Float[Array, "B P V"]:
    """Logits at every position; of the next token where the model is causal.

    Raises:
      InputError: a token, position or type beyond the model's tables, or a model without logits.
    """
    return unembed(params, stream(params, tokens, cfg, positions, types), cfg)


def stream(
    params: Params,
    tokens: Ids,
    cfg: TransformerConfig,
    positions: Places | None = None,
    types: Places | None = None,
    stop_layer: int | None = None,
) -> Float[Array, "B P D"]:
    """The stream after the last layer, or before layer `stop_layer`; other arguments and errors are those of `apply`."""
    check_rows(params, tokens, cfg, positions, types)
    x = embed(params, tokens, cfg, positions, types)
    return blocks(params, x, cfg, positions=positions, stop_layer=stop_layer)[0]


def embed(
    params: Params,
    tokens: Ids,
    cfg: TransformerConfig,
    positions: Places | None = None,
    types: Places | None = None,
) -> Float[Array, "B P D"]:
    """The stream before the first layer; `positions` are 0, 1, … by default, `types` 0."""
    tables = params["embed"]
    x = look_up(tables["W_E"], tokens)
    x = taps.tap(x * jnp.asarray(cfg.embed_scale, x.dtype) if cfg.embed_scale != 1 else x, "embed")
    if cfg.d_types:
        types = jnp.zeros((1, 1), jnp.int32) if types is None else types
        x = x + taps.tap(jnp.broadcast_to(look_up(tables["W_type"], types), x.shape), "type_embed")
    if cfg.positions == "learned":
        x = x + position_vectors(params, tokens.shape[1], positions)
    return apply_norm(cfg.norm_rule, tables["ln"], x, "ln_embed") if cfg.embed_norm else x


def position_vectors(params: Params, n_rows: int, positions: Places | None) -> Float[Array, "#B P D"]:
    """Rows of W_pos, the first for padding."""
    positions = in_order(n_rows) if positions is None else positions
    return taps.tap(look_up(params["embed"]["W_pos"], jnp.maximum(positions, 0)), "pos_embed")


def look_up(table: Float[Array, "N ..."], index: Integer[Array | np.ndarray, "..."]) -> Float[Array, "..."]:
    """Rows of a table, NaN beyond its ends."""
    return table.at[jnp.asarray(index)].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


def in_order(n_positions: int) -> Int[Array, "1 P"]:
    """0, 1, …, P-1."""
    return jnp.arange(n_positions, dtype=jnp.int32)[None]


def blocks(
    params: Params,
    x: Float[Array, "B P D"],
    cfg: TransformerConfig,
    first_layer: ArrayLike = 0,
    cache: Cache | Prefix | None = None,
    positions: Places | Rows | None = None,
    stop_layer: ArrayLike | None = None,
    read: Int[Array, "#B N"] | None = None,
) -> tuple[Float[Array, "B N D"], Any]:
    """The stream after layers first_layer … stop_layer - 1 (by default the last one), and the cache with these rows written.

    Args:
      params: of the model.
      x: the stream before the first of these layers.
      cfg: of the model.
      first_layer: may be traced; then only so many layers run, without reverse-mode derivative.
      cache: of all layers; of a `Prefix` only the keys and values are read.
      positions: 0, 1, … by default; -1 marks padding; `Rows` say in full what sees what.
      stop_layer: after the last of these layers; may be traced.
      read: of a single layer, the rows that go on: others are only looked at.

    Raises:
      InputError: a cache for a model that is not causal, or `read` for several layers.
    """
    if cache is not None and not cfg.causal:
        raise InputError("a model that is not causal has no cache: what comes later changes what was before")
    stop_layer = cfg.n_layers if stop_layer is None else stop_layer
    if read is not None and not (isinstance(first_layer, int) and first_layer == stop_layer - 1):
        raise InputError(f"read is for one layer; layers {first_layer} to {stop_layer - 1} were asked for")
    rows = rows_of(x.shape[1], positions)
    shift = position_shift(params, x.shape[1], cfg, rows.positions)

    def block(x: Array, layer: tuple[Params, LayerData, Any]) -> tuple[Array, Any]:
        weights, data, cache = layer
        x = taps.tap(x, "blocks.resid_pre")
        x_qk, x_v = attention_inputs(weights, x, cfg, data, shift)
        out, cache = attention(weights["attn"], x_qk, x_v, cfg, data, rows, cache, read)
        if cfg.placement == "sandwich":
            out = normalise(weights, out, cfg, "ln1_post")
        out = taps.tap(out, "blocks.attn.out")
        return add_mlp(weights, x if read is None else take(x, read), out, cfg), cache

    layers, span = (params["blocks"], layer_data(cfg, x.dtype), cache), {"first": first_layer, "stop": stop_layer}
    if read is None:
        return taps.scan(block, x, layers, **span)
    _, (x, cache) = taps.scan(lambda _, layer: (None, block(x, layer)), None, layers, **span)  # x changes its shape
    return x[0], cache


def rows_of(n_rows: int, positions: Places | Rows | None) -> Rows:
    """What the rows of a stream see: the default is one sequence, in order."""
    if isinstance(positions, Rows):
        return positions
    return Rows(in_order(n_rows) if positions is None else positions, positions is None)


def attention_inputs(
    weights: Params, x: Float[Array, "B P D"], cfg: TransformerConfig, data: LayerData, shift: Any
) -> tuple[Float[Array, "B P D"], Float[Array, "B P D"]]:
    """What queries and keys read of a stream, and what values read."""
    y = normalise(weights, x, cfg, "ln1") if cfg.placement != "post" else x
    return y + shift * data.sees_positions, y


def position_shift(params: Params, n_rows: int, cfg: TransformerConfig, positions: Places) -> Any:
    """What positions add to what queries and keys read; 0 but for "shortformer"."""
    return position_vectors(params, n_rows, positions) if cfg.positions == "shortformer" else 0.0


def normalise(weights: Params, x: Float[Array, "B P D"], cfg: TransformerConfig, name: str) -> Float[Array, "B P D"]:
    """One of a layer's norms."""
    return apply_norm(cfg.norm_rule, weights[name], x, f"blocks.{name}")


def add_mlp(
    weights: Params, x: Float[Array, "B P D"], out: Float[Array, "B P D"], cfg: TransformerConfig
) -> Float[Array, "B P D"]:
    """The stream after the layer, from the stream before it and what attention adds."""
    mid = x + out
    if cfg.placement == "post":
        mid = normalise(weights, mid, cfg, "ln1")
    if cfg.d_mlp:
        if not cfg.parallel:
            mid = x = taps.tap(mid, "blocks.resid_mid")
        y = normalise(weights, x, cfg, "ln2") if cfg.placement != "post" else x
        y = mlp(weights["mlp"], y, cfg)
        if cfg.placement == "sandwich":
            y = normalise(weights, y, cfg, "ln2_post")
        mid = mid + taps.tap(y, "blocks.mlp.out")
        if cfg.placement == "post":
            mid = normalise(weights, mid, cfg, "ln2")
    return taps.tap(mid, "blocks.resid_post")


def mlp(params: Params, x: Float[Array, "B P D"], cfg: TransformerConfig) -> Float[Array, "B P D"]:
    """W_out act(W_in x + b_in) + b_out, or W_out (act(W_gate x + b_gate) · (W_in x + b_in)) + b_out."""
    x = taps.tap(x, "blocks.mlp.in")
    linear = add(x @ params["W_in"], params.get("b_in"))
    act = ACTIVATIONS[cfg.activation]
    if cfg.gated:
        pre = taps.tap(add(x @ params["W_gate"], params.get("b_gate")), "blocks.mlp.pre")
        post = act(pre) * taps.tap(linear, "blocks.mlp.pre_linear")
    else:
        post = act(taps.tap(linear, "blocks.mlp.pre"))
    return add(taps.tap(post, "blocks.mlp.post") @ params["W_out"], params.get("b_out"))


def unembed(
    params: Params, rows: Float[Array, "*rows D"], cfg: TransformerConfig, tokens: Int[Array, "*rows N"] | None = None
) -> Float[Array, "*rows V"]:
    """Logits of any rows of the final stream: of all tokens, or of each row's own `tokens` alone, in their order.

    Raises:
      InputError: the model has none.
    """
    if cfg.head == "none":
        raise InputError("this model has no logits (model.head = 'none'): use `stream`")
    if cfg.head == "mlm":
        rows = ACTIVATIONS[cfg.activation](rows @ params["unembed"]["W_head"] + params["unembed"]["b_head"])
    rows = apply_norm(cfg.norm_rule, params["ln_final"], rows, "ln_final")
    rows = taps.tap(rows, "unembed.in")
    weight, bias = params["embed"]["W_E"].T if cfg.tied else params["unembed"]["W_U"], params["unembed"].get("b_U")
    if tokens is None:
        said = add(rows @ weight, bias)
    else:
        said = jnp.einsum("...d,...nd->...n", rows, look_up(weight.T, tokens))
        said = add(said, None if bias is None else look_up(bias, tokens))
    return taps.tap(cap(said, cfg.logit_cap), "logits")


def add(x: Float[Array, "..."], bias: Float[Array, "..."] | None) -> Float[Array, "..."]:
    """`x + bias`, where there is one."""
    return x if bias is None else x + bias


def init_cache(cfg: TransformerConfig, batch: int, slots: int, dtype: Any = jnp.float32) -> Cache:
    """An empty cache: nothing in it is visible until a row is written there, as slot = position."""
    shape = (cfg.n_layers, batch, slots, cfg.n_groups, cfg.d_head)
    return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
