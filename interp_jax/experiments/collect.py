"""Collect: the finished members of a sweep, read back from disk as one `GroupResult` per group."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from interp_jax import parts
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.plan import groups
from interp_jax.experiments.sweep import Member
from interp_jax.results.metrics import MetricLog
from interp_jax.results.run_directory import Finished, finished_members


def collect(members: Sequence[Member], directory: Path) -> list[GroupResult]:
    """The groups of `members`, in the sweep's order; members that are not finished are left out."""
    finished = finished_members(directory)
    present = [m for m in members if m.hash in finished]
    read: dict[Path, Any] = {}
    return [collect_group(group, finished, read) for group in groups(present)]


def collect_group(group: Sequence[Member], finished: dict[str, Finished], read: dict[Path, Any]) -> GroupResult:
    """One group from all the chunks that its members ran in; `read` caches what chunks hold."""
    places = [finished[m.hash] for m in group]
    for place in places:
        path = place.directory.path
        if path not in read:
            read[path] = (place.directory.observations(), MetricLog(place.directory.metrics).read())
    seen = [(read[p.directory.path], p.index) for p in places]
    steps = sorted(set.intersection(*(set(observations) for (observations, _), _ in seen)))
    observations = {t: stack([pick(obs[t], i) for (obs, _), i in seen]) for t in steps}
    metric_steps = max((log.steps for (_, log), _ in seen), key=len)
    metrics = stack([{k: aligned(log, k, i, metric_steps) for k in log.values} for (_, log), i in seen], axis=1)
    return GroupResult(
        config=parts.stack([m.part for m in group]),
        hashes=tuple(m.hash for m in group),
        diverged_at=np.array([p.manifest["diverged_at"][p.index] for p in places]),
        observations=observations,
        metrics=metrics,
        metric_steps=metric_steps,
        directories=tuple(str(p.directory.path) for p in places),
        seconds=np.array([p.manifest["seconds"]["total"] / len(p.manifest["members"]) for p in places]),
    )


def pick(arrays: dict[str, np.ndarray], index: int) -> dict[str, Any]:
    """One member of every array."""
    return {name: array[index] for name, array in arrays.items()}


def aligned(log: Any, name: str, index: int, steps: np.ndarray) -> np.ndarray:
    """A member's metric [T] at `steps`; NaN where its run ended early."""
    column = np.full(len(steps), np.nan)
    column[np.searchsorted(steps, log.steps)] = log.values[name][:, index]
    return column


def stack(members: Sequence[dict[str, Any]], axis: int = 0) -> dict[str, np.ndarray]:
    """Members' arrays with a new member axis."""
    return jax.tree.map(lambda *arrays: np.stack(arrays, axis), *members)
