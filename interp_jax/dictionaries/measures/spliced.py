"""What a model loses where a dictionary speaks in place of an activation: loss and distribution recovered.

    recovered = (L_without - L_spliced) / (L_without - L_clean)          L the cross-entropy of the next token, in nats
    KL(clean ‖ spliced) = Σ_v p_clean(v) log (p_clean(v) / p_spliced(v))          and recovered likewise, with KL for L

"Without" is the activation replaced by 0, or by its mean: zero- and mean-ablation give different numbers, and both are told.
Positions that do not count (ends of text, the first of a window) keep their activation: there is nothing to recover.
All is kept by position: what a dictionary loses at the first few tokens says little of the others.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from interp_jax import taps
from interp_jax.train.language import token_losses

Reconstruct = Callable[[Float[Array, "N D"]], Float[Array, "N O"]]
Model = Callable[[Int[Array, "B N"]], Float[Array, "B N V"]]
WAYS = ("clean", "spliced", "zero", "mean")


class Spliced(NamedTuple):
    """Of every target, [B P]: losses, and divergences from the clean run; by what stands at the site."""

    loss: dict[str, Float[Array, "B P"]]
    kl: dict[str, Float[Array, "B P"]]


def splice(
    model: Model,
    read: str,
    write: str,
    layer: Any,
    reconstruct: Reconstruct,
    counts: Bool[Array, "B P"] | None = None,
) -> Model:
    """The model with what a dictionary makes of a layer's activations at one site in place of those at another, or at the same.

    Args:
      model: tokens -> logits, with taps.
      read: the site that the dictionary reads; its activations are [B P D], or [B P H E] side by side.
      write: the site that it writes, in the same layer, not before `read`.
      layer: which; may be traced.
      reconstruct: of rows.
      counts: the positions where the dictionary speaks; by default all.
    """
    held: list[Array] = []

    def keep(x: Array, at: Any) -> Array:
        held.append(x)
        return x

    def put(x: Array, at: Any) -> Array:
        source = held.pop() if read != write else x
        there = jnp.ones(x.shape[:2], bool) if counts is None else counts

        def said() -> Array:
            own = reconstruct(source.reshape(-1, source[0, 0].size)).reshape(x.shape).astype(x.dtype)
            return jnp.where(there.reshape(*x.shape[:2], *(1,) * (x.ndim - 2)), own, x)

        return jax.lax.cond(at == layer, said, lambda: x)

    edits = {write: put} | ({read: keep} if read != write else {})
    return taps.edit_with(model, edits)


def spliced(
    model: Model,
    tokens: Int[Array, "B N"],
    sites: tuple[str, str],
    layer: Any,
    reconstruct: Reconstruct,
    mean: Float[Array, " O"],
    counts: Bool[Array, "B P"] | None = None,
) -> Spliced:
    """What the model loses, target by target.

    Args:
      model: tokens -> logits, with taps.
      tokens: the last one of each is a target alone.
      sites: what the dictionary reads and writes; see `splice`.
      layer: of both.
      reconstruct: of rows.
      mean: of what is written, over data like these.
      counts: the positions where something else stands; by default all.
    """
    ways: dict[str, Reconstruct] = {
        "spliced": reconstruct,
        "zero": lambda x: jnp.zeros((len(x), len(mean)), x.dtype),
        "mean": lambda x: jnp.broadcast_to(mean, (len(x), len(mean))),
    }
    logits = {"clean": model(tokens[:, :-1])}
    logits |= {name: splice(model, *sites, layer, way, counts)(tokens[:, :-1]) for name, way in ways.items()}
    clean = jax.nn.log_softmax(logits["clean"])
    kl = {name: (jnp.exp(clean) * (clean - jax.nn.log_softmax(x))).sum(-1) for name, x in logits.items()}
    return Spliced({name: token_losses(x, tokens[:, 1:]) for name, x in logits.items()}, kl)


def recovered(found: Mapping[str, Float[Array | np.ndarray, "..."]], without: str) -> Float[np.ndarray, "..."]:
    """The share of what is lost without the activation that the dictionary recovers.

    Args:
      found: mean losses, or mean divergences, by what stands at the site.
      without: "zero" or "mean".
    """
    clean, said, gone = (np.asarray(found[name], np.float64) for name in ("clean", "spliced", without))
    lost = gone - clean
    return np.divide(gone - said, lost, out=np.full(np.shape(lost), np.nan), where=lost != 0)
