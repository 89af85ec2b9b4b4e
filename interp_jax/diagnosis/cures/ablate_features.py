"""Ablate a dictionary's features through which the shortcut goes, and fine-tune ("SHIFT": Marks et al. 2024).

    x ← x - Σ_{f among the n first} f_f(x) d_f            before the middle layer, at every position, for good

The dictionary is TopK (Gao et al. 2024), of each patient's activations on D_ID. What goes through a feature:

    m_f = mean over D_ID of Σ_positions (f_f(x) - f_f(x^cut)) d_f · ∫_0^1 ∂ logit / ∂ x (s) ds          s as in `mediation.py`
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, Key

from interp_jax import randomness, taps
from interp_jax.diagnosis.answering import every_row
from interp_jax.diagnosis.cures.cut import repeated
from interp_jax.diagnosis.mediation import STEPS as POINTS
from interp_jax.diagnosis.mediation import cut_at, mean_embedding
from interp_jax.diagnosis.ward import Diagnosis, Exercises, Prescription, Ward, largest
from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.judged import Batch, Situation
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.taps import Edit

TOUCHES = "features"
SITE = "blocks.resid_pre"
WIDER, ACTIVE = 8, 8  # features for each dimension, and how many of them are active
TRAINING, ROWS, RATE = 500, 512, 3e-3  # of the dictionary


def prescribe(
    ward: Ward, diagnosis: Diagnosis, exercises: Exercises, counts: Sequence[int], seed: int
) -> Prescription:
    """The weights as they are, without the n first features."""
    rows, n = exercises.some(), len(counts)
    keys = jax.vmap(lambda own: randomness.key(seed, "cure/dictionary", own))(jnp.asarray(ward.seeds, jnp.int32))
    run = _dictionaries(ward.cfg, ward.labels)
    found, mean, mediated = jax.device_get(
        run((ward.params, diagnosis.cut, keys), exercises.x[rows], exercises.label[rows])
    )
    chosen = np.stack([largest(mediated, count) for count in counts], axis=1).astype(np.float32)
    function = Partial(_without, jax.tree.map(lambda leaf: np.repeat(leaf[:, None], n, 1), (found, mean)), chosen)
    layer = np.full(chosen.shape[:2], middle(ward.cfg), np.int32)
    return Prescription(repeated(ward.params, n), {SITE: (Edit("apply", function, None, layer),)})


def middle(cfg: TransformerConfig) -> int:
    """The layer before which features are looked for."""
    return cfg.n_layers // 2


def described(width: int) -> Dictionary:
    """The dictionary."""
    return Dictionary(
        kind="topk", d_in=width, n_features=WIDER * width, most=ACTIVE, k=ACTIVE, auxiliary="none", products="dense"
    )


def features(
    own: tuple[Params, tuple[Array, Array]], x: Float[Array, "... D"]
) -> tuple[Float[Array, "... F"], Float[Array, "F D"]]:
    """Active features of the stream, and what each adds to it."""
    params, (mean, size) = own
    cfg = described(x.shape[-1])
    rows = ((x - mean) / size).reshape(-1, x.shape[-1])
    return dictionary.encode(params, rows, cfg).reshape(*x.shape[:-1], -1), size * params["W_dec"]


def _without(own: Any, chosen: Float[Array, " F"], x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    f, directions = features(own, x)
    return x - (f * chosen) @ directions


@lru_cache(maxsize=8)
def _dictionaries(cfg: TransformerConfig, labels: int) -> Any:
    def one(case: Any, x: Int[Array, "B P"], label: Int[Array, " B"]) -> Any:
        params, cut, key = case
        layer = middle(cfg)
        own, mean = jax.nn.one_hot(label, labels) - 1 / labels, mean_embedding(params, x, cfg)
        run = lambda edits: taps.edit(lambda: every_row(params, x, cfg, labels))(edits)
        stream = lambda share: taps.record(run, {SITE: (layer,)})(cut_at(share * cut, mean))[1][SITE][0]
        here, there = stream(0.0), stream(1.0)
        found = trained(here.reshape(-1, here.shape[-1]), key)

        def gradient(share: Array) -> Float[Array, "B P D"]:
            add = lambda offset: {**cut_at(share * cut, mean), SITE: (Edit("add", offset, None, layer),)}
            return jax.grad(lambda offset: (own * run(add(offset))).sum())(jnp.zeros_like(here))

        slope = jax.lax.map(gradient, (jnp.arange(POINTS) + 0.5) / POINTS).mean(0)
        (before, directions), (after, _) = features(found, here), features(found, there)
        mediated = ((before - after) * (slope @ directions.T)).sum(1).mean(0)
        return *found, mediated

    return jax.jit(lambda cases, x, label: jax.lax.map(lambda case: one(case, x, label), cases))


def trained(rows: Float[Array, "N D"], key: Key[Array, ""]) -> tuple[Params, tuple[Array, Array]]:
    """A dictionary of these rows, and the mean and size that they are read with."""
    cfg, mean = described(rows.shape[1]), rows.mean(0)
    size = jnp.sqrt(jnp.square(rows - mean).mean()) + 1e-6
    first, draws = jax.random.split(key)
    method = optax.adam(RATE)
    loss = partial(_loss, cfg)

    def step(t: Array, carry: Any) -> Any:
        params, state = carry
        chosen = jax.random.randint(jax.random.fold_in(draws, t), (ROWS,), 0, len(rows))
        gradient = jax.grad(loss)(params, (rows[chosen] - mean) / size, t / TRAINING)
        updates, state = method.update(gradient, state)
        return dictionary.constrained(optax.apply_updates(params, updates), cfg), state

    start = dictionary.init(first, cfg)
    return jax.lax.fori_loop(0, TRAINING, step, (start, method.init(start)))[0], (mean, size)


def _loss(cfg: Dictionary, params: Params, x: Float[Array, "B D"], progress: Array) -> Float[Array, ""]:
    never_dead = jnp.zeros(cfg.n_features, bool)
    return dictionary.loss(params, Batch(x, x), cfg, Situation(progress, never_dead)).loss
