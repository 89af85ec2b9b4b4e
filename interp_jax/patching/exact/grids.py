"""Exact patching: the metric of every cell of a grid, as one compiled program for each kind of grid.

    patched[cell, example] = metric of the base run with the cell's nodes taken from the source run

Every number equals that of a full forward pass with the patch, within float error. See `nodes.py` for what can be patched,
`cone.py` for how little of it is computed, `budget.py` for how it is cut to fit in memory. Heimersheim and Nanda 2024, "How to
use and interpret activation patching"; Vig et al. 2020; Meng et al. 2022; Wang et al. 2022.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching.exact import budget, packing
from interp_jax.patching.exact.checks import check_source
from interp_jax.patching.exact.cone import STREAM, Kind, Shared, Step, read_out, run_step
from interp_jax.patching.exact.nodes import STREAMS, Grid
from interp_jax.patching.exact.plan import MEMORY, Plan, chunks, of_examples, plan_grid, rows_of, steps
from interp_jax.patching.exact.recordings import Recording, record_base, record_source
from interp_jax.patching.exact.views import View
from interp_jax.patching.metrics import Metric, check_finite, normalised
from interp_jax.patching.prompts import DENOISING, Input, Prompts, ordered, roles
from interp_jax.train.population import population

Sources = Mapping[str, Array | np.ndarray]


class Patched(NamedTuple):
    """A grid's results.

    Attributes:
      grid: what was patched.
      metric: of every cell and example, its axes those of the grid and then B.
      clean, corrupted: the metric of the two runs.
      direction: "denoising" or "noising".
      name: of the metric.
      work: arithmetic done, and needed.
    """

    grid: Grid
    metric: Float[np.ndarray, "*cells B"]
    clean: Float[np.ndarray, " B"]
    corrupted: Float[np.ndarray, " B"]
    direction: str
    name: str
    work: budget.Work

    @property
    def normalised(self) -> Float[np.ndarray, "*cells"]:
        """The mean metric, 0 at the corrupted run, 1 at the clean one."""
        return normalised(self.metric, self.corrupted, self.clean)

    @property
    def effect(self) -> Float[np.ndarray, "*cells B"]:
        """Patched less the run that was patched."""
        return self.metric - (self.corrupted if self.direction == DENOISING else self.clean)


def patch_grid(
    params: Params,
    cfg: TransformerConfig,
    prompts: Prompts,
    grid: Grid,
    metric: Metric,
    direction: str = DENOISING,
    view: View | None = None,
    source: Sources | None = None,
    memory: float = MEMORY,
    devices: Sequence[jax.Device] | None = None,
) -> Patched:
    """The metric of every cell.

    Args:
      params: of the model.
      cfg: of the model.
      prompts: clean and corrupted ones, aligned.
      grid: the cells.
      metric: one number per example; its arrays have a leading B axis.
      direction: "denoising" patches clean into corrupted, "noising" corrupted into clean.
      view: the part of an activation that is exchanged; None for all of it.
      source: activations [L B P …] of the patched sites that take the place of the source run's: means, zeros, noise.
      memory: bytes that activations may take, recorded ones and those of a step.
      devices: those to spread the steps over; all by default.

    Raises:
      InputError: see `nodes`, `metrics`, `budget`; a metric that is not finite; a source of another shape.
    """
    plan = plan_grid(params, cfg, prompts, grid, metric, view, memory, devices)
    if source is not None:
        check_source(source, plan.sites, cfg, *prompts.clean.shape)
    found = []
    for examples in chunks(len(prompts.at), plan.examples):
        some = jax.tree.map(partial(rows_of, examples), (prompts, metric))
        sources = None if source is None else {site: a[:, examples] for site, a in source.items()}
        found.append(_patch_some(params, of_examples(plan, examples), *some, direction, sources))
    values, base, other = (np.concatenate(parts, -1)[..., : len(prompts.at)] for parts in zip(*found, strict=True))
    clean, corrupted = ordered(base, other, direction)
    values = values.reshape(*grid.shape, -1)
    for each in (clean, corrupted, values):
        check_finite(each, metric.name)
    return Patched(grid, values, clean, corrupted, direction, metric.name, plan.work)


def _patch_some(
    params: Params,
    plan: Plan,
    prompts: Prompts,
    metric: Metric,
    direction: str,
    source: Sources | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Metrics of the cells [C B], of the base run and of the source run."""
    given, others = roles(prompts, direction)
    base, base_metric = _record_base(params, given, plan.kind.cfg, prompts, metric)
    other, other_metric = _record_base(params, others, plan.kind.cfg, prompts, metric)
    sources = _record_source(params, others, plan.kind.cfg, prompts, _in_layers(plan)) if source is None else source
    shared = Shared(
        params, base, prompts.positions, prompts.at, stream_source(plan, sources, other), metric, plan.views
    )
    order = packing.balance(plan.layout, plan.kind.cfg.n_layers, len(plan.devices))
    values = np.asarray(program(plan.kind, plan.devices)(steps(plan, order), shared))
    cells = np.where(order[:, None, None] < 0, packing.NOBODY, plan.layout.cell[order])
    found = np.empty((next(iter(plan.terms.values())).first.shape[0], values.shape[-1]), values.dtype)
    found[cells[cells >= 0]] = values[cells >= 0]
    return found, np.asarray(base_metric), np.asarray(other_metric)


def _in_layers(plan: Plan) -> tuple[str, ...]:
    """The patched sites that a recording has to have besides the streams."""
    return tuple(site for site in plan.sites if site not in STREAMS)


def stream_source(plan: Plan, sources: Sources, other: Recording) -> dict[str, Array]:
    """What is put in, by site; for the stream before each layer and after the last."""
    found = {site: jnp.asarray(a) for site, a in sources.items() if site not in STREAMS}
    if STREAM not in plan.terms:
        return found
    before, after = (sources.get(site) for site in STREAMS)
    streams = other.streams
    streams = streams if before is None else streams.at[:-1].set(before)
    return found | {STREAM: streams if after is None else streams.at[1:].set(after)}


@lru_cache(maxsize=64)
def program(kind: Kind, devices: tuple[jax.Device, ...]) -> Any:
    """The compiled program of a kind of grid: steps are spread over the devices, one after another on each."""
    return population(partial(_step, kind), 1, devices)


def _step(kind: Kind, step: Step, shared: Shared) -> Array:
    return run_step(kind, step, shared)


@partial(jax.jit, static_argnums=2)
def _record_base(
    params: Params, given: Input, cfg: TransformerConfig, prompts: Prompts, metric: Metric
) -> tuple[Recording, Float[Array, " B"]]:
    base = record_base(params, given, cfg, prompts)
    shared = Shared(params, base, prompts.positions, prompts.at, {}, metric)
    return base, read_out(cfg, shared, base.final[:, None])[0]


@partial(jax.jit, static_argnums=(2, 4))
def _record_source(
    params: Params, given: Input, cfg: TransformerConfig, prompts: Prompts, sites: tuple[str, ...]
) -> dict[str, Array]:
    return record_source(params, given, cfg, prompts, sites) if sites else {}
