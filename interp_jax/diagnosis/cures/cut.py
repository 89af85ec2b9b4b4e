"""Cut the diagnosed positions and fine-tune: what the shortcut reads is not there while the patient learns to do without.

    x_i ← mean over D_ID of the embedding at i              for the n positions that carry most of the shortcut

Afterwards what the declared rule reads as well is let in again, as far as it goes: the share ρ that makes most of D_ID right,
of those at which the cut positions weigh no more than the declared rule gives them; the least of equals, 0 if little is gained.

    x_i ← (1 - ρ) mean + ρ x_i          weigh: Σ |∂ logit / ∂x_i · (x_i - mean)|, as a share of all positions
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from interp_jax.diagnosis.answering import Edits, answers, from_stream
from interp_jax.diagnosis.mediation import cut_at, mean_embedding
from interp_jax.diagnosis.profiles import distribution
from interp_jax.diagnosis.ward import Cured, Diagnosis, Exercises, Prescription, Ward, largest
from interp_jax.models import transformer
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.taps import Edit

TOUCHES = "positions"
SHARES = np.linspace(0, 1, 17, dtype=np.float32)
BETTER = 0.01  # of D_ID that must be right besides


def prescribe(
    ward: Ward, diagnosis: Diagnosis, exercises: Exercises, counts: Sequence[int], seed: int
) -> Prescription:
    """The weights as they are, with the n first positions cut."""
    rows = exercises.some()
    means = np.asarray(_means(ward.cfg)(ward.params, exercises.x[rows]))
    share = np.stack([largest(diagnosis.positions, n) for n in counts], axis=1).astype(np.float32)
    n = len(counts)
    edits = {"embed": (Edit("replace", np.repeat(means[:, None], n, 1), share[:, :, None, :, None]),)}
    return Prescription(repeated(ward.params, n), edits)


def repeated(params: Params, n: int) -> Params:
    """Weights [R …] as [R N …]."""
    return jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf)[:, None], n, 1), params)


@lru_cache(maxsize=8)
def _means(cfg: TransformerConfig) -> Any:
    return jax.jit(lambda params, x: jax.lax.map(lambda one: mean_embedding(one, x, cfg), params))


def release(ward: Ward, cured: Cured, exercises: Exercises) -> Cured:
    """Lets in again what the declared rule reads of the cut positions."""
    rows, run = exercises.some(), _release(ward.cfg, ward.labels)
    flat = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *np.shape(leaf)[2:]), cured)
    edits = jax.device_get(run(flat, exercises.x[rows], exercises.label[rows], exercises.influence))
    return cured._replace(edits=jax.tree.map(lambda new, old: new.reshape(np.shape(old)), edits, cured.edits))


@lru_cache(maxsize=8)
def _release(cfg: TransformerConfig, labels: int) -> Any:
    def one(cured: Cured, x: Array, label: Array, influence: Array) -> Edits:
        (edit,), own = cured.edits["embed"], jax.nn.one_hot(label, labels) - 1 / labels
        cut, mean = edit.where[0, :, 0], edit.value
        rule = jnp.where(cut > 0, distribution(influence, x), 0.0).sum()
        embedded = transformer.embed(cured.params, x, cfg)
        varying = embedded - embedded.mean(0, keepdims=True)

        def at(share: Array) -> tuple[Array, Array]:
            there = (1 - (1 - share) * cut)[None, :, None]
            stream = embedded - varying * (1 - there)
            told = lambda stream: (own * from_stream(cured.params, stream, cfg, labels)).sum()
            weight = jnp.abs((jax.grad(told)(stream) * varying * there).sum(-1)).mean(0)
            said = answers(cured.params, cut_at((1 - share) * cut, mean), x, cfg, labels)
            within = jnp.where(cut > 0, distribution(weight, x), 0.0).sum() <= rule
            return (said.argmax(-1) == label).mean(), within

        right, within = jax.lax.map(at, jnp.asarray(SHARES))
        right = jnp.where(within | (jnp.arange(len(SHARES)) == 0), right, 0.0)
        best = jnp.argmax(right >= right.max() - 1e-6)
        share = jnp.where(right[best] >= right[0] + BETTER, jnp.asarray(SHARES)[best], 0.0)
        return cut_at((1 - share) * cut, mean)

    every = lambda cured, x, label, influence: jax.lax.map(lambda one_: one(one_, x, label, influence), cured)
    return jax.jit(every)
