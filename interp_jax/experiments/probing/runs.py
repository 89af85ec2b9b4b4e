"""Probe a model along its training. Nothing is trained but probes: what a run computes is its analysis.

With M models in order of steps (the untrained twin, -1, first), S places, V variables, T controls in the order of
`reading.CONTROLS`, G groups, K classes of positions, C classes:

    steps [M]                          -1 is the untrained twin; the last is the model itself
    hits, totals [M S V T G K C]       see `reading.py`; over all draws; a last class is of tokens elsewhere, if there are any
    drawn [M N S V G C], fold [N G]    hits of the labels themselves in each of N draws, and the fold of each group in it
    there [V G C]                      tokens that have a label
    figures [O S V T]                  accuracy in the model itself, in each of O draws, of which the N are the first
    best [V]                           the place, of layers, at which the model itself is read best
    use.place [U], use.variable [U]    what was erased of the model itself: every variable at every layer
    use.rank, use.taken, use.taken_at_random [U]         directions, and the share of the variance that goes with them
    use.sums [U 1+R 2 G], use.counts [V 2 G]             what the loss rises by, summed over tokens and over those at which the
                                                         variable changes; by the variable's edit and by R random ones
    use.scrubbed [V 1+R 2 G]           the same of each variable scrubbed from all layers
    use.along [M-1 V 1+R 2 G]          the same at the best places of every trained model
    loss [M]                           of the windows on which use is measured
    about                              names, as JSON
"""

import json
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Real

from interp_jax.data.probing.variables import Variable, known
from interp_jax.experiments.experiment import Experiment, untrained
from interp_jax.experiments.loop import digest
from interp_jax.experiments.probing.config import Config
from interp_jax.experiments.probing.erasing import (
    Asked,
    Erased,
    can_erase,
    can_scrub,
    check_eraser,
    counts,
    erase,
    scrub,
    windows_of_use,
)
from interp_jax.experiments.probing.examples import labelled, noticed
from interp_jax.experiments.probing.models import PUBLISHED, UNTRAINED, activations, models_of, places_of
from interp_jax.experiments.probing.reading import CONTROLS, Tallies, fold_of_group, read
from interp_jax.experiments.probing.rows import rows_of, splits_of
from interp_jax.experiments.probing.tallies import balanced_accuracy
from interp_jax.experiments.subjects.model import load_params, subject_of
from interp_jax.models.transformer import Params
from interp_jax.probes.controls import TRUE
from interp_jax.train.run import RunState


def experiment(config: Config) -> Experiment:
    """The run of a config.

    Raises:
      InputError: a model, data or a site that cannot be.
    """
    subject = subject_of(config.model)
    places = places_of(config, subject)
    data = labelled(config, subject)
    check_eraser(Asked(config, subject, data, rows_of(data, config.reading, int(config.seed)), places))

    def nothing(state: RunState, hypers: Config, shared: Any) -> dict[str, Array]:
        return {"seed": state.seed}

    def analyse_subject(state: RunState, hypers: Config, shared: Any) -> dict[str, np.ndarray]:
        seed = int(state.seed)
        return analyse(Asked(config, subject, data, rows_of(data, config.reading, seed), places), seed)

    model = np.frombuffer(digest(load_params(config.model)).encode(), np.uint8)  # a changed model is another run
    shared = {"model": model, "tokens": data.tokens, **{f"label {name}": x for name, x in data.labels.items()}}
    return Experiment(untrained(), nothing, (config.steps,), shared, analyse=analyse_subject)


def analyse(asked: Asked, seed: int) -> dict[str, np.ndarray]:
    """All that is read and erased."""
    reading, rows = asked.config.reading, asked.rows
    splits = splits_of(rows.group, reading, seed, rows.elsewhere)
    few = splits._replace(fold=splits.fold[: reading.draws])
    found: dict[int, Tallies] = {}
    along: dict[int, Erased] = {}
    pairs = best = whole = everywhere = None
    notes: list[str] = []
    for step, params in models_of(asked.config, asked.subject.cfg, seed):
        x = harvest(params, asked)
        width = max(one.shape[1] for one in x)
        with warnings.catch_warnings(record=True) as said:
            found[step] = read(x, rows, asked.places, reading, splits if best is None else few, seed)
        notes += [f"{called(step)}: {one.message}" for one in said]
        if best is None:
            best = best_places(found[step], rows.n_bins)
            pairs = [(s, v) for v in range(len(best)) for s in range(1, len(asked.places)) if can_erase(asked)]
            whole = erase(params, x, asked, pairs, seed) if pairs else None
            everywhere = scrub(params, asked, seed) if pairs and can_scrub(asked) else None
        if pairs and step != UNTRAINED:
            chosen = [(s, v) for v, s in enumerate(best.tolist())]
            along[step] = erase(params, x, asked, chosen, seed)
    steps = sorted(found)
    seen = kept([found[step] for step in steps], fold_of_group(rows, few), rows.n_bins)
    seen |= {"steps": np.array(steps, np.int32), "best": best}
    if whole is not None:
        seen |= {"use.place": np.array([s for s, _ in pairs]), "use.variable": np.array([v for _, v in pairs])}
        seen |= {f"use.{name}": np.array(value) for name, value in whole._asdict().items() if name != "loss"}
        seen |= {"use.counts": counts(asked), "use.along": np.stack([along[s].sums for s in steps if s != UNTRAINED])}
        seen |= {} if everywhere is None else {"use.scrubbed": everywhere}
        seen |= {"loss": np.array([along[s].loss for s in steps if s != UNTRAINED])}
    return seen | {"about": np.array(json.dumps(about(asked, notes, width)))}


