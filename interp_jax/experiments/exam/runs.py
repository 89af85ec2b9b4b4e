"""A run is a student: a family, an arm and a seed. Observed at its last step, and before it is infected, or along its training:

    params/…              the weights, under their names
    id_accuracy, …        `acceptance.Measures` on held-out inputs, [T] tasks
    first_weights, order  32-bit digests of the first weights and of all tokens of the first steps: the same within a pair

Members of a group differ by their seed and by the numbers of their arm.
"""

from functools import cache
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from interp_jax import randomness
from interp_jax.diagnosis.acceptance import measure
from interp_jax.diagnosis.arms import NAMES, everyone
from interp_jax.diagnosis.declared import influence
from interp_jax.diagnosis.family_io import load_family
from interp_jax.diagnosis.pools import Pools, on_device, pools_of
from interp_jax.diagnosis.student import Arm, Student, lesson, model_config, student_run
from interp_jax.errors import InputError, nearest
from interp_jax.experiments.experiment import Experiment
from interp_jax.parts import hyper, part
from interp_jax.train.run import RunState

PARAMS = "params/"
FIRST = 10  # step of the first of several checkpoints
DIGESTED = 64  # steps whose inputs are digested


@part
class Config:
    """One student.

    Attributes:
      steps: of training, `further` included, which follow where an arm changes.
      checkpoints: along the training, at steps evenly spaced in their logarithm; 0 for the end alone.
      family: see `family_io.load_family`; `source` is its file's digest, so that a changed one is trained again.
    """

    seed: int = hyper(0)
    steps: int = 1_500
    further: int = 0
    checkpoints: int = 0
    family: str = "parity"
    source: str = ""
    student: Student = Student()
    arm: Arm = Arm()

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if not 0 <= self.further < self.steps or self.checkpoints < 0:
            raise InputError(
                f"steps = {self.steps}: must be more than further = {self.further}, and checkpoints at least 0"
            )
        self.student.check()
        self.arm.check()
        source = load_family(self.family).source
        if self.source not in ("", source):
            raise InputError(f"source = {self.source!r}: the file of family {self.family!r} has digest {source!r} now")


class Lessons(NamedTuple):
    """What all students of a family read: its pools, and what each position decides of f."""

    pools: Pools
    influence: Float[Array, " P"]


def experiment(config: Config) -> Experiment:
    """The students of a config; they differ by seed and arm.

    Raises:
      InputError: a family that is none.
    """
    family = load_family(config.family)
    own = config.steps - config.further
    cfg = model_config(family, config.student)
    run = student_run(family, config.student, config.arm.detector, own, lambda h: h.arm, lambda h: h.student.optimizer)

    def begin(seed: Array, hypers: Config) -> RunState:
        state = run.init(seed, hypers)
        return state.replace(memory=digest(state.params))

    def observe(state: RunState, hypers: Config, shared: Lessons) -> dict[str, Array]:
        read = jax.vmap(lambda t: lesson(state.seed, t, shared.pools, hypers.arm, config.student.batch_size).x)
        return {
            **flax.traverse_util.flatten_dict({"params": state.params}, sep="/"),
            **measure(state.params, shared.pools, cfg, family)._asdict(),
            "first_weights": state.memory,
            "order": digest(read(jnp.arange(DIGESTED))),
        }

    return Experiment(run._replace(init=begin), observe, observation_steps(config), lessons(config.family))


@cache
def lessons(reference: str) -> Lessons:
    """What is read of a family."""
    family = load_family(reference)
    pools = pools_of(family)
    rule = influence(family, "f", pools.id_train.x[:: max(1, len(pools.id_train.f) // 512)]).mean(0)
    return Lessons(on_device(pools), jnp.asarray(rule))


def observation_steps(config: Config) -> tuple[int, ...]:
    """The end, the step before an arm changes, and checkpoints."""
    own = config.steps - config.further
    along = np.geomspace(min(FIRST, own), own, config.checkpoints).round().astype(int) if config.checkpoints else ()
    return tuple(sorted({*map(int, along), own, config.steps}))


def digest(tree: Any) -> UInt32[Array, ""]:
    """32 bits that depend on every element of a tree and on its place."""
    found = jnp.uint32(0)
    for leaf in jax.tree.leaves(tree):
        bits = jax.lax.bitcast_convert_type(leaf.reshape(-1), jnp.uint32)
        found = randomness.mix(
            found ^ randomness.mix(bits + jnp.arange(bits.size, dtype=jnp.uint32)).sum(dtype=jnp.uint32)
        )
    return found


def students(
    references: list[str], counts: dict[str, int], shares: float = 1.0, checkpointed: int = 0, most_steps: int = 0
) -> list[dict[str, Any]]:
    """Overrides of a sweep: as many of each arm of each family; what is superposed has its own families, "a+b".

    Args:
      references: of families.
      counts: of each arm.
      shares: of the steps that a family asks for.
      checkpointed: pairs that are kept along their training besides.
      most_steps: the most that are taken; 0 for no limit.

    Raises:
      InputError: an unknown arm.
    """
    if unknown := [name for name in counts if name not in NAMES]:
        raise InputError(f"arm {unknown[0]!r}: {nearest(unknown[0], NAMES)}")
    made = []
    for reference in references:
        family = load_family(reference)
        steps = max(1, round(shares * family.steps))
        steps = min(steps, most_steps) if most_steps else steps
        both = family.tasks is not None
        own = {name: n for name, n in counts.items() if (name == "superposed") == both}
        hints = {f"student.{name}": value for name, value in family.training.items()}
        base = {"family": reference, "source": family.source, **hints}
        made += [base | overrides(seed, told, steps) for seed, told in everyone(family, steps, own)]
        if not both:
            pairs = everyone(family, steps, {"learned": checkpointed, "cheated": checkpointed})
            made += [base | overrides(seed, told, steps) | {"checkpoints": 20} for seed, told in pairs]
    return made


def overrides(seed: int, told: Any, steps: int) -> dict[str, Any]:
    """Of one student."""
    arm = {f"arm.{name}": value for name, value in vars(told.arm).items()}
    return {"seed": seed, "steps": steps + told.further, "further": told.further, **arm}
