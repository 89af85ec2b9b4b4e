"""Look at every feature of a dictionary. Nothing is trained: what a run computes is its observation, in one pass over text.

The text goes by in blocks of windows; what is kept of it is of fixed size, whatever its length. Tokens whose activations the
dictionary was not trained on (the first of a window, ends of text, activations that are too long) count for nothing. With E
strongest examples, Q quantiles, S tokens around each, N neighbours and T tokens, of one dictionary:

    n                                        tokens that count
    fired, histogram [F], [F K]              see `measures/activity.py`
    strongest.*, quantile.* [F E], [F Q]     rank, window, position, value, around [… S]; see `measures/examples.py`
    strongest.tokens, quantile.tokens        [… S], -1 beyond the window
    quantile.there, quantile.bounds          [F Q], [F Q+1]
    neighbours.feature, .cosine, .together   [F N]; see `measures/geometry.py`, `neighbours.py`
    logits.*                                 see `measures/token_logits.py`; only of what is added to the stream
    lengths [F I]                            of crosscoders: of each feature's row in each piece, in normalised units
    clamped.feature [C]                      which were clamped
    clamped.*                                see `measures/clamped.py`
    concepts.auroc, .control [C F]           of each concept, see `concepts.py`; only of text that has labels
    concepts.n, .without [C]                 tokens that have it, and that do not
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax import randomness
from interp_jax.data.probing.variables import NONE
from interp_jax.data.text import spread_windows
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.judged import in_use
from interp_jax.dictionaries.measures import activity, clamped, examples, geometry, neighbours
from interp_jax.dictionaries.measures.token_logits import is_added, token_logits
from interp_jax.errors import InputError
from interp_jax.experiments.dictionaries import runs as trained_runs
from interp_jax.experiments.dictionaries.stream import here
from interp_jax.experiments.experiment import Experiment, untrained
from interp_jax.experiments.features import source
from interp_jax.experiments.features.concepts import Probed, labels_of, nothing_probed, probed, scores, with_moved
from interp_jax.experiments.features.config import Config
from interp_jax.experiments.features.place import Place, Subject, place_of, read
from interp_jax.experiments.subjects.text import behind, settled
from interp_jax.models.transformer import TransformerConfig
from interp_jax.train.run import RunState


class Shared(NamedTuple):
    """What is read.

    Attributes:
      subject: the dictionary and its models.
      windows: held-out text, in blocks.
      clamped: windows in which features are clamped.
      labels: of the windows, by variable, of which there may be none.
    """

    subject: Subject
    windows: Int[Array, "N W P"]
    clamped: Int[Array, "B P"]
    labels: Int[Array, "V N W P"]


class Passed(NamedTuple):
    """What is kept of the text that went by."""

    n: Int[Array, ""]
    inverse_scale: Float[Array, ""]
    activity: activity.Activity
    strongest: examples.Examples
    drawn: examples.Examples
    together: Int[Array, "F N"]
    probed: Probed


def experiment(config: Config) -> Experiment:
    """The run of one dictionary.

    Raises:
      InputError: no finished dictionary, or a model, site or text that cannot be.
    """
    found = source.find(config.dictionary)
    trained = replace(found.trained, harvest=settled(found.trained.harvest, found.trained.model))
    cfgs, subject = trained_runs.subject(trained)
    check(config, trained.dictionary, cfgs[0])
    place = place_of(trained, cfgs, config.dictionary.piece)
    text = source.text_of(trained)
    tokens, before = text.tokens, len(text.prefix)
    at = windows_of(config, len(tokens), cfgs[0].n_context - before)
    windows = behind(text.prefix, tokens[at])
    labels = behind((NONE,) * before, labels_of(text.documents, text.ends, len(tokens), at))
    length = min(config.clamp.length, cfgs[0].n_context) - before
    of_clamp = behind(text.prefix, spread_windows(tokens, config.clamp.windows, length))
    arrays = (jnp.asarray(x, jnp.int32) for x in (windows, of_clamp, labels))
    normal = {name: here(by, trained.place) for name, by in subject.normal.items()}
    shared = Shared(Subject(subject.models, source.load(found), normal), *arrays)
    look = lambda state, hypers, shared: observe(state, hypers, shared, place)
    return Experiment(untrained(), look, (config.steps,), shared)


def check(config: Config, own: Dictionary, cfg: TransformerConfig) -> None:
    """Raise `InputError` for more neighbours or tokens than there are."""
    if config.shown.neighbours >= own.n_features:
        raise InputError(f"shown.neighbours = {config.shown.neighbours}: the dictionary has {own.n_features} features")
    if config.shown.tokens > cfg.d_vocab:
        raise InputError(f"shown.tokens = {config.shown.tokens}: the model has {cfg.d_vocab} tokens")


def windows_of(config: Config, n: int, length: int) -> Int[np.ndarray, "N W P"]:
    """Where windows lie in a text of n tokens: blocks of them, spread over it, that do not overlap.

    Raises:
      InputError: the text is shorter than a block.
    """
    at_once = config.text.at_once
    blocks = min(config.text.windows, n // length) // at_once
    if not blocks:
        raise InputError(
            f"text.at_once = {at_once}: the held-out text has {n // length} windows of {length} tokens, and "
            f"text.windows = {config.text.windows}"
        )
    return spread_windows(np.arange(n), blocks * at_once, length).reshape(blocks, at_once, length)


def observe(state: RunState, config: Config, shared: Shared, place: Place) -> dict[str, Array]:
    """All that is to be said of the features."""
    shown, here, subject = config.shown, place.here, shared.subject
    near = geometry.nearest(subject.rows(place), shown.neighbours, used=in_use(place.own))
    passed = passing(state.seed, config, shared, place, near.feature)
    at, there, bounds = examples.at_quantiles(passed.drawn, shown.quantiles)
    found = {"n": passed.n, "fired": passed.activity.fired, "histogram": passed.activity.histogram}
    for name, of in (("strongest", passed.strongest), ("quantile", at)):
        found |= {f"{name}.{field}": value for field, value in of._asdict().items()}
        found[f"{name}.tokens"] = tokens_around(of, shared.windows, shown.before)
    found |= {"quantile.there": there, "quantile.bounds": bounds}
    found |= {f"neighbours.{name}": value for name, value in near._asdict().items()}
    found["neighbours.together"] = passed.together
    found |= scores(passed.probed, len(shared.labels))
    if place.own.pieces > 1:
        found["lengths"] = subject.lengths(place)
    if is_added(here.write, cfg := place.cfgs[here.model]):
        scale, rows = passed.inverse_scale / passed.n, subject.rows_here(place)
        said = token_logits(subject.models[here.model], cfg, scale, rows, shown.tokens, shown.bins)
        found |= {f"logits.{name}": value for name, value in said._asdict().items()}
    return found | clamping(state.seed, config, shared, place, passed)


def passing(seed: Array, config: Config, shared: Shared, place: Place, near: Int[Array, "F N"]) -> Passed:
    """The text, block by block."""
    shown, n_features = config.shown, place.own.n_features
    span, edges = (shown.before, shown.after), activity.log_edges(shown.low, shown.high, shown.per_decade)
    thresholds = (0.0, *activity.log_edges(shown.low, shown.high, config.concepts.per_decade).tolist())
    at_once = shared.windows.shape[1]

    def step(kept: Passed, block: Any) -> tuple[Passed, None]:
        b, tokens, labels = block
        f, counts, inverse, _ = read(tokens, shared.subject, place)
        flat, first = f.reshape(-1, n_features), b * at_once
        return Passed(
            kept.n + counts.sum(),
            kept.inverse_scale + jnp.where(counts, inverse, 0.0).sum(),
            activity.add(kept.activity, activity.activity(flat, edges)),
            examples.merge(kept.strongest, examples.strongest(f, first, span)),
            examples.merge(kept.drawn, examples.drawn(f, first, span, seed)),
            kept.together + neighbours.fired_together(flat, near),
            jax.tree.map(jnp.add, kept.probed, probed(flat, labels, counts, thresholds)),
        ), None

    nothing = lambda *shape: jnp.zeros(shape, jnp.int32)
    begin = Passed(
        nothing(),
        jnp.zeros(()),
        activity.Activity(nothing(n_features), nothing(n_features, len(edges) - 1)),
        examples.no_examples(n_features, shown.strongest, span),
        examples.no_examples(n_features, shown.drawn, span),
        nothing(*near.shape),
        nothing_probed(len(shared.labels), n_features, thresholds),
    )
    labels = jnp.moveaxis(with_moved(seed, shared.labels), 2, 0)
    return jax.lax.scan(step, begin, (jnp.arange(len(shared.windows)), shared.windows, labels))[0]


def tokens_around(of: examples.Examples, windows: Int[Array, "N W P"], before: int) -> Int[Array, "F E S"]:
    """The tokens around examples, -1 beyond their windows."""
    every, length = windows.reshape(-1, windows.shape[-1]), windows.shape[-1]
    at = of.position[..., None] - before + jnp.arange(of.around.shape[-1])
    inside = (at >= 0) & (at < length) & (of.window >= 0)[..., None]
    return jnp.where(inside, every[of.window[..., None], jnp.clip(at, 0, length - 1)], examples.NONE)


def clamping(seed: Array, config: Config, shared: Shared, place: Place, passed: Passed) -> dict[str, Array]:
    """What those that fire most do when they are clamped."""
    subject, here = shared.subject, place.here
    f, counts, _, written = read(shared.clamped, subject, place)
    chosen = jnp.argsort(-passed.activity.fired)[: min(config.clamp.most, place.own.n_features)]
    level = config.clamp.multiple * passed.strongest.value[chosen, 0]
    site = clamped.Site(here.write, here.layer, written.shape[2:])
    features = (f.transpose(2, 0, 1)[chosen], subject.rows_here(place)[chosen], level)
    draw = lambda c: jax.random.split(randomness.key(seed, "features.control", c), place.own.n_features)[chosen]
    keys = jnp.stack([draw(c) for c in range(config.clamp.controls)], 1)
    model, n = subject.model(place), config.shown.tokens
    found = clamped.clamped(model, shared.clamped, counts, site, features, keys, n)
    return {"clamped.feature": chosen} | {f"clamped.{name}": value for name, value in found._asdict().items()}
