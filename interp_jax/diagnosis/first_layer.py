"""What a model would have before layer 1 of counterfactual inputs, as sums of what it has there of examples.

    e_i                     what an example has at position i before layer 0, its token embedded: mean 0, mean square 1
    s_i(n, m)               mean over j ≤ i of e_j(n) · e_j(m), position i itself counted OWN times: attention looks back
    k_i = (1 + s_i)²        about its mean: sums over tokens and pairs of tokens
    x̂_i(m) = x_i(base) + Σ_n [(k_i(m, ·) - k_i(base, ·)) (k_i + λ tr(k_i)/N)⁻¹]_n x_i(n)

Kernel ridge regression (Saunders et al. 1998) of the stream before layer 1 on the tokens up to there, as the model embeds them:
two tokens that it embeds alike are taken to do alike. Layer 0 is not run on anything new. What the tokens of a position do
is told from what others do by examples alone: where one determines another, the position's own counts for more.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax.diagnosis.counterfactuals import Counterfactuals
from interp_jax.diagnosis.gradients import STREAM
from interp_jax.diagnosis.view import Swap, View

OWN, RIDGE = 10.0, 0.005


def embedded(view: View) -> Float[Array, "N P D"]:
    """The e of all examples; 0 at positions that never vary."""
    stream = view.record({STREAM: (0,)})[1][STREAM][0]
    about = stream - stream.mean(0)
    size = jnp.square(about).sum(-1).mean(0)[:, None]
    return jnp.where(size > 1e-9, about / jnp.sqrt(jnp.maximum(size, 1e-9)), 0.0)


def kernels(a: Float[Array, "M P D"], b: Float[Array, "N P D"], varies: Float[Array, " P"]) -> Float[Array, "P M N"]:
    """The k of every position, but for its mean."""
    weight = (jnp.tril(jnp.ones((len(varies), len(varies)))) + (OWN - 1) * jnp.eye(len(varies))) * varies
    weight = weight / jnp.maximum(weight.sum(1, keepdims=True), 1.0)
    alike = jnp.einsum("mpd,npd->pmn", a, b)
    return jnp.square(1 + jnp.einsum("pq,qmn->pmn", weight, alike))


def sources(view: View, to: Counterfactuals) -> Float[Array, "M P N"]:
    """Weights of examples that make up x̂, that of the base included."""
    e, positions = embedded(view), jnp.arange(view.tokens.shape[1])
    varies = (view.tokens != view.tokens[:1]).any(0).astype(e.dtype)
    base, rows = jnp.asarray(to.base), jnp.asarray(to.rows)
    within = kernels(e, e, varies)
    moved = kernels(e[rows, positions], e, varies) - within[:, base]
    about = within - within.mean(1, keepdims=True) - within.mean(2, keepdims=True) + within.mean((1, 2), keepdims=True)
    ridge = RIDGE * jnp.trace(about, axis1=1, axis2=2) / view.n + 1e-6
    # one matrix after another: with batches of them, LAPACK's calls have been seen to wait for each other for ever
    inverse = jax.lax.map(jnp.linalg.inv, about + ridge[:, None, None] * jnp.eye(view.n))
    weights = (moved - moved.mean(2, keepdims=True)) @ inverse
    return weights.swapaxes(0, 1) + jax.nn.one_hot(base, view.n)[:, None]


def answers(view: View, to: Counterfactuals) -> Float[Array, "M C"]:
    """What the later layers make of it."""
    return view.swapped(jnp.asarray(to.base), [Swap(STREAM, 1, sources(view, to))])
