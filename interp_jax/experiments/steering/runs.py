"""Grow a model, or take one, and steer it. Of a model that is given nothing is trained but edits: a run computes its analysis.

With K directions (`methods.DIRECTIONS`), O other forms (`methods.OTHERS`), T targets, L layers, X doses, N random directions, W
windows that are measured, all of them sums over positions (see `steering/response.py`):

    before [T W], weights [2 T W]           log-probability without an edit; positions that decide, and that do not
    directions.wanted, .kl [K T L X T W]    by the target that was steered towards, and the one that is measured
    others.wanted, .kl [O T L X T W]
    random.wanted, .kl [N L X T W]
    predicted.effect [K T L T], .kl         of a length of one stream's: effects grow with it, divergences with its square
    random.predicted.effect [N L T], .kl
    gate [T L 2]                            shares of decision points, and of other positions, at which the gate is open
    scale [L], rate, loss [2 T L], feature [T L], cosines [K K T L]
    group [W], about                        files of the windows; names and samples, as JSON
"""

import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from interp_jax.experiments.experiment import Experiment, untrained
from interp_jax.experiments.grow import runs as grow
from interp_jax.experiments.loop import digest
from interp_jax.experiments.steering import methods as ways
from interp_jax.experiments.steering.config import Config, grow_config
from interp_jax.experiments.steering.methods import DIRECTIONS, OTHERS, Methods
from interp_jax.experiments.steering.reading import Asked, Read, read, text_of
from interp_jax.experiments.steering.samples import written
from interp_jax.experiments.steering.subject import halves, pieces_of, steered, windows
from interp_jax.experiments.steering.targets import Source, target_of
from interp_jax.experiments.steering.tuning import learn
from interp_jax.experiments.subjects.model import Subject, load_params
from interp_jax.models import transformer
from interp_jax.models.transformer import Params
from interp_jax.steering.response import Response, check_text, dose_response
from interp_jax.steering.side_effects import predicted
from interp_jax.train.run import Run, RunState


def experiment(config: Config) -> Experiment:
    """The run of a config.

    Raises:
      InputError: a model, text or target that cannot be.
    """
    subject = steered(config)
    data = windows(config, subject)
    source = Source(data, pieces_of(subject), subject.tokenizer)
    targets = [target_of(name, source) for name in config.targets]

    def asked(seed: int) -> Asked:
        fit, measured = halves(data, seed)
        spread = np.unique(np.linspace(0, len(measured) - 1, config.reading.measured).round().astype(int))
        return Asked(config, subject.cfg, data, targets, fit, measured[spread], seed)

    check_text(text_of(asked(int(config.seed)), asked(int(config.seed)).measured))

    def analyse(state: RunState, hypers: Config, shared: Any) -> dict[str, np.ndarray]:
        params = load_params(config.model) if config.model.path else jax.tree.map(jnp.asarray, state.params)
        return measure(asked(int(state.seed)), subject, source, params)

    nothing = lambda state, hypers, shared: {}
    if not config.model.path:
        whole = grow.experiment(grow_config(config))
        return Experiment(growing(whole.run), nothing, (config.steps,), whole.shared, analyse=analyse)
    model = np.frombuffer(digest(load_params(config.model)).encode(), np.uint8)  # a changed model is another run
    return Experiment(untrained(), nothing, (config.steps,), {"model": model, "tokens": data.tokens}, analyse=analyse)


def growing(run: Run) -> Run:
    """The run that grows the model, of this experiment's config."""

    def init(seed: Any, hypers: Config) -> RunState:
        return run.init(seed, grow_config(hypers))

    def advance(state: RunState, hypers: Config, span: Any, shared: Any) -> tuple[RunState, dict[str, Array]]:
        return run.advance(state, grow_config(hypers), span, shared)

    return Run(init, advance)


