"""Small models that are told a cue: in half of them it decides the answer, in the others it is random and decides nothing.

    tokens    any of 8 · any of 8 · bit (2, 3) · any of 8 · cue (0, 1)          the answer is told at the last position
    used      the answer is the cue's                            never used      the answer is the bit's

The cue can be read off the last stream of both kinds: it is the token itself. The models are a population, trained here; then
a probe reads the cue, what any line could read of it is erased (LEACE), and the behaviour is measured again: the log-odds of
the answer, in the direction of what the model itself says when nothing is erased.
"""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from interp_jax import randomness, taps
from interp_jax.activations.moments import streamed
from interp_jax.models import transformer
from interp_jax.models.initialisation import init
from interp_jax.models.transformer import TransformerConfig
from interp_jax.probes import logistic
from interp_jax.probes.controls import TYPES, UNTRAINED
from interp_jax.probes.erasure.eraser import Eraser, stacked
from interp_jax.probes.erasure.linear import least_change, random_like
from interp_jax.probes.everywhere import Examples, everywhere
from interp_jax.probes.reliance import Reliance, reliance
from interp_jax.probes.removal import measured
from interp_jax.probes.splits import cross_validation
from interp_jax.train.optimizer import Optimizer, gradient_transformation
from interp_jax.train.population import population
from interp_jax.train.run import Span, training_run

MODELS = 4  # of each seed: two that use the cue, two that do not
STEPS, BATCH, PROBED, DRAWS = 300, 64, 400, 99
CFG = TransformerConfig(n_layers=1, d_model=32, n_heads=2, d_head=16, d_mlp=64, d_vocab=12, n_context=5)
BIT, OTHER, OTHERS = 2, 4, 8
SITE = "blocks.resid_post"
OPTIMIZER = Optimizer(name="adam", learning_rate=3e-3, decay="cosine")


class Told(NamedTuple):
    """Windows, their cues, and their bits."""

    tokens: Int[Array, "B 5"]
    cue: Bool[Array, " B"]
    bit: Bool[Array, " B"]


class Hypers(NamedTuple):
    """Of a model: its seed, and whether the answer is the cue's."""

    seed: Int[Array, "*R"]
    used: Bool[Array, "*R"]


class Found(NamedTuple):
    """Of models: the share of answers that are right, that of cues that are read, held out, and the reliance on these."""

    right: Float[np.ndarray, " R"]
    read: Float[np.ndarray, " R"]
    reliance: list[Reliance]
    used: Bool[np.ndarray, " R"]


def draw(seed: Any, step: Any, n: int) -> Told:
    """The examples of a step."""
    cue, bit, other = jax.random.split(randomness.key(seed, "cues", step), 3)
    cue, bit = jax.random.bernoulli(cue, shape=(n,)), jax.random.bernoulli(bit, shape=(n,))
    first, second, third = OTHER + jax.random.randint(other, (3, n), 0, OTHERS)
    return Told(jnp.stack([first, second, BIT + bit, third, 1 * cue], axis=1), cue, bit)


def log_odds(params: Any, tokens: Int[Array, "B 5"]) -> Float[Array, " B"]:
    """Of yes against no, at the last position."""
    logits = transformer.apply(params, tokens, CFG)[:, -1]
    return logits[:, BIT + 1] - logits[:, BIT]


def answer(told: Told, used: Any) -> Bool[Array, " B"]:
    """What is right."""
    return jnp.where(used, told.cue, told.bit)


@cache
def trained() -> Any:
    """The population's program: hypers [R] -> parameters, [R ...]."""

    def loss(params: Any, hypers: Hypers, seed: Array, step: Array, shared: Any) -> tuple[Array, dict[str, Array]]:
        told = draw(seed, step, BATCH)
        signed = jnp.where(answer(told, hypers.used), 1.0, -1.0) * log_odds(params, told.tokens)
        return jax.nn.softplus(-signed).mean(), {}

    run = training_run(
        lambda seed, hypers: init(randomness.key(seed, "weights"), CFG),
        loss,
        lambda hypers: gradient_transformation(OPTIMIZER, STEPS),
    )

    def whole(hypers: Hypers, shared: Any) -> Any:
        return run.advance(run.init(hypers.seed, hypers), hypers, Span(0, STEPS), shared)[0].params

    return population(whole, MODELS, jax.devices()[:1])


def found(seed: int) -> Found:
    """Train the models of a seed, read the cue off each, and take it out."""
    used = np.arange(MODELS) % 2 == 0
    params = trained()(Hypers(jnp.arange(MODELS) + MODELS * seed, jnp.asarray(used)), ())
    told = draw(seed, STEPS + 1, PROBED)
    said, x = streams()(params, told.tokens)
    right = (np.asarray(said) > 0) == np.stack([answer(told, u) for u in used])
    read = everywhere(
        logistic.PROBE,
        Examples(x, np.asarray(told.cue)[None]),
        cross_validation(PROBED, 5, seeds=1),
        logistic.Hypers(1.0),
        axes={"model": range(MODELS)},
        without=(TYPES, UNTRAINED),
    )
    relied = []
    for model in range(MODELS):
        own = jax.tree.map(lambda leaf, model=model: leaf[model], params)
        rows = np.asarray(x[model], np.float64)
        moments = streamed([(rows, np.asarray(told.cue, np.float64)[:, None], None)])
        relied.append(
            without(own, told.tokens, np.sign(np.asarray(said[model])), stacked([least_change(moments)]), seed)
        )
    return Found(right.mean(1), read.measure("accuracy")[:, 0, 0, 0], relied, used)


@cache
def streams() -> Any:
    """(parameters [R ...], tokens) -> log-odds [R B], and the last stream at the last position [R B D]."""

    def one(params: Any, tokens: Array) -> tuple[Array, Array]:
        said, seen = taps.record(log_odds, {SITE: (CFG.n_layers - 1,)})(params, tokens)
        return said, seen[SITE][0, :, -1]

    return jax.jit(jax.vmap(one, in_axes=(0, None)))


def signed(params: Any, tokens: Int[Array, "B 5"], sign: Float[Array, " B"]) -> Float[Array, " B"]:
    """The log-odds of what the model says by itself."""
    return sign * log_odds(params, tokens)


def without(params: Any, tokens: Any, sign: np.ndarray, erasers: Eraser, seed: int) -> Reliance:
    """The reliance of one model on what erasers take out at the last position."""
    where = (np.arange(5) == 4)[:, None]
    controls = random_like(erasers, seed, DRAWS)
    args = (params, tokens, jnp.asarray(sign, jnp.float32))
    layers = np.full(len(erasers.read), CFG.n_layers - 1)
    return reliance(measured(signed, args, SITE, erasers, controls, layers, where, DRAWS + 2, jax.devices()[:1]))
