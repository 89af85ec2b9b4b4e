"""Multi-head attention of one layer, causal or not, with grouped keys and values and an optional cache.

    q = x_qk W_Q + b_Q      k = x_qk W_K + b_K      v = x_v W_V + b_V          [B P H E], [B P G E]
    scores = cap(q · k · scale) (+ b_distance[q - k])      pattern = softmax over the keys a query sees      z = pattern v
    out = sum over heads of z W_O, + b_O

Head h reads key/value head h // (H/G); keys and values are never repeated. A query at position p sees the keys at positions
p - window + 1 … p, and later ones too where attention is not causal. Position -1 marks padding, which nothing sees.

Rotary positions (Su et al. 2021) turn the pairs (i, i + R/2) of q and k by the angle position * frequency[i]; where q and k
are normalised, that comes first. A cache holds the keys and values of all positions so far, slot = position, so that a query
sees exactly the slots that are not after it, whatever padding its prompt came with. `b_distance` is a learned score per head
and distance (as in T5: Raffel et al. 2020, but with no two distances lumped together).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from interp_jax import taps
from interp_jax.models.config import LayerData, Places, TransformerConfig
from interp_jax.models.norms import Norm, apply_norm, at_least

SMALLEST_BLOCK, MOST_BLOCKS = 32, 8  # queries attended to at once where nobody asks for a pattern
MASKED = (
    -1e30
)  # finite, so that the gradient of a softmax over masked scores has no NaN; less where a dtype ends sooner
WHOLE = ("blocks.attn.scores", "blocks.attn.pattern")  # who asks for these gets them in one piece


class Cache(NamedTuple):
    """Keys (turned, where positions are rotary) and values by layer and position."""

    k: Float[Array, "L B K G E"]
    v: Float[Array, "L B K G E"]


class Prefix(NamedTuple):
    """Keys (turned) and values of a sequence that rows continue, each from where it likes: read, never written."""

    k: Float[Array, "L B K G E"]
    v: Float[Array, "L B K G E"]


class Rows(NamedTuple):
    """Where the rows of a stream stand, and what they see.

    Attributes:
      positions: -1 for padding.
      in_order: promises positions 0, 1, …, P-1.
      seen: which of these rows a row may see at all: with it, several sequences lie side by side in one. None: all.
      prefix_positions, prefix_seen: of the columns of a `Prefix`, and which of them each row may see.
    """

    positions: Places
    in_order: bool = False
    seen: Bool[Array, "#B P P"] | None = None
    prefix_positions: Places | None = None
    prefix_seen: Bool[Array, "#B P K"] | None = None


class Keys(NamedTuple):
    """Keys and values that queries look at; `seen` hides some from some queries, besides the model's own rule."""

    k: Float[Array, "B K G E"]
    v: Float[Array, "B K G E"]
    positions: Int[Array, "#B K"]
    seen: Bool[Array, "#B Q K"] | None = None


