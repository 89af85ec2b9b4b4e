"""What weights look like, whatever a family's size and the order of its heads and neurons, and beside the declared rule.

    participation   (tr A)² / (K tr A²), A = M Mᵀ: of W_Q W_Kᵀ, W_V W_O, W_in, W_out     1 for a flat spectrum, 1/K for one line
    growth          log of the size of what a layer writes (heads, MLP) over that of the embedding
    attended        where the last position would look, by weights and mean embeddings alone, against the rule's influence
    carried         the same, times how much of what varies at a position a head's W_V W_O carries on

of the first and of the last layer. `attended` and `carried` are distances of profiles (`profiles.py`) and know the rule;
the others do not, and are there times the rule's reach as well: the exponential of the entropy of its influence, as a
share of positions. A simple model is suspect of a rule that reads much, an elaborate one of a rule that reads little.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.profiles import distance, distribution
from interp_jax.diagnosis.view import View
from interp_jax.models.transformer import Params


def participation(left: Float[Array, "... D K"], right: Float[Array, "... K E"]) -> Float[Array, "..."]:
    """Of the spectrum of left · right, by products of K columns alone."""
    inner = jnp.einsum("...dk,...dl->...kl", left, left) @ jnp.einsum("...ke,...le->...kl", right, right)
    first, second = jnp.trace(inner, axis1=-2, axis2=-1), jnp.trace(inner @ inner, axis1=-2, axis2=-1)
    return jnp.square(first) / jnp.maximum(second * inner.shape[-1], 1e-12)


def spectra(weights: Params) -> Float[Array, "L S"]:
    """What does not know the rule, of each layer."""
    attn, embed = weights["blocks"]["attn"], weights["embed"]["W_E"]
    groups = attn["W_Q"].shape[1] // attn["W_K"].shape[1]
    repeated = lambda a: jnp.repeat(a, groups, axis=1)
    size = jnp.sqrt(jnp.square(embed).mean()) + 1e-9
    norm = lambda a: jnp.log(jnp.sqrt(jnp.square(a).mean(tuple(range(1, a.ndim)))) / size + 1e-9)
    found = [
        participation(attn["W_Q"], repeated(attn["W_K"]).swapaxes(-1, -2)).mean(1),
        participation(repeated(attn["W_V"]), attn["W_O"]).mean(1),
        norm(attn["W_O"]),
    ]
    if "mlp" in weights["blocks"]:
        mlp = weights["blocks"]["mlp"]
        own = lambda a: jnp.broadcast_to(jnp.eye(a.shape[1]), (len(a), a.shape[1], a.shape[1]))
        found += [
            participation(own(mlp["W_in"]), mlp["W_in"]),
            participation(own(mlp["W_out"].swapaxes(1, 2)), mlp["W_out"].swapaxes(1, 2)),
            norm(mlp["W_out"]),
        ]
    return jnp.stack(found, axis=1)


def profiles(view: View) -> tuple[Float[Array, "L P"], Float[Array, "L P"]]:
    """Where the last position would look, and what is carried from there."""
    weights, attn = view.weights, view.weights["blocks"]["attn"]
    x = weights["embed"]["W_E"][view.tokens]
    if "W_pos" in weights["embed"]:
        x = x + weights["embed"]["W_pos"][: x.shape[1]]
    x = x / jnp.sqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)
    mean = x.mean(0)
    groups = attn["W_Q"].shape[1] // attn["W_K"].shape[1]
    W_K, W_V = (jnp.repeat(attn[name], groups, axis=1) for name in ("W_K", "W_V"))
    scores = jnp.einsum("d,lhde,pf,lhfe->lhp", mean[-1], attn["W_Q"], mean, W_K) / attn["W_Q"].shape[-1] ** 0.5
    look = jax.nn.softmax(scores, -1)
    carried = jnp.einsum("npd,lhde,lhef->lhnpf", x - mean, W_V, attn["W_O"])
    return look.mean(1), (look * jnp.sqrt(jnp.square(carried).mean((2, 4)))).mean(1)


def reach(view: View, declared: Declared) -> Float[Array, ""]:
    """How many positions the rule reads, as a share of those that vary."""
    share = distribution(jnp.asarray(declared.influence).mean(0), view.tokens)
    entropy = -(share * jnp.log(share + 1e-12)).sum()
    return jnp.exp(entropy) / jnp.maximum((view.tokens != view.tokens[:1]).any(0).sum(), 1)


def features(view: View, declared: Declared) -> Float[Array, " Z"]:
    """All of them; see the module."""
    attended, carried = profiles(view)
    apart = jnp.stack([distance(one[i], view, declared) for one in (attended, carried) for i in (0, -1)])
    free = spectra(view.weights)[jnp.array([0, view.cfg.n_layers - 1])].reshape(-1)
    much = reach(view, declared)
    return jnp.concatenate([apart, much[None], free, much * free])
