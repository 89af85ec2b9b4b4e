"""How a grid is computed: its cells laid out in steps that fit in memory, and what each step is handed."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from interp_jax.errors import InputError
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching.exact import budget, packing
from interp_jax.patching.exact.checks import check_terms, width_of
from interp_jax.patching.exact.cone import STREAM, Kind, Step, looked_at
from interp_jax.patching.exact.exchange import Lane
from interp_jax.patching.exact.nodes import STREAMS, Grid, Terms
from interp_jax.patching.exact.views import View, check_view, one_place_later
from interp_jax.patching.metrics import Metric
from interp_jax.patching.prompts import Prompts, check_question

MEMORY = 2.0**30  # bytes of activations, of what is recorded and of a step


class Plan(NamedTuple):
    """How a grid is computed."""

    kind: Kind
    layout: packing.Layout
    terms: Mapping[str, Terms]
    sites: tuple[str, ...]
    views: dict[str, View] | None
    examples: int
    work: budget.Work
    devices: tuple[jax.Device, ...]


def plan_grid(
    params: Params,
    cfg: TransformerConfig,
    prompts: Prompts,
    grid: Grid,
    metric: Metric,
    view: View | None = None,
    memory: float = MEMORY,
    devices: Sequence[jax.Device] | None = None,
) -> Plan:
    """The layout of a grid in steps that fit in memory."""
    check_question(params, cfg, prompts, metric)
    for site in grid.terms:
        check_view(view, width_of(site, cfg), site, cfg.n_layers)
    check_terms(grid.terms, cfg, view, *prompts.clean.shape)
    columns, read = prompts.clean.shape[1], cfg.d_vocab if metric.tokens is None else metric.tokens.shape[1]
    terms = on_stream(grid.terms)
    firsts, starts, spread = extent(terms, cfg, columns)
    draft = packing.lay_out(firsts, starts, columns, len(starts))
    item = params["embed"]["W_E"].dtype.itemsize
    narrow = not spread and is_narrow(terms, cfg, starts)
    prefix = columns if narrow or (starts > 0).any() else 0
    seen = 0 if view is None else 3 * view.size
    one = budget.lane_bytes(cfg, draft.rows, prefix, draft.cell.shape[2], read, item, seen)
    kept = budget.recorded_bytes(cfg, columns, [site for site in grid.terms if site not in STREAMS], item)
    cut = budget.split(one, kept, len(prompts.at), memory)
    chosen = tuple(jax.devices() if devices is None else devices)
    layout = packing.lay_out(firsts, starts, columns, packing.shared_out(draft, cut.lanes, len(chosen)))
    work = budget.work(cfg, layout, starts, firsts, columns, read, narrow)
    kind, views = Kind(cfg, layout.rows, prefix > 0, spread, narrow), views_of(view, tuple(grid.terms))
    return Plan(kind, layout, terms, tuple(grid.terms), views, cut.examples, work, chosen)


def views_of(view: View | None, sites: Sequence[str]) -> dict[str, View] | None:
    """The view of each patched site, the streams' as "stream", counted as it is.

    Raises:
      InputError: a view by layer of the stream both before and after layers, which are the same places.
    """
    if view is None:
        return None
    if view.by_layer and all(site in sites for site in STREAMS):
        raise InputError(
            f"a view by layer says two things of one place where {STREAMS[0]!r} and {STREAMS[1]!r} are patched: ask for one"
        )
    found = dict.fromkeys((site for site in sites if site not in STREAMS), view)
    if STREAMS[1] in sites:
        return found | {STREAM: one_place_later(view)}
    return found | ({STREAM: view} if STREAMS[0] in sites else {})


def on_stream(terms: Mapping[str, Terms]) -> dict[str, Terms]:
    """`resid_pre` of a layer and `resid_post` of the one before are one place of the stream: as "stream", by its index."""
    found = {site: t for site, t in terms.items() if site not in STREAMS}
    parts = [
        t if site == STREAMS[0] else t._replace(first=t.first + 1, stop=t.stop + 1)
        for site, t in terms.items()
        if site in STREAMS
    ]
    if len(parts) == 2:
        width = max(t.position.shape[2] for t in parts)
        parts = [t._replace(position=np.repeat(t.position, width // t.position.shape[2], 2)) for t in parts]
    return found | ({STREAM: Terms(*(np.concatenate(t, 1) for t in zip(*parts, strict=True)))} if parts else {})


def extent(
    terms: Mapping[str, Terms], cfg: TransformerConfig, columns: int
) -> tuple[Int[np.ndarray, " C"], Int[np.ndarray, " C"], bool]:
    """First layer and first column of every cell, and whether any patches beyond its first layer."""
    firsts, starts, lasts = [], [], []
    for t in terms.values():
        there = t.first < t.stop
        firsts.append(np.where(there, t.first, cfg.n_layers).min(1))
        lasts.append(np.where(there, t.stop - 1, -1).max(1))
        column = np.where(t.position < 0, 0, t.position).min(2)
        starts.append(np.where(there, column, columns - 1).min(1))
    first, last, start = np.min(firsts, 0), np.max(lasts, 0), np.min(starts, 0)
    return first, start if cfg.causal else np.zeros_like(start), bool((last > first).any())


def is_narrow(terms: Mapping[str, Terms], cfg: TransformerConfig, starts: Int[np.ndarray, " C"]) -> bool:
    """Whether each cell patches, in every example, its first column alone, and only what no other row looks at."""
    alone = all(((t.position == starts[:, None, None]) | (t.first >= t.stop)[..., None]).all() for t in terms.values())
    return cfg.causal and alone and not any(site == STREAM or looked_at(site, cfg) for site in terms)


def chunks(n: int, size: int) -> list[Int[np.ndarray, " N"]]:
    """Examples in chunks of one size, the last filled up with its last one."""
    return [np.minimum(np.arange(i, i + size), n - 1) for i in range(0, n, size)]


def rows_of(index: Int[np.ndarray, " N"], x: Any) -> Any:
    """Some examples; what all share stays as it is."""
    return x if len(x) == 1 or np.array_equal(index, np.arange(len(x))) else x[index]


def of_examples(plan: Plan, examples: Int[np.ndarray, " N"]) -> Plan:
    """The plan for some examples, where each has positions of its own."""
    terms = {
        site: t if t.position.shape[2] == 1 else t._replace(position=t.position[:, :, examples])
        for site, t in plan.terms.items()
    }
    return plan._replace(terms=terms)


def steps(plan: Plan, order: Int[np.ndarray, " M"]) -> Step:
    """The steps in an order, as arrays; -1 is a step with nothing to do."""
    layout = plan.layout
    empty = order < 0
    cell = np.where(empty[:, None, None], packing.NOBODY, layout.cell[order])
    first = np.where(empty, plan.kind.cfg.n_layers, layout.first_layer[order]).astype(np.int32)
    start = layout.start[order]

    def of_cells(t: np.ndarray) -> np.ndarray:
        return t[np.maximum(cell, 0)]

    terms = {site: Terms(*map(of_cells, t)) for site, t in plan.terms.items()}
    return Step(first, Lane(start, terms))
