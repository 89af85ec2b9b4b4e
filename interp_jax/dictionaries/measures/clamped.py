"""What a feature does to what a model predicts when it is clamped (Templeton et al. 2024), against a random direction.

    y'(p) = y(p) + (level - f(p)) d          d the feature's row of the decoder; at every position p that counts
    y°(p) = y(p) + (level - f(p)) ‖d‖ u      u a random unit vector: at every position a change of the same length

    KL       mean over positions of Σ_v q_v log (q_v / q'_v)       q, q' the next token's distribution, without and with it
    change   mean over positions of q'_v - q_v, by token

The change acts through all later layers, and on later positions through attention: it is a forward pass, with an edit of the
site. Features are taken one after the other, in one program.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from interp_jax import taps
from interp_jax.taps import Edit

Model = Callable[[Int[Array, "B P"]], Float[Array, "B P V"]]


class Effect(NamedTuple):
    """Of one change: the divergence in nats, and the change of each token's probability."""

    kl: Float[Array, ""]
    change: Float[Array, " V"]


class Clamped(NamedTuple):
    """Of N features that were clamped.

    Attributes:
      kl: of the feature.
      control: of C random directions of its length.
      rise_ids, rise: the tokens whose probability rises most, the largest change first.
      fall_ids, fall: those whose probability falls most.
      control_rise: the largest change of a token's probability by a random direction, mean over these.
    """

    kl: Float[Array, " N"]
    control: Float[Array, "N C"]
    rise_ids: Int[Array, "N T"]
    rise: Float[Array, "N T"]
    fall_ids: Int[Array, "N T"]
    fall: Float[Array, "N T"]
    control_rise: Float[Array, " N"]


class Site(NamedTuple):
    """Where what a dictionary says is added: a site; its layer, None for one outside the layers; its axes after positions."""

    name: str
    layer: Any
    shape: tuple[int, ...]


def effect(before: Float[Array, "B P V"], after: Float[Array, "B P V"], counts: Bool[Array, "B P"]) -> Effect:
    """What became of the next token's distribution; both are logits."""
    before, after = jax.nn.log_softmax(before), jax.nn.log_softmax(after)
    weight = counts / jnp.maximum(counts.sum(), 1)
    kl = (jnp.exp(before) * (before - after)).sum(-1)
    return Effect((weight * kl).sum(), jnp.einsum("bp,bpv->v", weight, jnp.exp(after) - jnp.exp(before)))


def with_added(model: Model, tokens: Int[Array, "B P"], site: Site, x: Float[Array, "B P D"]) -> Float[Array, "B P V"]:
    """Logits of the model with x added at the site."""
    value = x.reshape(*tokens.shape, *site.shape)
    return taps.edit(model)({site.name: Edit("add", value, layer=site.layer)}, tokens)


def random_direction(key: Key[Array, ""], like: Float[Array, " D"]) -> Float[Array, " D"]:
    """Of the same length."""
    drawn = jax.random.normal(key, like.shape, like.dtype)
    return drawn * (jnp.linalg.norm(like) / jnp.linalg.norm(drawn))


def clamped(
    model: Model,
    tokens: Int[Array, "B P"],
    counts: Bool[Array, "B P"],
    site: Site,
    features: tuple[Float[Array, "N B P"], Float[Array, "N D"], Float[Array, " N"]],
    keys: Key[Array, "N C"],
    n: int,
) -> Clamped:
    """Clamps features one by one.

    Args:
      model: tokens -> logits, with taps.
      tokens: windows of text.
      counts: positions at which features are clamped, and the predictions after which are compared.
      site: where the dictionary's words are added.
      features: activations of each, its row of the decoder in the activation's own units, and the level it is clamped to.
      keys: of C random directions each.
      n: tokens that rise, and that fall, to be named.
    """
    before = model(tokens)

    def one(feature: Any) -> Clamped:
        (f, row, level), keys = feature
        missing = jnp.where(counts, level - f, 0.0)[..., None]
        done = lambda direction: effect(before, with_added(model, tokens, site, missing * direction), counts)
        own = done(row)
        others = jax.lax.map(lambda key: done(random_direction(key, row)), keys)
        (rise, rise_ids), (fall, fall_ids) = jax.lax.top_k(own.change, n), jax.lax.top_k(-own.change, n)
        return Clamped(own.kl, others.kl, rise_ids, rise, fall_ids, -fall, others.change.max(1).mean())

    return jax.lax.map(one, (features, keys))
