"""Cures, and the harness that gives them: every patient of a ward, under every number of parts touched, in one program.

A cure is a file with

    TOUCHES                                                what is counted: one of `TOUCHES` below
    prescribe(ward, diagnosis, exercises, counts, seed)    -> Prescription, leaves [R N …]: weights and edits to begin with

and, where it needs them,

    STEPS, OPTIMIZER                                       of fine-tuning: at most 300, 0 for none
    release(ward, cured, exercises)                        -> Cured: what of the edits is taken back at the end

It sees D_ID as the declared rule labels it, and the diagnosis; conflicts are the outcome's alone (`outcome.py`).
"""

import hashlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from interp_jax.diagnosis.examination import made_of
from interp_jax.diagnosis.family import source_of
from interp_jax.diagnosis.mending import OPTIMIZER, STEPS, mended
from interp_jax.diagnosis.ward import Cured, Diagnosis, Exercises, Ward, settled
from interp_jax.errors import InputError
from interp_jax.train.optimizer import Optimizer

TOUCHES = ("nothing", "positions", "hidden", "parts", "neurons", "features")
COUNTS = (1, 2, 5, 10, 20, 50)
ENOUGH = 0.9
WHERE, ANYWHERE = "cut", "hide"  # what is prescribed where a shortcut has places of its own, and where it has none


class Cure(NamedTuple):
    """See the module; `source` is a digest of its file and of those of `interp_jax.diagnosis` that it is made of."""

    name: str
    touches: str
    prescribe: Callable[..., Any]
    steps: int = STEPS
    optimizer: Optimizer = OPTIMIZER
    release: Callable[..., Any] | None = None
    source: str = ""


def cure_of(module: ModuleType) -> Cure:
    """The cure that a module describes.

    Raises:
      InputError: it is none, or takes more steps than a cure may.
    """
    names, here = vars(module), f"cure {module.__name__}"
    if missing := [name for name in ("TOUCHES", "prescribe") if name not in names]:
        raise InputError(f"{here}: it lacks {', '.join(missing)}")
    if names["TOUCHES"] not in TOUCHES:
        raise InputError(f"{here}: TOUCHES = {names['TOUCHES']!r}; known: {', '.join(TOUCHES)}")
    steps = names.get("STEPS", STEPS)
    if not 0 <= steps <= STEPS:
        raise InputError(f"{here}: STEPS = {steps}; a cure takes {STEPS} at most")
    name = names.get("NAME", module.__name__.rpartition(".")[2].replace("_", " "))
    source = hashlib.sha256("".join(sorted(map(source_of, made_of(module)))).encode()).hexdigest()[:16]
    return Cure(
        name,
        names["TOUCHES"],
        names["prescribe"],
        steps,
        names.get("OPTIMIZER", OPTIMIZER),
        names.get("release"),
        source,
    )


def counts_of(cure: Cure, ward: Ward, counts: Sequence[int] = COUNTS) -> tuple[int, ...]:
    """Numbers of parts that a cure can touch in these patients: those given, as far as there are so many; 0 of none."""
    cfg = ward.cfg
    most = {
        "nothing": 0,
        "positions": cfg.n_context - 1,
        "hidden": cfg.n_context - 1,
        "parts": cfg.n_layers * (cfg.n_heads + cfg.d_mlp),
        "neurons": cfg.n_layers * cfg.d_mlp,
        "features": max(counts, default=0),
    }[cure.touches]
    return tuple(n for n in counts if n <= most) or (most,)


def choice(diagnosis: Diagnosis, exercises: Exercises, labels: int) -> list[str]:
    """Which cure is prescribed to each patient, before anything is tried: a knife needs a place to cut.

    That is so where the position with most of the shortcut says more beyond the declared rule than for it, and where more than
    half of the declared answers do not need it.
    """
    needed, prescribed = settled(np.asarray(exercises.influence), labels), []
    for excess, beyond in zip(np.asarray(diagnosis.positions), np.asarray(diagnosis.cut), strict=True):
        first = int(excess.argmax())
        prescribed.append(WHERE if beyond[first] > 0.5 and needed[first] < 0.5 else ANYWHERE)
    return prescribed


def dose(cure: Cure, diagnosis: Diagnosis, counts: Sequence[int]) -> Int[np.ndarray, " R"]:
    """Which number is prescribed to each patient, before anything is tried.

    Positions: those with at least half as much of the shortcut as the first. Parts and neurons: the least number that holds
    `ENOUGH` of it. What is hidden at random: one position. Of features a diagnosis says nothing: the middle number.
    """
    R = len(diagnosis.positions)
    if cure.touches == "hidden":
        return np.zeros(R, int)
    if cure.touches == "positions":
        scores = np.asarray(diagnosis.positions)
        wanted = ((scores > 0) & (scores >= 0.5 * scores.max(1, keepdims=True))).sum(1)
        return np.minimum(np.searchsorted(counts, wanted), len(counts) - 1)
    every = {
        "neurons": diagnosis.neurons,
        "parts": np.concatenate([np.asarray(a).reshape(len(a), -1) for a in (diagnosis.heads, diagnosis.neurons)], 1),
    }
    if cure.touches not in every:
        return np.full(R, len(counts) // 2)
    scores = np.maximum(np.asarray(every[cure.touches], np.float64).reshape(R, -1), 0.0)
    held = np.sort(scores, axis=1)[:, ::-1].cumsum(1)[:, [n - 1 for n in counts]]
    return np.where(
        (enough := held >= ENOUGH * scores.sum(1, keepdims=True)).any(1), enough.argmax(1), len(counts) - 1
    )


def treated(
    cure: Cure,
    ward: Ward,
    diagnosis: Diagnosis,
    exercises: Exercises,
    counts: Sequence[int] = COUNTS,
    seed: int = 0,
    devices: list[jax.Device] | None = None,
) -> Cured:
    """All patients, treated: leaves [R N …], N numbers of parts touched (`counts_of`).

    Args:
      cure: of `cure_of`.
      ward: patients [R].
      diagnosis: of each.
      exercises: inputs of D_ID.
      counts: numbers of parts.
      seed: of what a prescription draws.
      devices: that patients are spread over.

    Raises:
      InputError: weights that are not finite afterwards.
    """
    counts = counts_of(cure, ward, counts)
    prescription = cure.prescribe(ward, diagnosis, exercises, counts, seed)
    if cure.steps:
        cured = mended(ward, prescription, exercises, cure.steps, cure.optimizer, devices)
    else:
        cured = Cured(prescription.params, prescription.edits)
    cured = cured if cure.release is None else cure.release(ward, cured, exercises)
    for r, n in np.argwhere(~finite(cured.params)):
        raise InputError(
            f"cure {cure.name!r}: patient {r} (seed {ward.seeds[r]}), {counts[n]} parts: weights are not finite"
        )
    return cured


def finite(params: Any) -> np.ndarray:
    """Whether all weights of each are, [R N]."""
    leaves = [
        np.isfinite(leaf).reshape(*leaf.shape[:2], -1).all(-1) for leaf in map(np.asarray, jax.tree.leaves(params))
    ]
    return np.logical_and.reduce(leaves)
