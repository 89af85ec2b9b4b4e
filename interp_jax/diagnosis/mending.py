"""Fine-tuning on D_ID of all patients under all prescriptions at once, as members of one program.

    loss = -Σ_c target_c log p(c)                     of inputs of D_ID, all labels alike, under the prescription's edits
           + KL(teacher ‖ patient)                    where there is a teacher, under the same edits

The target is the label; where positions are hidden, it is as sure as the declared rule is without them: see `hiding.py`.
AdamW, at a rate that falls linearly to 0. What a step draws is a function of (seed, step): every prescription of a patient
is trained on the same inputs in the same order.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from interp_jax import randomness
from interp_jax.diagnosis.answering import Edits, answers
from interp_jax.diagnosis.hiding import hidden_at, hiding, without
from interp_jax.diagnosis.ward import Cured, Exercises, Prescription, Ward
from interp_jax.models import transformer
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.train.optimizer import Optimizer, gradient_transformation
from interp_jax.train.population import population

STEPS, BATCH = 300, 64
AFTERWARDS = 8  # batches that nothing is learned from
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
    optimizer: Optimizer = OPTIMIZER,
    devices: list[jax.Device] | None = None,
) -> Cured:
    """Weights after fine-tuning, with the edits that were in force.

    Args:
      ward: the patients.
      prescription: leaves [R N …], N for each patient.
      exercises: inputs of D_ID.
      steps: of training.
      optimizer: that takes them.
      devices: that members are spread over; all.
    """
    params, _ = _trained(ward, prescription, exercises, steps, optimizer, devices)
    return Cured(params, prescription.edits)


def relearned(
    ward: Ward,
    prescription: Prescription,
    exercises: Exercises,
    steps: int,
    optimizer: Optimizer = OPTIMIZER,
    devices: list[jax.Device] | None = None,
) -> Float[np.ndarray, "R N"]:
    """Mean KL(target ‖ p), nats, that is left after so many steps, on `AFTERWARDS` batches more, under the prescription.

    Args: as `mended`.
    """
    return np.asarray(_trained(ward, prescription, exercises, steps, optimizer, devices)[1])


def _trained(
    ward: Ward,
    prescription: Prescription,
    exercises: Exercises,
    steps: int,
    optimizer: Optimizer,
    devices: list[jax.Device] | None,
) -> tuple[Params, Float[np.ndarray, "R N"]]:
    n = len(jax.tree.leaves(prescription.params)[0][0])
    flat = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *np.shape(leaf)[2:]), prescription)
    members = Member(flat, np.repeat(np.asarray(ward.seeds, np.int32), n))
    devices = _that_divide(len(members.seed), jax.local_devices() if devices is None else devices)
    run = _mending(ward.cfg, ward.labels, steps, optimizer, tuple(devices))
    return jax.tree.map(lambda leaf: leaf.reshape(ward.n, n, *leaf.shape[1:]), jax.device_get(run(members, exercises)))


def _that_divide(n: int, devices: list[jax.Device]) -> list[jax.Device]:
    """As many devices as divide the members."""
    return devices[: max(k for k in range(1, len(devices) + 1) if n % k == 0)]


@lru_cache(maxsize=16)
def _mending(
    cfg: TransformerConfig, labels: int, steps: int, optimizer: Optimizer, devices: tuple[jax.Device, ...]
) -> Any:
    def one(member: Member, exercises: Exercises) -> tuple[Params, Array]:
        start, _, teacher, _ = member.prescription
        method = gradient_transformation(optimizer, steps)
        given = lambda params, t: lesson(member, exercises, params, t, cfg, labels)

        def loss(params: Params, edits: Edits, x: Array, target: Array) -> Array:
            logits = answers(params, edits, x, cfg, labels)
            own = -(target * jax.nn.log_softmax(logits)).sum(-1).mean()
            if teacher is None:
                return own
            wanted = jax.nn.log_softmax(answers(teacher, edits, x, cfg, labels))
            return own + (jnp.exp(wanted) * (wanted - jax.nn.log_softmax(logits))).sum(-1).mean()

        def step(t: Array, carry: tuple[Params, Any]) -> tuple[Params, Any]:
            params, state = carry
            gradient = jax.grad(loss)(params, *given(params, t))
            updates, state = method.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

        def left(params: Params, t: Array) -> Array:
            edits, x, target = given(params, t)
            log_p = jax.nn.log_softmax(answers(params, edits, x, cfg, labels))
            return (jax.scipy.special.xlogy(target, target) - target * log_p).sum(-1).mean()

        params = jax.lax.fori_loop(0, steps, step, (start, method.init(start)))[0]
        return params, jax.lax.map(lambda t: left(params, t), steps + jnp.arange(AFTERWARDS)).mean()

    return population(one, 1, list(devices))


def lesson(
    member: Member, exercises: Exercises, params: Params, t: Int[Array, ""], cfg: TransformerConfig, labels: int
) -> tuple[Edits, Int[Array, "B P"], Float[Array, "B C"]]:
    """What a patient is given at a step: edits, inputs of D_ID, and what is to be said of them."""
    _, edits, _, hidden = member.prescription
    rows = exercises.balanced(randomness.uniform("counter", member.seed, "cure", t, (2, BATCH)))
    x, target = exercises.x[rows], jax.nn.one_hot(exercises.label[rows], labels)
    if hidden is None:
        return edits, x, target
    where = hidden_at(exercises.influence, hidden, member.seed, t, BATCH)
    target = without(target, where, exercises.influence)
    return hiding(edits, where, transformer.embed(params, x, cfg), member.seed, t), x, target
