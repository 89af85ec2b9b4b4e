"""Patch one model on one task: every node and path, exactly and by estimate, in both directions.

Nothing is trained: a run's observation is kinds of head, and its analysis the metric of every patched run. Axes of one run:

    previous, duplicate, induction [L H]      kinds of head, on repeated random tokens
    clean, corrupted [B]                      the metric of the two runs of each pair
    senders [S]                               the heads and MLPs whose paths are patched, by number; see `routes.py`
    about []                                  JSON for the report: the model, the positions, examples

and for both directions, "denoising." and "noising.", with the names and axes of `cells.py` and then B:

    resid_pre, attn_out, mlp_out, z, q, k, v, mlp      the metric of the patched runs
    random, random_mlp [L N B]                         of runs with a random part of what attention, or an MLP, adds patched
    path_q [S L H B], path_k, path_v [S L G B]         of direct paths from a sender into every head
    path_all [S 3 B]                                   into the queries, keys or values of all later heads at once
    path_logits [S B]                                  of direct paths from a sender to the logits
    estimate.…, integrated.…, softmax.…, star.…, relevance.…
                                                       effects by attribution, in place of the metric; see `causes.py`
    missed [4]                                         without B: the numbers of `missed.Missed`

Paths, estimates and what these missed are left out where they cannot be; see `routes.py` and `causes.py`.
"""

import json
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax.data.contrast.pairs import Pairs
from interp_jax.errors import InputError
from interp_jax.experiments.experiment import Experiment, untrained
from interp_jax.experiments.patching import corruption, task
from interp_jax.experiments.patching.causes import Contrast, estimate, patch_nodes, patch_random
from interp_jax.experiments.patching.config import Config
from interp_jax.experiments.patching.measure import clean_logits, metric_of
from interp_jax.experiments.patching.missed import bound_missed
from interp_jax.experiments.patching.routes import patch_routes
from interp_jax.experiments.subjects.kinds import repeat_period, score_heads
from interp_jax.experiments.subjects.model import Subject, check_has_logits, load_params, subject_of
from interp_jax.experiments.subjects.tokens import names_of
from interp_jax.models.transformer import Params
from interp_jax.patching.prompts import DIRECTIONS
from interp_jax.train.run import RunState

EXAMPLES = 3  # pairs that the report shows
NOISY = "~"
LEAST = 1e-6  # of the metric's size: what two runs must differ by


class Shared(NamedTuple):
    """The model, and the pairs of a file."""

    params: Params
    of_file: Any


def experiment(config: Config) -> Experiment:
    """The runs of a config; they differ by their seed.

    Raises:
      InputError: a model or a task that cannot be.
    """
    subject = subject_of(config.model)
    check_has_logits(subject.cfg, subject.name)
    repeat_period(config.repeats, subject)
    pairs = task.pairs_of(config, subject, int(config.seed))
    shared = Shared(load_params(config.model), pairs if config.task.file else None)

    def observe(state: RunState, hypers: Config, shared: Shared) -> dict[str, Array]:
        return score_heads(state.seed, shared.params, hypers.repeats, subject)._asdict()

    def analyse_subject(state: RunState, hypers: Config, shared: Shared) -> dict[str, np.ndarray]:
        return analyse(int(state.seed), config, shared, subject)

    return Experiment(untrained(), observe, (config.steps,), shared, analyse=analyse_subject)


def analyse(seed: int, config: Config, shared: Shared, subject: Subject) -> dict[str, np.ndarray]:
    """All that is patched, and what the report needs to name it."""
    pairs = corruption.corrupted(task.pairs_of(config, subject, seed, shared.of_file), config.task.corruption, seed)
    contrast = contrast_of(config, jax.device_put(shared.params), subject, pairs, seed)
    nodes = {}
    for direction in DIRECTIONS:
        whole, nodes[direction] = patch_nodes(contrast, direction)
        check_differs(whole.clean, whole.corrupted, subject)
    bases = (whole.corrupted, whole.clean)  # of denoising and of noising
    effects = [(found["z"] - base).mean(-1) for found, base in zip(nodes.values(), bases, strict=True)]
    senders = strongest(np.abs(effects).max(0), config.senders)
    if config.send_mlps and subject.cfg.d_mlp:
        senders = np.append(senders, effects[0].size + np.arange(subject.cfg.n_layers))
    found = {"clean": whole.clean, "corrupted": whole.corrupted, "senders": senders}
    for direction, seen in nodes.items():
        seen |= patch_random(contrast, direction, config.random_nodes)
        seen |= patch_routes(contrast, direction, senders)
        estimated, missed = estimate(contrast, direction), config.missed
        if missed.sets and estimated.ranked is not None:
            bound = bound_missed(contrast, direction, estimated.ranked, missed.checked, missed.sets, seed)
            seen["missed"] = np.array(bound)
        found |= {f"{direction}.{name}": values for name, values in (seen | estimated.effects).items()}
    return found | {"about": np.array(json.dumps(about(config, contrast, subject, pairs)))}


