"""The transformer family: decoders with pre-norms, attention-only or with MLPs (Vaswani et al. 2017; Elhage et al. 2021).

    x  = W_E[tokens] (+ W_pos[positions])
    x += attention(norm(x));   x += W_out act(W_in norm(x) + b_in) + b_out         per layer
    logits = norm(x) W_U + b_U

`embed`, `blocks` and `unembed` are the whole model: `apply` and generation compose them, and nothing else evaluates a block.
Positions are "learned" (added to the stream), "shortformer" (added to what queries and keys read, so that the stream carries
none: Press et al. 2020), "rotary", "relative" (a learned score per head and distance) or "none". Parameters of layers are
stacked on a leading L axis and scanned. The sites it taps are listed in `sites.py`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from interp_jax import taps
from interp_jax.errors import InputError, nearest
from interp_jax.models.attention import Cache, attention
from interp_jax.models.norms import NORMS, apply_norm, init_norm
from interp_jax.parts import part

Params = dict[str, Any]

POSITIONS = ("learned", "shortformer", "rotary", "relative", "none")
ACTIVATIONS = {"gelu": jax.nn.gelu, "relu": jax.nn.relu}  # gelu in its tanh form


@part
class TransformerConfig:
    """A member of the family; all fields are static.

    Attributes:
      d_mlp: width of the MLPs; 0 makes the model attention-only.
      n_kv_heads: key/value heads G, a divisor of `n_heads`; 0 means as many as heads.
      position_layers: the first so many layers see positions, those above them only content (0: all layers see them).
      query_key_gain: factor on the initial W_Q and W_K; above 1, attention starts less uniform.
    """

    n_layers: int = 2
    d_model: int = 128
    n_heads: int = 8
    n_kv_heads: int = 0
    d_head: int = 16
    d_mlp: int = 0
    d_vocab: int = 512
    n_context: int = 256
    activation: str = "gelu"
    norm: str = "layer"
    norm_eps: float = 1e-5
    positions: str = "shortformer"
    position_layers: int = 0
    rotary_base: float = 10_000.0
    tied: bool = False
    biases: bool = True
    query_key_gain: float = 1.0

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        for name in ("n_layers", "d_model", "n_heads", "d_head", "d_vocab", "n_context"):
            if getattr(self, name) < 1:
                raise InputError(f"model.{name} = {getattr(self, name)}: must be at least 1")
        for name in ("n_kv_heads", "d_mlp", "position_layers"):
            if getattr(self, name) < 0:
                raise InputError(f"model.{name} = {getattr(self, name)}: must be at least 0")
        for name, known in (("norm", NORMS), ("positions", POSITIONS), ("activation", tuple(ACTIVATIONS))):
            if getattr(self, name) not in known:
                raise InputError(f"model.{name} = {getattr(self, name)!r}: {nearest(getattr(self, name), known)}")
        if self.n_heads % self.n_groups:
            raise InputError(f"model.n_kv_heads = {self.n_kv_heads}: must divide model.n_heads = {self.n_heads}")
        if self.positions == "rotary" and self.d_head % 2:
            raise InputError(f"model.d_head = {self.d_head}: rotary positions turn pairs, so it must be even")

    @property
    def n_groups(self) -> int:
        """Key/value heads G."""
        return self.n_kv_heads or self.n_heads


def init(key: Key[Array, ""], cfg: TransformerConfig) -> Params:
    """Normal weights with variance 1/fan_in; W_O and W_out smaller by sqrt(2 L), as each adds to the stream (GPT-2)."""
    L, D, H, G, E, M, V = (
        cfg.n_layers, cfg.d_model, cfg.n_heads, cfg.n_groups, cfg.d_head, cfg.d_mlp, cfg.d_vocab,
    )  # fmt: skip
    keys = iter(jax.random.split(key, 9))

    def normal(shape: tuple[int, ...], std: float) -> Array:
        return std * jax.random.normal(next(keys), shape)

    read, write = D**-0.5, (2 * L) ** -0.5
    attn = {
        "W_Q": normal((L, H, D, E), read * cfg.query_key_gain),
        "W_K": normal((L, G, D, E), read * cfg.query_key_gain),
        "W_V": normal((L, G, D, E), read),
        "W_O": normal((L, H, E, D), (H * E) ** -0.5 * write),
    }
    if cfg.biases:
        attn |= {"b_Q": jnp.zeros((L, H, E)), "b_K": jnp.zeros((L, G, E)), "b_V": jnp.zeros((L, G, E))}
        attn["b_O"] = jnp.zeros((L, D))
    if cfg.positions == "relative":
        attn["b_distance"] = jnp.zeros((L, H, cfg.n_context))
    blocks: Params = {"ln1": init_norm(cfg.norm, (L, D)), "attn": attn}
    if M:
        mlp = {"W_in": normal((L, D, M), read), "W_out": normal((L, M, D), M**-0.5 * write)}
        blocks["ln2"] = init_norm(cfg.norm, (L, D))
        blocks["mlp"] = mlp | ({"b_in": jnp.zeros((L, M)), "b_out": jnp.zeros((L, D))} if cfg.biases else {})
    embed = {"W_E": normal((V, D), read)}
    if cfg.positions == "learned":
        embed["W_pos"] = normal((cfg.n_context, D), read)
    if cfg.positions == "shortformer":
        embed["W_pos"] = sinusoids(cfg.n_context, D)
    unembed = {} if cfg.tied else {"W_U": normal((D, V), read)}
    unembed |= {"b_U": jnp.zeros(V)} if cfg.biases else {}
    return {"embed": embed, "blocks": blocks, "ln_final": init_norm(cfg.norm, (D,)), "unembed": unembed}


def sinusoids(n_positions: int, d_model: int) -> Float[Array, "P D"]:
    """Sin and cos of position / 10000^(2i/D) (Vaswani et al. 2017): neighbours are told apart by a rotation."""
    half = -(-d_model // 2)
    angle = jnp.arange(n_positions)[:, None] * 10_000.0 ** (-jnp.arange(half) / half)
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=1)[:, :d_model]


def apply(params: Params, tokens: Int[Array, "B P"], cfg: TransformerConfig) -> Float[Array, "B P V"]:
    """Logits of the next token at every position.

    Raises:
      InputError: more positions than the model has.
    """
    check_length(tokens.shape[1], cfg)
    x = embed(params, tokens, cfg)
    x, _ = blocks(params, x, cfg)
    return unembed(params, x, cfg)


def check_length(n_positions: int, cfg: TransformerConfig) -> None:
    """Raise `InputError` where positions run past the model's tables: an index beyond them would silently be clamped."""
    if cfg.positions in ("learned", "shortformer", "relative") and n_positions > cfg.n_context:
        raise InputError(f"{n_positions} positions are more than the model's model.n_context = {cfg.n_context}")


