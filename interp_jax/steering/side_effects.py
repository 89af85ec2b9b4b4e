"""What a direction will do besides what is wanted, predicted before it is done; and the direction that does least besides.

    v added at a site, at every position that counts         m(v) a metric of the logits, q(v) the next token's distribution

    effect     m(v) - m(0)    ≈  g·v                       g = ∂m/∂v at 0, one for each metric, wanted or not
    side       KL(q(0) ‖ q(v)) ≈  ½ vᵀ F v                 F = E_positions Jᵀ (diag q - q qᵀ) J,   J = ∂logits/∂v  (Fisher's)

    targeted   v* = √(2κ / g·d) d,  d = F⁻¹ g              the largest g·v where ½ vᵀFv ≤ κ;  its effect is √(2κ g·F⁻¹g)

and where some metrics U are to stay as they are, d = F⁻¹(g - Uᵀ λ) with U d = 0. F is the Hessian of the KL at 0, which is
positive; J is taken by forward derivatives, one for each vector of a basis, so nothing is estimated but the mean over
positions. The geometry is that of the natural gradient (Amari 1998). Predictions hold for small v; a report shows how small.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.probes.positive import solve
from interp_jax.taps import Edit

Model = Callable[[Int[Array, "B P"]], Float[Array, "B P V"]]
Metrics = Callable[[Float[Array, "B P V"]], Float[Array, " T"]]


class Site(NamedTuple):
    """Where a vector is added: the site's name, its layer (may be traced; None outside of layers), its width, and `where`."""

    name: str
    layer: Any
    width: int
    where: Any = None


class Predicted(NamedTuple):
    """Of vectors: the change of each metric, and the divergence in nats of each weighing of positions."""

    effect: Float[Array, "*N T"]
    kl: Float[Array, "*N M"]


class Targeted(NamedTuple):
    """A vector, with what is predicted of it: the wanted effect and the divergence."""

    vector: Float[Array, " D"]
    effect: Float[Array, ""]
    kl: Float[Array, ""]


def with_vector(
    model: Model, tokens: Int[Array | np.ndarray, "B P"], site: Site, v: Float[Array, " D"]
) -> Float[Array, "B P V"]:
    """Logits with v added."""
    return taps.edit(model)({site.name: Edit("add", v, site.where, site.layer)}, tokens)


def gradients(
    model: Model, tokens: Int[Array | np.ndarray, "B P"], site: Site, metrics: Metrics
) -> Float[Array, "T D"]:
    """The gradient of each metric with respect to a vector that is added."""
    return jax.jacrev(lambda v: metrics(with_vector(model, tokens, site, v)))(jnp.zeros(site.width))


def fisher(
    model: Model,
    tokens: Int[Array | np.ndarray, "B P"],
    weights: Float[Array | np.ndarray, "M B P"],
    site: Site,
    basis: Float[Array | np.ndarray, "K D"] | None = None,
) -> Float[Array, "M K K"]:
    """F in a basis, by default that of the site's coordinates, for each of M weighings of positions.

    Takes K forward derivatives and holds K · P · V numbers at once, window by window; a basis of fewer vectors (candidates, or
    principal components) makes it cheap for wide models.
    """
    basis = jnp.eye(site.width) if basis is None else basis

    def of_window(one: tuple[Array, Array]) -> Array:
        window, share = one
        logits, derivative = jax.linearize(
            lambda v: with_vector(model, window[None], _of_window(site), v)[0], jnp.zeros(site.width)
        )
        q = jax.nn.softmax(logits)
        J = jax.vmap(derivative)(basis)
        J = jnp.sqrt(q) * (J - (q * J).sum(-1, keepdims=True))
        return jnp.einsum("mp,kpv,lpv->mkl", share, J, J, precision="highest")

    weights = jnp.asarray(weights)
    total = jax.lax.map(of_window, (jnp.asarray(tokens), jnp.moveaxis(weights, 1, 0))).sum(0)
    return total / jnp.maximum(weights.sum((1, 2)), jnp.finfo(total.dtype).tiny)[:, None, None]


def _of_window(site: Site) -> Site:
    if site.where is not None and jnp.ndim(site.where) > 2:
        raise InputError(
            f"fisher of {site.name!r}: `where` must be the same for all examples, [P 1]; weigh windows apart"
        )
    return site


def fisher_product(
    model: Model,
    tokens: Int[Array | np.ndarray, "B P"],
    weights: Float[Array | np.ndarray, "B P"],
    site: Site,
    v: Float[Array | np.ndarray, " D"],
) -> Float[Array, " D"]:
    """F v by one forward and one backward derivative, without F: for conjugate gradients where the width is large."""
    of = lambda u: with_vector(model, tokens, site, u)
    zero = jnp.zeros(site.width)
    logits, moved = jax.jvp(of, (zero,), (v,))
    q = jax.nn.softmax(logits)
    bent = q * (moved - (q * moved).sum(-1, keepdims=True)) * (weights / weights.sum())[..., None]
    return jax.vjp(of, zero)[1](bent)[0]


def predicted(
    gradient: Float[Array, "T D"], fisher: Float[Array, "M D D"], vectors: Float[Array, "*N D"]
) -> Predicted:
    """What vectors will do, to first order in effects and to second in divergences."""
    effect = jnp.einsum("td,...d->...t", gradient, vectors, precision="highest")
    kl = 0.5 * jnp.einsum("...d,mde,...e->...m", vectors, fisher, vectors, precision="highest")
    return Predicted(effect, kl)


def targeted(
    gradient: Float[Array, " D"],
    fisher: Float[Array, "D D"],
    bound: Float[Array, ""] | float,
    unwanted: Float[Array, "U D"] | None = None,
    damping: Float[Array, ""] | float = 1e-2,
) -> Targeted:
    """The vector of the largest predicted effect whose predicted divergence is `bound`.

    Args:
      gradient: of what is wanted.
      fisher: F of the text that is to stay as it is.
      bound: κ, in nats.
      unwanted: gradients of metrics whose predicted change is to be 0; they must not depend on each other.
      damping: added to F's diagonal, in units of its mean, so that what few windows leave open is not exploited.
    """
    D = len(gradient)
    damped = fisher + damping * jnp.trace(fisher) / D * jnp.eye(D, dtype=fisher.dtype)
    others = jnp.zeros((0, D), gradient.dtype) if unwanted is None else unwanted
    steps = solve(damped, jnp.concatenate([gradient[None], others]).T)
    d = steps[:, 0]
    if len(others):
        crossed = jnp.matmul(others, steps[:, 1:], precision="highest")
        d = d - steps[:, 1:] @ solve(crossed, (others @ d)[:, None])[:, 0]
    curvature = d @ jnp.matmul(fisher, d, precision="highest")
    v = d * jnp.sqrt(2 * bound / jnp.maximum(curvature, jnp.finfo(d.dtype).tiny))
    own = predicted(gradient[None], fisher[None], v)
    return Targeted(v, own.effect[0], own.kl[0])