def measure(asked: Asked, subject: Subject, source: Source, params: Params) -> dict[str, np.ndarray]:
    """Directions are found on some files, and measured on others."""
    seen = read(asked, params)
    methods = ways.found(asked, seen, learn(asked, params))
    text = text_of(asked, asked.measured)
    model = partial(transformer.apply, cfg=asked.cfg)
    before, after = jax.device_get(dose_response(model, params, text, ways.edits(asked, seen, methods)))
    arrays = {"before": before.wanted, "weights": np.stack([text.wanted.sum(-1), text.elsewhere.sum(-1)])}
    arrays |= responses(asked, after) | predictions(seen, methods)
    arrays |= {"scale": seen.scale, "rate": methods.learned.rate, "loss": methods.learned.loss}
    arrays |= {
        "feature": methods.feature,
        "gate": opened(asked, seen, methods),
        "group": asked.data.group[asked.measured],
    }
    unit = methods.vectors
    arrays["cosines"] = np.einsum("ktld,jtld->kjtl", unit, unit)
    samples = written(asked, source, params, methods, seen, arrays)
    return arrays | {"about": np.array(json.dumps(about(asked, subject, source, samples)))}


def responses(asked: Asked, after: dict[str, Response]) -> dict[str, np.ndarray]:
    """By method, target, layer and dose."""
    T, L, X = len(asked.targets), asked.cfg.n_layers, len(asked.config.doses.doses)
    n = len(DIRECTIONS) * T * L * X
    found = {}
    for name in Response._fields:
        plain = getattr(after["added"], name)
        found[f"directions.{name}"] = plain[:n].reshape(len(DIRECTIONS), T, L, X, *plain.shape[1:])
        found[f"random.{name}"] = plain[n:].reshape(-1, L, X, *plain.shape[1:])
        others = [getattr(after[other], name) for other in OTHERS]
        found[f"others.{name}"] = np.stack([x.reshape(T, L, X, *x.shape[1:]) for x in others])
    return found


def predictions(seen: Read, methods: Methods) -> dict[str, np.ndarray]:
    """Of one stream's length of every direction, from what was read on the files that directions are found on."""
    scaled = jax.vmap(lambda g, F, v, scale: predicted(g, F, v * scale), in_axes=(0, 0, -2, 0), out_axes=-2)
    own = scaled(seen.gradient, seen.fisher, jnp.asarray(methods.vectors), seen.scale)
    random = scaled(seen.gradient, seen.fisher, jnp.asarray(methods.random), seen.scale)
    return {
        "predicted.effect": np.asarray(own.effect),
        "predicted.kl": np.asarray(own.kl),
        "random.predicted.effect": np.asarray(random.effect),
        "random.predicted.kl": np.asarray(random.kl),
    }


def opened(asked: Asked, seen: Read, methods: Methods) -> np.ndarray:
    """Where gates are open, on the windows that are measured: by target and layer, where it decides and where it does not."""
    inside = np.zeros(asked.data.tokens.shape, bool)
    inside[asked.measured] = True
    share = np.zeros((len(asked.targets), asked.cfg.n_layers, 2))
    for t, target in enumerate(asked.targets):
        for side, which in enumerate((target.decides, ~target.decides)):
            rows = seen.rows[:, np.flatnonzero((which & inside).ravel())]
            score = jnp.einsum("lnd,ld->ln", rows, methods.gate.weights[t]) + methods.gate.bias[t][:, None]
            share[t, :, side] = np.asarray((score > 0).mean(1))
    return share


def about(asked: Asked, subject: Subject, source: Source, samples: list[dict[str, Any]]) -> dict[str, Any]:
    """What the report needs to name all that."""
    count = lambda which, windows: int(which[windows].sum())
    return {
        "model": subject.name,
        "title": subject.title,
        "source": asked.data.source,
        "windows": [len(asked.fit), len(asked.measured), asked.data.tokens.shape[1]],
        "files": [len(np.unique(asked.data.group[some])) for some in (asked.fit, asked.measured)],
        "left_out": list(asked.data.left_out),
        "targets": [
            {
                "name": target.name,
                "about": target.about,
                "tokens": [source.pieces[i] for i in np.flatnonzero(target.tokens)],
                "fit": [count(target.positive, asked.fit), count(target.decides, asked.fit)],
                "measured": [count(target.positive, asked.measured), count(target.decides, asked.measured)],
            }
            for target in asked.targets
        ],
        "samples": samples,
    }