def embed(
    params: Params, tokens: Int[Array, "B P"], cfg: TransformerConfig, positions: Int[Array, "#B P"] | None = None
) -> Float[Array, "B P D"]:
    """The stream before the first layer; `positions` are 0, 1, … by default."""
    x = taps.tap(params["embed"]["W_E"][tokens], "embed")
    if cfg.positions == "learned":
        positions = in_order(tokens.shape[1]) if positions is None else positions
        x = x + taps.tap(params["embed"]["W_pos"][positions], "pos_embed")
    return x


def in_order(n_positions: int) -> Int[Array, "1 P"]:
    """0, 1, …, P-1."""
    return jnp.arange(n_positions, dtype=jnp.int32)[None]


def blocks(
    params: Params,
    x: Float[Array, "B P D"],
    cfg: TransformerConfig,
    first_layer: int = 0,
    cache: Cache | None = None,
    positions: Int[Array, "#B P"] | None = None,
) -> tuple[Float[Array, "B P D"], Cache | None]:
    """The stream after the layers from `first_layer` on, and the cache (of those layers) with these rows written.

    `positions` are those of the rows of `x`, 0, 1, … by default; without a cache, rows attend to rows not after them.
    """
    increasing = positions is None
    positions = in_order(x.shape[1]) if positions is None else positions
    rotary_base = cfg.rotary_base if cfg.positions == "rotary" else None
    shift: Any = 0.0
    if cfg.positions == "shortformer":
        shift = taps.tap(params["embed"]["W_pos"][positions], "pos_embed")
    layers, sees = jax.tree.map(lambda w: w[first_layer:], (params["blocks"], sees_positions(cfg, x.dtype)))

    def block(x: Array, layer: tuple[Params, Array, Any]) -> tuple[Array, Any]:
        weights, sees, cache = layer
        x = taps.tap(x, "blocks.resid_pre")
        y = apply_norm(cfg.norm, weights["ln1"], x, cfg.norm_eps, "blocks.ln1")
        out, cache = attention(weights["attn"], y + shift * sees, y, positions, rotary_base, sees, increasing, cache)
        return add_mlp(weights, x + out, cfg), cache

    return taps.scan(block, x, (layers, sees, cache))


def sees_positions(cfg: TransformerConfig, dtype: Any = jnp.float32) -> Float[Array, " L"]:
    """1 for a layer that sees positions, 0 for one that does not: data that the scan slices with the weights."""
    return (jnp.arange(cfg.n_layers) < (cfg.position_layers or cfg.n_layers)).astype(dtype)


def add_mlp(weights: Params, x: Float[Array, "B P D"], cfg: TransformerConfig) -> Float[Array, "B P D"]:
    """The stream after the layer: with the MLP's output, where there is one."""
    if cfg.d_mlp:
        x = taps.tap(x, "blocks.resid_mid")
        x = x + mlp(weights["mlp"], apply_norm(cfg.norm, weights["ln2"], x, cfg.norm_eps, "blocks.ln2"), cfg)
    return taps.tap(x, "blocks.resid_post")


def mlp(params: Params, x: Float[Array, "B P D"], cfg: TransformerConfig) -> Float[Array, "B P D"]:
    """W_out act(W_in x + b_in) + b_out."""
    x = taps.tap(x, "blocks.mlp.in")
    pre = taps.tap(add(x @ params["W_in"], params.get("b_in")), "blocks.mlp.pre")
    post = taps.tap(ACTIVATIONS[cfg.activation](pre), "blocks.mlp.post")
    return taps.tap(add(post @ params["W_out"], params.get("b_out")), "blocks.mlp.out")


def unembed(params: Params, rows: Float[Array, "*rows D"], cfg: TransformerConfig) -> Float[Array, "*rows V"]:
    """Logits of any rows of the final stream."""
    rows = apply_norm(cfg.norm, params["ln_final"], rows, cfg.norm_eps, "ln_final")
    rows = taps.tap(rows, "unembed.in")
    weight = params["embed"]["W_E"].T if cfg.tied else params["unembed"]["W_U"]
    return taps.tap(add(rows @ weight, params["unembed"].get("b_U")), "logits")


def add(x: Float[Array, "..."], bias: Float[Array, "..."] | None) -> Float[Array, "..."]:
    """`x + bias`, where there is one."""
    return x if bias is None else x + bias


def init_cache(cfg: TransformerConfig, batch: int, slots: int, dtype: Any = jnp.float32) -> Cache:
    """An empty cache: nothing in it is visible until a row is written there, as slot = position."""
    shape = (cfg.n_layers, batch, slots, cfg.n_groups, cfg.d_head)
    return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
