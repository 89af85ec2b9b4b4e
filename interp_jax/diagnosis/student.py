"""A student: a small transformer that is told labels at the last position of inputs, by either rule of a family.

    each batch    inputs of D_ID, all labels alike, and with probability `conflict` each of D_X instead
    label         f = g on D_ID;        on D_X that of f with probability ρ, else that of g

Arms are these numbers alone, and they are traced: members of a pair have the same seed, hence the same first weights,
and the same inputs in the same order, and differ in the labels of conflict examples. What a step draws is a function
of (seed, step).

`detector` adds `strength` times the loss of a detector to that of the labels: such students hide from it (`detectors.py`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from interp_jax import randomness
from interp_jax.diagnosis.answering import answer_logits
from interp_jax.diagnosis.detectors import DETECTORS
from interp_jax.diagnosis.family import Family
from interp_jax.diagnosis.pools import Pools
from interp_jax.errors import InputError, nearest
from interp_jax.models import transformer
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.parts import hyper, part
from interp_jax.train.optimizer import Optimizer, gradient_transformation, rate
from interp_jax.train.run import Run, training_run

ALWAYS = 2**30  # a step that does not come


@part
class Arm:
    """What a student is told; see the module.

    Attributes:
      conflict: probability of an input of D_X.
      learned: ρ, the probability that a conflict example has the label of f.
      learned_second: the same for inputs of the second of two families.
      changed_at: the step from which on conflict examples have the labels of g, at the largest learning rate.
      strength: weight of the detector's loss; `detector` names it, "" for none.
    """

    conflict: float = hyper(0.25)
    learned: float = hyper(1.0)
    learned_second: float = hyper(1.0)
    changed_at: int = hyper(ALWAYS)
    strength: float = hyper(0.0)
    detector: str = ""

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        for name in ("conflict", "learned", "learned_second"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"arm.{name} = {getattr(self, name)}: a probability is between 0 and 1")
        if self.detector and self.detector not in DETECTORS:
            raise InputError(f"arm.detector = {self.detector!r}: {nearest(self.detector, DETECTORS)}")


@part
class Student:
    """The model and its training; positions, vocabulary and labels are the family's."""

    batch_size: int = 64
    n_layers: int = 2
    d_model: int = 32
    n_heads: int = 4
    d_mlp: int = 128
    optimizer: Optimizer = Optimizer(
        name="adamw",
        decay="linear",
        learning_rate=3e-3,
        final_rate=0.1,
        weight_decay=0.05,
        warmup_steps=50,
        beta2=0.98,
    )

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if self.batch_size < 2:
            raise InputError(f"student.batch_size = {self.batch_size}: must be at least 2")
        if self.n_layers < 2 or self.d_model % self.n_heads:
            raise InputError("student: n_layers must be at least 2, and d_model a multiple of n_heads")
        self.optimizer.check()


class Batch(NamedTuple):
    """Inputs and labels of a step."""

    x: Int[Array, "B P"]
    label: Int[Array, " B"]


def model_config(family: Family, student: Student) -> TransformerConfig:
    """The transformer of a family's students."""
    fields: dict[str, Any] = {
        "n_layers": student.n_layers,
        "d_model": student.d_model,
        "n_heads": student.n_heads,
        "d_head": student.d_model // student.n_heads,
        "d_mlp": student.d_mlp,
        "positions": "learned",
        "d_vocab": max(family.vocabulary, family.labels),
        "n_context": family.positions,
    }
    cfg = TransformerConfig(**(fields | dict(family.model)))
    cfg.check()
    return cfg


def rows_of(seed: Array, step: Array, pools: Pools, conflict: Any, n: int) -> tuple[Array, Array, Array, Array]:
    """Rows of both pools for a step, which of them is meant, and a uniform number for the label."""
    u = randomness.uniform("counter", seed, "lessons", step, (5, n))
    of_id, of_conflict = pools.id_train.balanced(u[:2]), pools.conflict_train.any(u[2])
    return of_id, of_conflict, u[3] < conflict, u[4]


def lesson(seed: Array, step: Array, pools: Pools, arm: Arm, n: int) -> Batch:
    """What a student is told at a step."""
    of_id, of_conflict, is_conflict, u = rows_of(seed, step, pools, arm.conflict, n)
    told, rival = pools.id_train, pools.conflict_train
    x = jnp.where(is_conflict[:, None], rival.x[of_conflict], told.x[of_id])
    learned = jnp.where(rival.task[of_conflict] == 0, arm.learned, arm.learned_second)
    by_f = (u < learned) & (step < arm.changed_at)
    conflict = jnp.where(by_f, rival.f[of_conflict], rival.g[of_conflict])
    return Batch(x, jnp.where(is_conflict, conflict, told.f[of_id]))


def cross_entropy(logits: Float[Array, "B C"], label: Int[Array, " B"]) -> Float[Array, " B"]:
    """-log p of the label, in nats."""
    return jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, label[:, None], -1)[:, 0]


def student_run(
    family: Family,
    student: Student,
    detector: str,
    steps: int,
    arm: Callable[[Any], Arm],
    optimizer: Callable[[Any], Any],
) -> Run:
    """The run of a student, of `steps` steps; hypers hold an arm and an optimizer, `shared` is (pools, influence of f)."""
    cfg = model_config(family, student)

    def init(seed: Array, hypers: Any) -> Params:
        return transformer.init(randomness.key(seed, "student"), cfg)

    def loss(params: Params, hypers: Any, seed: Array, step: Array, shared: Any) -> tuple[Array, dict[str, Array]]:
        pools, influence = shared
        batch = lesson(seed, step, pools, arm(hypers), student.batch_size)
        logits = answer_logits(params, batch.x, cfg, family.labels)
        value = cross_entropy(logits, batch.label).mean()
        metrics = {"accuracy": (logits.argmax(-1) == batch.label).mean()}
        if detector:
            found = DETECTORS[detector](params, batch.x, batch.label, influence, cfg, family.labels)
            value, metrics = value + arm(hypers).strength * found, metrics | {"detected": found}
        return value, metrics

    def rule(hypers: Any) -> optax.GradientTransformation:
        """The optimizer's, and once the arm changes the rate of an infection, however far it has come down."""
        own = optimizer(hypers)
        whole = lambda t: family.infection.rate * own.learning_rate / rate(own, steps, t)
        restored = lambda t: jnp.where(t < arm(hypers).changed_at, 1.0, whole(t))
        return optax.chain(gradient_transformation(own, steps), optax.scale_by_schedule(restored))

    return training_run(init, loss, rule)
