"""Path patching: what one part of a model does through what another part reads of it (Wang et al. 2022; Goldowsky-Dill et al.
2023, "Localizing model behavior with path patching").

A sender is a head or an MLP whose output is that of the source run, or one that is given. A receiver is the query, key or value
input of a head, the input of an MLP, the stream at one place, or the logits. In between, as `between` says,

    "nothing"    the direct path alone: what the receiver reads changes by what the sender's own output changes
    "mlps"       MLPs in between are computed anew, attention stays as it was
    "all"        everything in between is computed anew

and all else that the receiver reads is the base run's. After the receiver, as `onward` says, everything is computed anew
("all"), or it too speaks to the logits directly ("direct"). The metric of every pair is that of such a run:

    Δ = sender(source) - sender(base), carried to layer l;   value = project(norm(stream[l] + Δ));   base run with that value

Receivers are taken one by one ("each"), or those that are named, or all that are after the sender "together": the base run
with what each of them hears in its place, such as the queries of three heads, or the keys of all later ones. Where several
heads do the same work, no single path shows what all of them do. All pairs of heads are one program; a receiver that is not
after its sender has the base run's metric.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching.exact.checks import check_source
from interp_jax.patching.exact.cone import Shared
from interp_jax.patching.exact.grids import Patched, Sources
from interp_jax.patching.exact.plan import MEMORY, chunks, rows_of
from interp_jax.patching.metrics import Metric, check_finite
from interp_jax.patching.paths.plan import PathPlan, path_steps, plan_paths
from interp_jax.patching.paths.program import run_path_step
from interp_jax.patching.paths.routes import Receivers, Route, Sender, Senders, check_request, grid_of, route_of
from interp_jax.patching.paths.senders import HEAD_OUTPUT, MLP_OUTPUT, Paths, carry, record_run, sites_of
from interp_jax.patching.prompts import DENOISING, Prompts, check_question, ordered, roles
from interp_jax.train.population import pad_members, population

__all__ = ["Sender", "every_head", "every_mlp", "patch_paths"]


def every_head(cfg: TransformerConfig) -> tuple[Sender, ...]:
    """All heads, layer by layer."""
    return tuple(Sender(layer, head) for layer in range(cfg.n_layers) for head in range(cfg.n_heads))


def every_mlp(cfg: TransformerConfig) -> tuple[Sender, ...]:
    """All MLPs; none where the model has none."""
    return tuple(Sender(layer) for layer in range(cfg.n_layers if cfg.d_mlp else 0))


def patch_paths(
    params: Params,
    cfg: TransformerConfig,
    prompts: Prompts,
    senders: Sequence[Sender],
    receiver: str,
    metric: Metric,
    direction: str = DENOISING,
    between: str = "nothing",
    onward: str = "all",
    receivers: Receivers = "each",
    memory: float = MEMORY,
    devices: Sequence[jax.Device] | None = None,
    source: Sources | None = None,
) -> Patched:
    """The metric of every pair: axes sender, then layer (and head) of the receivers; of receivers together and of the
    logits, sender alone.

    Args:
      params: of the model.
      cfg: of the model.
      prompts: clean and corrupted ones.
      senders: heads and MLPs, such as `every_head(cfg)`.
      receiver: "q", "k", "v" of every head (of k and v: key/value head), "mlp" of every layer, the stream of every layer at
        "resid_pre", "resid_mid" or "resid_post", or "logits".
      metric: one number per example.
      direction: "denoising": senders speak as in the clean run; "noising": as in the corrupted one.
      between: "nothing", "mlps" or "all" of what lies between is computed anew.
      onward: "all" of what lies after the receiver is computed anew, or it speaks to the logits "direct".
      receivers: "each" by itself, all that are after the sender "together", or a list of (layer, head), of MLPs (layer, None),
        which hear together.
      memory: bytes that activations may take, recorded ones and those of a step.
      devices: those to spread the steps over.
      source: what senders say in place of the source run's outputs: "blocks.attn.z" [L B P H E] of heads, "blocks.mlp.out"
        [L B P D] of MLPs; means, zeros, noise.

    Raises:
      InputError: post-norms, where the stream is no sum; an unknown word, or a sender or receiver that the model lacks; a
        source without what senders say, or of another shape.
    """
    how = receivers if isinstance(receivers, str) else "together"
    words = {"receiver": receiver, "receivers": how, "between": between, "onward": onward}
    check_request(cfg, senders, words)
    check_question(params, cfg, prompts, metric)
    route = route_of(cfg, words)
    if source is not None:
        check_source(source, sites_of(senders), cfg, *prompts.clean.shape)
    plan = plan_paths(params, route, receiver, senders, prompts, metric, memory, devices, receivers)
    found = []
    for examples in chunks(len(prompts.at), plan.examples):
        some = jax.tree.map(partial(rows_of, examples), (prompts, metric))
        given = {} if source is None else {site: a[:, examples] for site, a in source.items()}
        found.append(_patch_some(params, plan, *some, direction, given))
    values, base, other = (np.concatenate(parts, -1)[..., : len(prompts.at)] for parts in zip(*found, strict=True))
    clean, corrupted = ordered(base, other, direction)
    grid = grid_of(route, receiver, senders)
    values = values.reshape(*grid.shape, -1)
    for each in (clean, corrupted, values):
        check_finite(each, metric.name)
    return Patched(grid, values, clean, corrupted, direction, metric.name, plan.work)


def _patch_some(
    params: Params, plan: PathPlan, prompts: Prompts, metric: Metric, direction: str, source: Sources
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Metrics of the pairs [S N B], of the base run and of the source run."""
    given, others = roles(prompts, direction)
    base, own, base_metric = record_run(params, given, plan.route.cfg, prompts, metric)
    _, other, other_metric = record_run(params, others, plan.route.cfg, prompts, metric)
    said = other._replace(z=source.get(HEAD_OUTPUT, other.z), mlp=source.get(MLP_OUTPUT, other.mlp))
    paths = Paths(Shared(params, base, prompts.positions, prompts.at, {}, metric), own, said, None, plan.listeners)
    n_senders = sum(len(batch.senders.layer) for batch in plan.batches)
    found = np.tile(np.asarray(base_metric), (n_senders, plan.n_receivers, 1))
    for batch in plan.batches:
        if batch.layout is None:
            continue
        paths = paths._replace(carried=_carried(plan, batch.senders, paths._replace(carried=None)))
        steps, place = path_steps(plan, batch)
        values, pair = np.asarray(program(plan.route, plan.devices)(steps, paths)), place[place >= 0]
        found[batch.first + batch.ends.sender[pair], batch.ends.receiver[pair]] = values[place >= 0]
    return found, np.asarray(base_metric), np.asarray(other_metric)


def _carried(plan: PathPlan, senders: Senders, paths: Paths) -> Array:
    """What each sender changes in streams, [N Z B P D]; the last sender's again, as often as fills the program's shape."""
    filled = pad_members(pad_members(senders, plan.at_once), len(plan.devices))
    return carry_program(plan.route, plan.devices)(filled, paths)


@lru_cache(maxsize=64)
def program(route: Route, devices: tuple[jax.Device, ...]) -> Any:
    """The compiled program of all pairs of a kind."""
    return population(partial(run_path_step, route), 1, devices)


@lru_cache(maxsize=64)
def carry_program(route: Route, devices: tuple[jax.Device, ...]) -> Any:
    """The compiled program of what senders change in streams."""
    return population(partial(carry, route), 1, devices)