def contrast_of(config: Config, params: Params, subject: Subject, pairs: Pairs, seed: int) -> Contrast:
    """What is patched, in what, and what is measured."""
    cfg, way = subject.cfg, config.task.corruption
    prompts = corruption.prompts(pairs, way, config.task.noise, params, cfg, seed)
    metric = metric_of(pairs, config.metric, lambda: clean_logits(params, cfg, prompts))
    return Contrast(params, cfg, prompts, metric, task.places_of(config, pairs), config.source)


def about(config: Config, contrast: Contrast, subject: Subject, pairs: Pairs) -> dict[str, Any]:
    """What the report needs to name all that."""
    noisy, n = config.task.corruption == corruption.NOISE, len(pairs.clean)
    return {
        "name": subject.name,
        "facts": facts(subject),
        "positions": task.labels_of(pairs, contrast.places, subject),
        "examples": [example(pairs, i, subject, noisy) for i in range(min(EXAMPLES, n))],
        "period": repeat_period(config.repeats, subject),
        "columns": pairs.clean.shape[1],
        "widths": [min(subject.cfg.d_head, subject.cfg.d_model), subject.cfg.d_model],
        "placement": subject.cfg.placement,
    }


def strongest(size: Float[np.ndarray, "L H"], most: int) -> Int[np.ndarray, " S"]:
    """The heads of the largest effects, in order of layers; 0 is all."""
    count = min(most or size.size, size.size)
    return np.sort(np.argsort(-size.ravel(), kind="stable")[:count])


def check_differs(clean: Float[np.ndarray, " B"], corrupted: Float[np.ndarray, " B"], subject: Subject) -> None:
    """Raise `InputError` where the model does not tell clean from corrupted prompts."""
    size = max(1.0, float(np.abs(clean).max()), float(np.abs(corrupted).max()))
    if abs(float(clean.mean() - corrupted.mean())) < LEAST * size:
        raise InputError(
            f"{subject.name} does not tell clean from corrupted prompts: the mean metric is {clean.mean():.4g} on both, so"
            " there is no effect to patch; try another --config.task.corruption, --config.metric or task"
        )


def facts(subject: Subject) -> list[tuple[str, str]]:
    """The model, for people."""
    cfg = subject.cfg
    groups = "" if cfg.n_groups == cfg.n_heads else f", {cfg.n_groups} for keys and values"
    return [
        ("model", subject.name),
        ("layers", str(cfg.n_layers)),
        ("heads per layer", f"{cfg.n_heads} of width {cfg.d_head}{groups}"),
        ("MLP per layer", f"{cfg.d_mlp:,} neurons" if cfg.d_mlp else "none"),
        ("width of the stream, D", f"{cfg.d_model:,}"),
        ("vocabulary", f"{cfg.d_vocab:,} tokens"),
    ]


def example(pairs: Pairs, index: int, subject: Subject, noisy: bool = False) -> dict[str, list[str]]:
    """One pair, token by token, for people; a token with noise on its embedding begins with `NOISY`."""
    real = np.broadcast_to(np.asarray(pairs.positions), pairs.clean.shape)[index] >= 0
    sides = {name: np.asarray(getattr(pairs, name))[index][real] for name in ("clean", "corrupted")}
    sets = {name: np.asarray(getattr(pairs, name))[index] for name in ("answers", "others")}
    found = {name: names_of(ids[ids >= 0], subject) for name, ids in (sides | sets).items()}
    if noisy:
        differs = corruption.differing(pairs)[index][real]
        found["corrupted"] = [NOISY * bool(d) + token for d, token in zip(differs, found["clean"], strict=True)]
    return found
