"""What is read of the model on the windows that directions are found on: stream, contrasts, gradients, Fisher's matrices."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax import taps
from interp_jax.data.probing.variables import Annotated
from interp_jax.experiments.steering.config import Config
from interp_jax.experiments.steering.targets import Target
from interp_jax.models import transformer
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.steering.directions import scale_of
from interp_jax.steering.response import Text, class_log_probability
from interp_jax.steering.side_effects import Site, fisher, gradients

SITE = "blocks.resid_post"


class Asked(NamedTuple):
    """What a run asks, and of what.

    Attributes:
      config: of the run.
      cfg: of the model.
      data: windows.
      targets: on these.
      fit: windows that directions are found on.
      measured: those that they are measured on.
      seed: of what is drawn.
    """

    config: Config
    cfg: TransformerConfig
    data: Annotated
    targets: list[Target]
    fit: Int[np.ndarray, " N"]
    measured: Int[np.ndarray, " M"]
    seed: int


class Contrast(NamedTuple):
    """Decision points of a target, as rows of all windows: n where it was wanted, as many where not, in pairs."""

    positive: Int[np.ndarray, " n"]
    negative: Int[np.ndarray, " n"]


class Read(NamedTuple):
    """What was read.

    Attributes:
      rows: of the stream, of each layer.
      scale: the root mean square length of it.
      contrasts: of each target.
      gradient: of each target's mean log-probability, by layer.
      fisher: of the positions where nothing is wanted, by layer and target.
    """

    rows: Float[Array, "L N D"]
    scale: Float[np.ndarray, " L"]
    contrasts: list[Contrast]
    gradient: Float[np.ndarray, "L T D"]
    fisher: Float[np.ndarray, "L T D D"]


def text_of(asked: Asked, windows: Int[np.ndarray, " W"]) -> Text:
    """Windows as responses are measured on them."""
    stacked = lambda of: np.stack([of(target) for target in asked.targets])
    decides = stacked(lambda target: target.decides[windows])
    counts = np.broadcast_to(asked.data.positions >= 0, asked.data.tokens.shape)[windows]
    classes = stacked(lambda target: target.tokens)
    tokens = jnp.asarray(asked.data.tokens[windows])
    return Text(tokens, jnp.asarray(classes), jnp.float32(decides), jnp.float32(counts & ~decides))


def contrast_of(asked: Asked, target: Target, rng: np.random.Generator) -> Contrast:
    """Pairs whose tokens are the same where there is such a pair, so that they differ in what is to come alone."""
    inside = np.zeros(target.decides.shape, bool)
    inside[asked.fit] = True
    place = lambda which: np.flatnonzero((which & inside).ravel())
    positive, negative = place(target.positive), place(target.decides & ~target.positive)
    positive = rng.permutation(positive)[: asked.config.reading.examples]
    token = asked.data.tokens.ravel()
    others = {t: negative[token[negative] == t] for t in np.unique(token[positive])}
    draw = lambda t: rng.choice(others[t] if len(others[t]) else negative)
    return Contrast(positive, np.array([draw(t) for t in token[positive]]))


def streams(asked: Asked, params: Params) -> Float[Array, "L N D"]:
    """The stream after every layer at all positions of all windows, N = W · P; windows beyond the last block run twice."""
    n, at_once = len(asked.data.tokens), asked.config.reading.at_once
    order = np.minimum(np.arange(-(-n // at_once) * at_once), n - 1)
    found = _streams(
        params, jnp.asarray(asked.data.tokens[order].reshape(-1, at_once, asked.data.tokens.shape[1])), asked.cfg
    )
    return jnp.moveaxis(found, 0, 1).reshape(asked.cfg.n_layers, -1, asked.cfg.d_model)[:, : asked.data.tokens.size]


@partial(jax.jit, static_argnames="cfg")
def _streams(params: Params, blocks: Int[Array, "B W P"], cfg: TransformerConfig) -> Float[Array, "B L W P D"]:
    model = lambda tokens: transformer.stream(params, tokens, cfg)
    return jax.lax.map(lambda tokens: taps.record(model, [SITE])(tokens)[1][SITE], blocks)


def read(asked: Asked, params: Params) -> Read:
    """All of it."""
    rng = np.random.default_rng(asked.seed)
    rows = streams(asked, params)
    own = jnp.asarray(
        (asked.fit[:, None] * asked.data.tokens.shape[1] + np.arange(asked.data.tokens.shape[1])).ravel()
    )
    doses = asked.config.doses
    some = lambda n: text_of(asked, with_all(asked, n))
    gradient = derivatives(params, some(doses.gradient), asked.cfg)
    curvature = curvatures(params, some(doses.fisher), asked.cfg)
    scale = jax.vmap(scale_of)(rows[:, own])
    contrasts = [contrast_of(asked, target, rng) for target in asked.targets]
    return Read(rows, np.asarray(scale), contrasts, np.asarray(gradient), np.asarray(curvature))


def with_all(asked: Asked, n: int) -> Int[np.ndarray, " W"]:
    """Some of the windows that directions are found on, spread over all."""
    return asked.fit[np.unique(np.linspace(0, len(asked.fit) - 1, min(n, len(asked.fit))).round().astype(int))]


def mean_log_probability(logits: Float[Array, "B P V"], text: Text) -> Float[Array, " T"]:
    """Of each class, over the positions that decide about it."""
    weights = text.wanted / jnp.maximum(text.wanted.sum((1, 2), keepdims=True), 1.0)
    return (weights * class_log_probability(logits, jnp.asarray(text.classes))).sum((1, 2))


@partial(jax.jit, static_argnames="cfg")
def derivatives(params: Params, text: Text, cfg: TransformerConfig) -> Float[Array, "L T D"]:
    """Gradients of what is wanted with respect to a vector that is added at every position, layer by layer."""
    model = lambda tokens: transformer.apply(params, tokens, cfg)
    metrics = lambda logits: mean_log_probability(logits, text)
    of_layer = lambda layer: gradients(model, text.tokens, Site(SITE, layer, cfg.d_model), metrics)
    return jax.lax.map(of_layer, jnp.arange(cfg.n_layers))


@partial(jax.jit, static_argnames="cfg")
def curvatures(params: Params, text: Text, cfg: TransformerConfig) -> Float[Array, "L T D D"]:
    """Fisher's matrices of the positions where nothing is wanted."""
    model = lambda tokens: transformer.apply(params, tokens, cfg)
    of_layer = lambda layer: fisher(model, text.tokens, text.elsewhere, Site(SITE, layer, cfg.d_model))
    return jax.lax.map(of_layer, jnp.arange(cfg.n_layers))
