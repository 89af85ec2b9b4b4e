"""What a group's experiment is built of: the experiment, and what it reads, each made once for all chunks that need it."""

import dataclasses
import functools
from typing import Any

import jax

from interp_jax.experiments.config import load_experiment
from interp_jax.experiments.experiment import Experiment
from interp_jax.experiments.sweep import Member


@dataclasses.dataclass(frozen=True)
class Group:
    """What the members of a group share, and one of them."""

    experiment: str
    structure: Any
    part: Any = dataclasses.field(compare=False)


def built(name: str, part: Any) -> Experiment:
    """The experiment of a group, from any of its members; what it reads from disk is read once."""
    return _built(Group(name, jax.tree.structure(part), part))


def stream_of(member: Member) -> Any:
    """What tells a member's stream apart: the experiment, and what there it is a function of; None where there is none."""
    module = load_experiment(member.config.experiment)
    return (member.config.experiment, module.reads(member.part)) if hasattr(module, "reads") else None


@functools.lru_cache(maxsize=1)
def _built(group: Group) -> Experiment:
    module = load_experiment(group.experiment)
    if not hasattr(module, "reads"):
        return module.experiment(group.part)
    return module.experiment(group.part, _read(group.experiment, module.reads(group.part)))


@functools.lru_cache(maxsize=1)
def _read(name: str, reads: Any) -> Any:
    return load_experiment(name).reading(reads)
