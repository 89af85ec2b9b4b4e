"""What a patched query or key does to attention's output, with the softmax computed exactly (Kramár et al. 2024, AtP*).

Of a head, let s be the scores of a query i, p its pattern, d_i = ∂metric/∂z_i, and g_k = d_i · v_k, the gradient at p_k.

    query i     effect = Σ_k (p'_k - p_k) g_k,     p' the pattern of the source's query on the base's keys
    key j       effect = Σ_i (p'_j - p_j) (g_j - ḡ),     p'_j = σ(s'_j - S),  p_j = σ(s_j - S)

A key changes one score of every query that sees it, so the rest of the row keeps its shape: S is the log-sum-exp of the other
scores and ḡ their mean of g, weighted as the softmax weights them. Nothing larger than a pattern is made. The key of a group
serves all heads of the group, whose effects add up. What follows attention is taken to first order, as elsewhere.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax.models.attention import MASKED, Keys, ScoreRule, attend, mix, score
from interp_jax.models.config import Places, TransformerConfig, layer_data
from interp_jax.models.norms import at_least

QUERIES = ("blocks.attn.q", "blocks.attn.q_norm", "blocks.attn.rot_q")  # to patch one is to patch the next
KEYS = ("blocks.attn.k", "blocks.attn.k_norm", "blocks.attn.rot_k")


class Reads(NamedTuple):
    """Queries and keys as scores read them: normalised and turned where the model does so."""

    q: Float[Array, "L B P H E"]
    k: Float[Array, "L B P G E"]


class SoftmaxEffects(NamedTuple):
    """Effects of queries and keys."""

    q: Float[Array, "L B P H"]
    k: Float[Array, "L B P G"]


def read_sites(cfg: TransformerConfig) -> Reads:
    """The names of the sites where `Reads` are recorded."""
    if cfg.positions == "rotary":
        return Reads("blocks.attn.rot_q", "blocks.attn.rot_k")
    if cfg.qk_norm:
        return Reads("blocks.attn.q_norm", "blocks.attn.k_norm")
    return Reads("blocks.attn.q", "blocks.attn.k")


def softmax_effects(
    weights: dict[str, Any],
    cfg: TransformerConfig,
    base: Reads,
    source: Reads,
    v: Float[Array, "L B P G E"],
    gradient: Float[Array, "L B P H E"],
    positions: Places,
) -> SoftmaxEffects:
    """Effects of all queries and keys, layer by layer.

    Args:
      weights: params["blocks"]["attn"].
      cfg: of the model.
      base: of the run that is patched.
      source: of the run that is put in.
      v: values of the base run.
      gradient: ∂metric/∂z at the base run.
      positions: -1 marks padding.
    """
    data = layer_data(cfg, v.dtype)
    bias = weights["b_distance"] * data.sees_positions[:, None, None] if "b_distance" in weights else None

    def of_layer(layer: Any) -> SoftmaxEffects:
        base, source, v, gradient, window, bias = layer
        rule, keys = ScoreRule(cfg, window, bias), Keys(base.k, v, positions)
        return SoftmaxEffects(
            query_effects(base.q, source.q, keys, gradient, positions, rule),
            key_effects(base.q, keys, source.k, gradient, positions, rule),
        )

    return jax.lax.map(of_layer, (base, source, v, gradient, data.window, bias))


def query_effects(
    q: Float[Array, "B P H E"],
    source: Float[Array, "B P H E"],
    keys: Keys,
    gradient: Float[Array, "B P H E"],
    positions: Places,
    rule: ScoreRule,
) -> Float[Array, "B P H"]:
    """Effects of one layer's queries: each changes its own row of the pattern and no other."""
    before, after = (mix(attend(x, [keys], positions, rule), [keys]) for x in (q, source))
    dtype = at_least(gradient.dtype, "float32")
    return ((after - before).astype(dtype) * gradient.astype(dtype)).sum(-1)


def key_effects(
    q: Float[Array, "B P H E"],
    keys: Keys,
    source: Float[Array, "B P G E"],
    gradient: Float[Array, "B P H E"],
    positions: Places,
    rule: ScoreRule,
) -> Float[Array, "B P G"]:
    """Effects of one layer's keys, `source` in the place of `keys.k` at one position and group at a time."""
    scores, seen = score(q, keys, positions, rule)
    moved, _ = score(q, keys._replace(k=source), positions, rule)
    dtype = at_least(at_least(scores.dtype, rule.cfg.softmax_dtype), "float32")
    before, after = (jnp.where(seen[:, None], s.astype(dtype), MASKED) for s in (scores, moved))
    (gain,) = jax.linear_transpose(lambda pattern: mix(pattern, [keys]), scores)(gradient)
    others, mean = leave_one_out(before, gain.astype(dtype))
    effects = (jax.nn.sigmoid(after - others) - jax.nn.sigmoid(before - others)) * (gain - mean)
    b, _, n_queries, n_keys = effects.shape
    return effects.reshape(b, source.shape[2], -1, n_queries, n_keys).sum((2, 3)).transpose(0, 2, 1)


def leave_one_out(
    scores: Float[Array, "*rows K"], gain: Float[Array, "*rows K"]
) -> tuple[Float[Array, "*rows K"], Float[Array, "*rows K"]]:
    """For every key, the log-sum-exp of the other scores, and the mean of the others' gain, weighted by their softmax.

    Sums over the others are the whole less the one, which loses nothing while the largest remains; the largest is left out
    of a sum of its own, relative to the next: under a saturated softmax the others would be lost in its rounding.
    """
    largest = jax.nn.one_hot(jnp.argmax(scores, -1), scores.shape[-1], dtype=bool)
    top = scores.max(-1, keepdims=True)
    weight = jnp.exp(scores - top)
    total, said = weight.sum(-1, keepdims=True), (weight * gain).sum(-1, keepdims=True)
    next_top = jnp.where(largest, MASKED, scores).max(-1, keepdims=True)
    rest = jnp.where(largest, 0.0, jnp.exp(jnp.where(largest, MASKED, scores) - next_top))
    rest_total, rest_said = rest.sum(-1, keepdims=True), (rest * gain).sum(-1, keepdims=True)
    others = jnp.where(largest, rest_total, total - weight)
    others = jnp.where(others > 0, others, 1.0)  # one key alone has no others, and its pattern cannot change
    return (
        jnp.where(largest, next_top, top) + jnp.log(others),
        jnp.where(largest, rest_said, said - weight * gain) / others,
    )
