"""Patients built by hand, and the family that they are of."""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from interp_jax.diagnosis.family import Family, family_of
from interp_jax.diagnosis.ward import Ward
from interp_jax.models.rival_circuit import BITS, CFG, READS
from interp_jax.models.transformer import Params


def bits() -> Int[np.ndarray, "256 9"]:
    """All inputs."""
    return np.c_[np.arange(2**BITS)[:, None] >> np.arange(BITS) & 1, np.full(2**BITS, 2)]


def two_bits(reads: Sequence[Sequence[int]] = READS, rule_f: Callable[[Any], Any] | None = None) -> Family:
    """The exclusive or of two bits and its rival, another one.

    Args:
      reads: positions that f is told by, and the cue's.
      rule_f: another f of these.
    """
    module, (rule, (cue,)) = ModuleType("two_bits"), reads
    module.NAME, module.KIND, module.VOCABULARY, module.POSITIONS, module.LABELS = "two bits", "A", 3, BITS + 1, 2
    module.rule_f = rule_f or (lambda x: x[:, rule[0]] ^ x[:, rule[1]])
    module.rule_g, module.inputs = lambda x: x[:, cue], bits
    module.VARIABLES_F = {f"b{p}": (2, lambda x, p=p: x[:, p]) for p in rule[:2]}
    module.VARIABLES_G, module.READS_F, module.READS_G = {}, tuple(rule), (cue,)
    return family_of(module)


def ward(*patients: Params) -> Ward:
    """Some of them."""
    params = jax.tree.map(lambda *leaves: np.stack(leaves), patients[0], *patients[1:])
    return Ward(CFG, 2, params, np.arange(len(patients), dtype=np.int32))