def harvest(params: Params, asked: Asked) -> tuple[Float[Array, "B _"], ...]:
    """The rows at each place; windows beyond the last block are run twice."""
    n, at_once = len(asked.data.tokens), asked.config.reading.at_once
    order = np.minimum(np.arange(-(-n // at_once) * at_once), n - 1)
    positions = np.broadcast_to(asked.data.positions, asked.data.tokens.shape)
    blocks = lambda x: jnp.asarray(x[order].reshape(-1, at_once, x.shape[1]))
    of = (blocks(asked.data.tokens), blocks(positions), jnp.asarray(asked.rows.index))
    return compiled(params, *of, cfg=asked.subject.cfg, places=tuple(asked.places))


compiled = jax.jit(activations, static_argnames=("cfg", "places"))


def best_places(found: Tallies, n_bins: int | None = None) -> Int[np.ndarray, " V"]:
    """The layer at which each variable is read best, by the first bins, all if none."""
    of = (x[:, :, :, CONTROLS.index(TRUE), :, :n_bins].sum((0, -2)) for x in found)
    return 1 + balanced_accuracy(*of).mean[1:].argmax(0)


def kept(found: list[Tallies], fold: Int[np.ndarray, "N G"], n_bins: int | None = None) -> dict[str, np.ndarray]:
    """What is kept of the tallies of all models, the model itself the last; see the module. Later bins are elsewhere."""
    true, n = CONTROLS.index(TRUE), len(fold)
    seen = {name: np.stack([getattr(one, name).sum(0) for one in found]) for name in Tallies._fields}
    return seen | {
        "drawn": np.stack([one.hits[:n, :, :, true, :, :n_bins].sum(-2) for one in found]),
        "fold": fold,
        "there": found[-1].totals[0, 0, :, true, :, :n_bins].sum(-2),
        "figures": balanced_accuracy(*(x[..., :n_bins, :].sum(-2) for x in found[-1])).mean,
    }


def called(step: int) -> str:
    """A model, for people."""
    return "the untrained twin" if step == UNTRAINED else "the model" if step == PUBLISHED else f"step {step:,}"


def spelled(variable: Variable, labels: Real[np.ndarray, " B"]) -> str:
    """How many tokens have which value, for people."""
    own = labels[known(labels)]
    if variable.is_number:
        return f"{len(own):,} numbers from {own.min():g} to {own.max():g}, of mean {own.mean():.3g} ± {own.std():.3g}"
    return ", ".join(f"{value}: {(own == c).sum():,}" for c, value in enumerate(variable.values))


def about(asked: Asked, notes: list[str], width: int) -> dict[str, Any]:
    """What the report needs to name all that, and what was noticed on the way; `width` is that of the widest place."""
    rows, data = asked.rows, asked.data
    return {
        "model": asked.subject.name,
        "title": asked.subject.title,
        "places": [place.name for place in asked.places],
        "variables": {name: [list(v.values), v.about] for name, v in rows.variables.items()},
        "bins": rows.bins[: rows.n_bins],
        "source": data.source,
        "windows": list(data.tokens.shape),
        "rows": len(rows.index),
        "groups": len(np.unique(rows.group)),
        "left_out": [*rows.left_out, *(line for line in noticed(data) if "several groups" in line), *notes],
        "windows_of_use": len(windows_of_use(asked)) if can_erase(asked) else 0,
        "told": {name: spelled(variable, rows.of(name)) for name, variable in rows.variables.items()},
        "tokens": len(np.unique(rows.token)),
        "width": width,
    }
