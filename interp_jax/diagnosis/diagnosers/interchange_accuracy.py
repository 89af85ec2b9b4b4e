"""Interchange-intervention accuracy of the declared rule's variables, in subspaces trained on examples (Geiger et al. 2024).

    x ← x + (x_source - x) U Uᵀ        U [D k] orthonormal, of each position before the last layer, k = values - 1, at most D/2
    U = W (Wᵀ W)^(-1/2)                by Newton and Schulz: W ← 3/2 W - 1/2 W Wᵀ W, products alone

W begins at the means of the variable's values and is trained on half of the pairs (`swaps.py`) for the answer that the rule
gives after the exchange; accuracy is of the other half.

    score = -mean over variables of accuracy(W) - accuracy(random W of equal rank)
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.gradients import STREAM
from interp_jax.diagnosis.student import cross_entropy
from interp_jax.diagnosis.swaps import Exchange, exchanges
from interp_jax.diagnosis.variables import one_hot
from interp_jax.diagnosis.view import Swap, View

TIER, COST = 2, 200
PAIRS, STEPS, RATE = 128, 24, 0.05
NOISE = 0.1  # of the first directions
ITERATIONS = 20


def orthonormal(W: Float[Array, "P D k"]) -> Float[Array, "P D k"]:
    """The nearest orthonormal columns, where W's singular values are within about 1:100."""
    product = lambda a, b: jnp.matmul(a, b, precision="highest")
    step = lambda W, _: (1.5 * W - 0.5 * product(W, product(W.swapaxes(1, 2), W)), None)
    size = jnp.sqrt(jnp.square(W).sum((1, 2), keepdims=True))  # no singular value is larger
    return jax.lax.scan(step, W / jnp.maximum(size, 1e-9), length=ITERATIONS)[0]


def swapped(view: View, pairs: Exchange, W: Float[Array, "P D k"]) -> Float[Array, "M C"]:
    """Answers after the exchange of the span of W."""
    U = orthonormal(W)
    where = (U, U.swapaxes(1, 2))
    return view.swapped(pairs.base, [Swap(STREAM, view.cfg.n_layers - 1, pairs.source, None, where)])


def starts(x: Float[Array, "N P D"], z: Float[Array, "N K"], k: int) -> Float[Array, "P D k"]:
    """Means of the first values, of about size one, and noise so that no two are the same."""
    means = jnp.einsum("npd,nk->pdk", x - x.mean(0), z / z.sum(0))[..., :k]
    return means / (jnp.sqrt(jnp.square(means).mean((1, 2), keepdims=True)) + 1e-6)


def accuracies(
    view: View, x: Float[Array, "N P D"], values: Int[Array | np.ndarray, " N"], pairs: Exchange, key: Key[Array, ""]
) -> Float[Array, "2"]:
    """Of the trained subspace and of a random one."""
    z = jnp.asarray(one_hot(values), x.dtype)
    half, k = len(pairs.base) // 2, max(1, min(z.shape[1] - 1, view.cfg.d_model // 2))
    train, held = (Exchange(*(jnp.asarray(a[s]) for a in pairs)) for s in (slice(half), slice(half, None)))
    loss = lambda W: cross_entropy(swapped(view, train, W), train.target).mean()
    optimizer = optax.adam(RATE)

    def step(_: Array, carry: tuple[Array, optax.OptState]) -> tuple[Array, optax.OptState]:
        W, state = carry
        updates, state = optimizer.update(jax.grad(loss)(W), state)
        return optax.apply_updates(W, updates), state

    first, drawn = jax.random.normal(key, (2, x.shape[1], x.shape[2], k), x.dtype)
    W = starts(x, z, k) + NOISE * first
    W, _ = jax.lax.fori_loop(0, STEPS, step, (W, optimizer.init(W)))
    right = lambda W: (swapped(view, held, W).argmax(-1) == held.target).mean(dtype=x.dtype)
    return jnp.stack([right(W), right(drawn)])


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """See the module; 0 where no variable can be exchanged."""
    x = view.record({STREAM: (view.cfg.n_layers - 1,)})[1][STREAM][0]
    found = [
        accuracies(view, x, declared.variables[name], pairs, key)
        for name, pairs in exchanges(declared, PAIRS).items()
        if len(pairs.base) >= 8
    ]
    return -jnp.stack([own - drawn for own, drawn in found]).mean() if found else jnp.zeros(())
