"""Features of a small dictionary, their effect on the answer, and how much of it the declared rule's variables explain.

    x ≈ f W_dec + b        a TopK dictionary (Gao et al. 2024) of the stream before the last layer, each position about its mean
    weight_pf = mean over n of |f_npf W_dec_f · ∂(odds of the label) / ∂x_np|                          gradient × activation
    explained = Σ_pf weight_pf R²_pf / Σ weight_pf        R²_pf of f_npf over n, by sums of columns of the variables
    score     = -(explained - explained by variables dealt out at random)

A rule that names no variables has its answer in their place. The trained part sees examples alone. (Marks et al. 2024
judge such features by eye; here the declared variables do.)
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.gradients import gradient_at
from interp_jax.diagnosis.odds import odds
from interp_jax.diagnosis.variables import one_hot, orthonormal
from interp_jax.diagnosis.view import View
from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.judged import Batch, Situation
from interp_jax.dictionaries.parameters import Params

TIER, COST = 2, 60
STEPS, ROWS, RATE, TIMES = 300, 256, 3e-3, 3


def trained(x: Float[Array, "M D"], key: Key[Array, ""]) -> tuple[Params, Dictionary]:
    """A dictionary of rows of about size one."""
    cfg = Dictionary(d_in=x.shape[1], n_features=TIMES * x.shape[1], most=6, k=6, auxiliary="none", products="dense")
    optimizer, dead = optax.adam(RATE), jnp.zeros(cfg.n_features, bool)

    def step(t: Array, carry: tuple[Params, optax.OptState]) -> tuple[Params, optax.OptState]:
        params, state = carry
        rows = x[jax.random.randint(jax.random.fold_in(key, t), (ROWS,), 0, len(x))]
        loss = lambda params: dictionary.loss(params, Batch(rows, rows), cfg, Situation(t / STEPS, dead)).loss
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return dictionary.constrained(optax.apply_updates(params, updates), cfg), state

    params = dictionary.init(jax.random.fold_in(key, STEPS), cfg)
    return jax.lax.fori_loop(0, STEPS, step, (params, optimizer.init(params)))[0], cfg


def features(view: View, declared: Declared, key: Key[Array, ""]) -> tuple[Float[Array, "N P F"], Float[Array, "P F"]]:
    """Activations of features, and their weights."""
    labels = jnp.asarray(declared.labels)
    x, gradient = gradient_at(view, view.cfg.n_layers - 1, lambda logits: odds(logits, labels))
    x = x - x.mean(0)
    size = jnp.sqrt(jnp.square(x).mean()) + 1e-9
    rows = (x / size).reshape(-1, x.shape[2])
    params, cfg = trained(rows, key)
    active = dictionary.encode(params, rows, cfg).reshape(*x.shape[:2], -1)
    toward = jnp.einsum("fd,npd->npf", params["W_dec"], gradient)
    return active, jnp.abs(active * toward).mean(0)


def explained(
    active: Float[Array, "N P F"], weight: Float[Array, "P F"], columns: Float[Array, "N Z"]
) -> Float[Array, ""]:
    """The mean share of the features' variance that sums of orthonormal columns explain, by weight."""
    active = active - active.mean(0)
    share = jnp.square(jnp.einsum("nz,npf->zpf", columns, active)).sum(0) / jnp.maximum(
        jnp.square(active).sum(0), 1e-9
    )
    return (weight * share).sum() / jnp.maximum(weight.sum(), 1e-12)


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """See the module."""
    known = list(declared.variables.values()) or [declared.labels]
    z = np.concatenate([one_hot(values) for values in known], axis=1)
    columns = jnp.asarray(orthonormal(z - z.mean(0)), jnp.float32)
    dealt = jax.random.permutation(jax.random.fold_in(key, 1), columns)
    active, weight = features(view, declared, key)
    return explained(active, weight, dealt) - explained(active, weight, columns)