def attention(
    params: dict[str, Any],
    x_qk: Float[Array, "B P D"],
    x_v: Float[Array, "B P D"],
    cfg: TransformerConfig,
    layer: LayerData,
    rows: Rows,
    cache: Any = None,
    read: Int[Array, "#B N"] | None = None,
) -> tuple[Float[Array, "B N D"], Any]:
    """What the layer's heads say together at the rows `read` (None: all), and its cache with the new rows written.

    `layer` is one layer's data (scalars and [N]); `cache` one layer's `Cache` or `Prefix` [B K G E], or None.
    """
    asking = rows if read is None else take_rows(rows, read)
    x_q = x_qk if read is None else take(x_qk, read)
    q = taps.tap(project(x_q, params["W_Q"], params.get("b_Q")), "blocks.attn.q")
    k = taps.tap(project(x_qk, params["W_K"], params.get("b_K")), "blocks.attn.k")
    v = taps.tap(project(x_v, params["W_V"], params.get("b_V")), "blocks.attn.v")
    if cfg.qk_norm:
        rule = Norm("rms", *cfg.norm_rule[1:])
        q = taps.tap(apply_norm(rule, params["q_norm"], q), "blocks.attn.q_norm")
        k = taps.tap(apply_norm(rule, params["k_norm"], k), "blocks.attn.k_norm")
    if cfg.positions == "rotary":
        q = taps.tap(rotate(q, angles(asking.positions, layer), cfg.rotary_gain), "blocks.attn.rot_q")
        k = taps.tap(rotate(k, angles(rows.positions, layer), cfg.rotary_gain), "blocks.attn.rot_k")
    keys = [Keys(k, v, rows.positions, asking.seen)]
    if isinstance(cache, Prefix):
        keys.append(Keys(*cache, rows.prefix_positions, asking.prefix_seen))
    elif cache is not None:
        cache = Cache(*(write(old, new, rows.positions) for old, new in zip(cache, (k, v), strict=True)))
        keys = [Keys(*cache, jnp.arange(cache.k.shape[1])[None])]
    bias = params["b_distance"] * layer.sees_positions if "b_distance" in params else None
    rule = ScoreRule(cfg, layer.window, bias)
    one_piece = not (rows.in_order and cfg.causal and read is None) or any(map(taps.wants, WHOLE))
    block = q.shape[1] if one_piece else max(SMALLEST_BLOCK, -(-q.shape[1] // MOST_BLOCKS))
    z = taps.tap(attend_in_blocks(q, keys, asking.positions, rule, block), "blocks.attn.z")
    return combine(params, z), cache


def angles(positions: Places, layer: LayerData) -> Float[Array, "#B P R"]:
    """By how much rotary positions turn each pair."""
    # a bfloat16 would not tell positions from 256 on apart
    sees = layer.sees_positions.astype(layer.frequency.dtype)
    return (positions * sees)[..., None] * layer.frequency


def take(x: Array, index: Int[Array, "#B N"]) -> Array:
    """Rows `index` of the second axis, for each example."""
    batch = max(len(x), len(index))
    x = jnp.broadcast_to(x, (batch, *x.shape[1:]))
    return x[jnp.arange(batch)[:, None], jnp.broadcast_to(index, (batch, index.shape[1]))]


def take_rows(rows: Rows, index: Int[Array, "#B N"]) -> Rows:
    """Some of the rows, which see what they saw."""
    seen, prefix_seen = (None if mask is None else take(mask, index) for mask in (rows.seen, rows.prefix_seen))
    return Rows(take(rows.positions, index), False, seen, rows.prefix_positions, prefix_seen)


class ScoreRule(NamedTuple):
    """What becomes of q·k: the model's config, the layer's window, and its score per head and distance, if any."""

    cfg: TransformerConfig
    window: Int[Array, ""]
    distance_bias: Float[Array, "H N"] | None


def project(
    x: Float[Array, "B P D"], weight: Float[Array, "N D E"], bias: Float[Array, "N E"] | None
) -> Float[Array, "B P N E"]:
    """Every head's linear map of the same rows."""
    y = jnp.einsum("bpd,nde->bpne", x, weight)
    return y if bias is None else y + bias


def attend_in_blocks(
    q: Float[Array, "B Q H E"],
    keys: Sequence[Keys],
    positions: Int[Array, "#B Q"],
    rule: ScoreRule,
    block: int,
) -> Float[Array, "B Q H E"]:
    """Each query's mix of values, `block` queries at a time, or all at once.

    Rows of several blocks are in order, so a block sees no key after its own last row. On a CPU, leaving those out and
    keeping what is left within the cache is 2.8 times as fast (8 × 256 rows, 8 heads of 16, with the gradient).
    """
    if block >= q.shape[1]:
        return mix(attend(q, keys, positions, rule), keys)
    mixed, (whole,) = [], keys
    for first in range(0, q.shape[1], block):
        rows, until = slice(first, first + block), slice(0, first + block)
        near = [Keys(whole.k[:, until], whole.v[:, until], whole.positions[:, until])]
        mixed.append(mix(attend(q[:, rows], near, positions[:, rows], rule), near))
    return jnp.concatenate(mixed, axis=1)


def attend(
    q: Float[Array, "B Q H E"], keys: Sequence[Keys], positions: Int[Array, "#B Q"], rule: ScoreRule
) -> Float[Array, "B H Q K"]:
    """The attention pattern over all the keys, side by side.

    `blocks.attn.scores` is tapped after scale, cap and distance bias, before the mask.
    """
    joined = [jnp.concatenate(parts, -1) for parts in zip(*(score(q, k, positions, rule) for k in keys), strict=True)]
    scores, seen = taps.tap(joined[0], "blocks.attn.scores"), joined[1]
    scores = scores.astype(at_least(scores.dtype, rule.cfg.softmax_dtype))
    scores = jnp.where(seen[:, None], scores, max(MASKED, float(jnp.finfo(scores.dtype).min)))
    return taps.tap(jax.nn.softmax(scores, axis=-1).astype(q.dtype), "blocks.attn.pattern")


def score(
    q: Float[Array, "B Q H E"], keys: Keys, positions: Int[Array, "#B Q"], rule: ScoreRule
) -> tuple[Float[Array, "B H Q K"], Bool[Array, "B Q K"]]:
    """Scores of some keys, and which of them are seen."""
    cfg = rule.cfg
    b, n_queries, h, e = q.shape
    grouped = q.reshape(b, n_queries, keys.k.shape[2], -1, e) * (cfg.attention_scale or e**-0.5)
    scores = cap(jnp.einsum("bqgre,bkge->bgrqk", grouped, keys.k), cfg.attention_cap).reshape(b, h, n_queries, -1)
    distance = positions[:, :, None] - keys.positions[:, None, :]
    if rule.distance_bias is not None:
        last = rule.distance_bias.shape[1] - 1
        scores = scores + rule.distance_bias[:, jnp.clip(distance, 0, last)].transpose(1, 0, 2, 3)
    seen = visible(distance, keys.positions, rule.window, cfg.causal)
    seen = seen if keys.seen is None else seen & keys.seen
    return scores, jnp.broadcast_to(seen, (b, *seen.shape[1:]))


def visible(
    distance: Int[Array, "#B Q K"], key_positions: Int[Array, "#B K"], window: Int[Array, ""], causal: bool
) -> Bool[Array, "#B Q K"]:
    """Which keys a query sees: within the window, none after it where causal, no padding."""
    near = (distance >= 0) & (distance < window) if causal else jnp.abs(distance) < window
    return near & (key_positions >= 0)[:, None, :]


def cap(x: Float[Array, "..."], limit: float) -> Float[Array, "..."]:
    """`limit` · tanh(x / limit); 0 sets no limit."""
    return limit * jnp.tanh(x / limit) if limit else x


def mix(pattern: Float[Array, "B H Q K"], keys: Sequence[Keys]) -> Float[Array, "B Q H E"]:
    """Each query's mean of the values, weighted by its pattern."""
    b, h, n_queries, _ = pattern.shape
    mixed, first = [], 0
    for piece in keys:
        weights = pattern[..., first : first + piece.v.shape[1]].reshape(
            b, piece.v.shape[2], -1, n_queries, piece.v.shape[1]
        )
        mixed.append(jnp.einsum("bgrqk,bkge->bqgre", weights, piece.v).reshape(b, n_queries, h, -1))
        first += piece.v.shape[1]
    return sum(mixed[1:], start=mixed[0])


def combine(params: dict[str, Any], z: Float[Array, "B P H E"]) -> Float[Array, "B P D"]:
    """The sum of the heads' outputs. `blocks.attn.result` [B P H D] is H times larger: made only where it is wanted."""
    if taps.wants("blocks.attn.result"):
        out = taps.tap(jnp.einsum("bphe,hed->bphd", z, params["W_O"]), "blocks.attn.result").sum(2)
    else:
        out = jnp.einsum("bphe,hed->bpd", z, params["W_O"])
    return out + params["b_O"] if "b_O" in params else out


def rotate(x: Float[Array, "B P N E"], angle: Float[Array, "#B P R"], gain: float = 1.0) -> Float[Array, "B P N E"]:
    """The first 2R dimensions of every head turned, halves paired; the others as they are."""
    n = angle.shape[-1]
    cos, sin = (gain * part(angle)[:, :, None].astype(x.dtype) for part in (jnp.cos, jnp.sin))
    first, second, rest = x[..., :n], x[..., n : 2 * n], x[..., 2 * n :]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin, rest], -1)


def write(
    cached: Float[Array, "B K G E"], rows: Float[Array, "B P G E"], positions: Places
) -> Float[Array, "B K G E"]:
    """`cached` with new rows put at their positions; padding and rows beyond the last slot are dropped."""
    batch = jnp.arange(cached.shape[0])[:, None]
    slots = jnp.where(positions < 0, cached.shape[1], positions)
    return cached.at[batch, slots].set(rows.astype(cached.dtype), mode="drop")
