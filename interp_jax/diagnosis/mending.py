"""Fine-tuning on D_ID of all patients under all prescriptions at once, as members of one program.

    loss = -log p(label)                              of inputs of D_ID, all labels alike, under the prescription's edits
           + KL(teacher ‖ patient)                    where there is a teacher, under the same edits

Where positions are hidden, each input loses k of them, k = 0 … n alike, drawn anew at each step.

AdamW, at a rate that falls linearly to 0. What a step draws is a function of (seed, step): every prescription of a patient
is trained on the same inputs in the same order.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int

from interp_jax import randomness
from interp_jax.diagnosis.student import cross_entropy
from interp_jax.diagnosis.ward import Cured, Edits, Exercises, Prescription, Ward, answers
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.train.optimizer import Optimizer, gradient_transformation
from interp_jax.train.population import population

STEPS, BATCH = 300, 64
OPTIMIZER = Optimizer(name="adamw", decay="linear", learning_rate=2e-3, weight_decay=0.05, warmup_steps=10, beta2=0.98)


class Member(NamedTuple):
    """One patient under one prescription."""

    prescription: Prescription
    seed: Int[Array | np.ndarray, "..."]


def mended(
    ward: Ward,
    prescription: Prescription,
    exercises: Exercises,
    steps: int = STEPS,
    devices: list[jax.Device] | None = None,
) -> Cured:
    """Weights after fine-tuning, with the edits that were in force.

    Args:
      ward: the patients.
      prescription: leaves [R N …], N for each patient.
      exercises: inputs of D_ID.
      steps: of training.
      devices: that members are spread over; all.
    """
    n = len(jax.tree.leaves(prescription.params)[0][0])
    flat = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *np.shape(leaf)[2:]), prescription)
    members = Member(flat, np.repeat(np.asarray(ward.seeds, np.int32), n))
    devices = _that_divide(len(members.seed), jax.local_devices() if devices is None else devices)
    run = _mending(ward.cfg, ward.labels, steps, tuple(devices))
    params = jax.device_get(run(members, exercises))
    params = jax.tree.map(lambda leaf: leaf.reshape(ward.n, n, *leaf.shape[1:]), params)
    return Cured(params, prescription.edits)


def _that_divide(n: int, devices: list[jax.Device]) -> list[jax.Device]:
    """As many devices as divide the members."""
    return devices[: max(k for k in range(1, len(devices) + 1) if n % k == 0)]


@lru_cache(maxsize=16)
def _mending(cfg: TransformerConfig, labels: int, steps: int, devices: tuple[jax.Device, ...]) -> Any:
    def one(member: Member, exercises: Exercises) -> Params:
        start, edits, teacher, hidden = member.prescription
        method = gradient_transformation(OPTIMIZER, steps)

        def loss(params: Params, edits: Edits, x: Array, label: Array) -> Array:
            logits = answers(params, edits, x, cfg, labels)
            own = cross_entropy(logits, label).mean()
            if teacher is None:
                return own
            wanted = jax.nn.log_softmax(answers(teacher, edits, x, cfg, labels))
            return own + (jnp.exp(wanted) * (wanted - jax.nn.log_softmax(logits))).sum(-1).mean()

        def step(t: Array, carry: tuple[Params, Any]) -> tuple[Params, Any]:
            params, state = carry
            rows = exercises.balanced(randomness.uniform("counter", member.seed, "cure", t, (2, BATCH)))
            seen = edits if hidden is None else hiding(edits, hidden, member.seed, t)
            gradient = jax.grad(loss)(params, seen, exercises.x[rows], exercises.label[rows])
            updates, state = method.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, steps, step, (start, method.init(start)))[0]

    return population(one, 1, list(devices))


def hiding(edits: Edits, most: Int[Array, ""], seed: Int[Array, ""] | int, t: Int[Array, ""] | int) -> Edits:
    """Edits that hide up to so many positions of each input of a step besides, as those of `embed` do."""
    (edit,) = edits["embed"]
    positions = edit.where.shape[1]
    u = randomness.uniform("counter", seed, "cure/hidden", t, (BATCH, positions + 1))
    k = (u[:, -1:] * (most + 1)).astype(jnp.int32)
    chosen = jnp.argsort(jnp.argsort(u[:, :-1], axis=1), axis=1) < k
    return {**edits, "embed": (edit.replace(where=jnp.maximum(edit.where, chosen[:, :, None])),)}
