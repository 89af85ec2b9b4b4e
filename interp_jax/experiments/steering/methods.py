"""Every method's direction or edit, for each target and layer, from what was read; and the edits of all doses, by form.

Directions are given in doses of the stream's own length, so that they are matched in norm with random ones. A feature of the
dictionary is held at a dose of the same units; what is learned with a rank is given so many times.
"""

from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax import randomness
from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.judged import Batch
from interp_jax.dictionaries.run import dictionary_run
from interp_jax.experiments.steering.config import Config
from interp_jax.experiments.steering.reading import SITE, Asked, Read
from interp_jax.experiments.steering.tuning import Learned
from interp_jax.probes import logistic
from interp_jax.probes.linear import Linear
from interp_jax.steering import fine_tuning
from interp_jax.steering.directions import (
    difference_of_means,
    principal_difference,
    probe_direction,
    random_directions,
    unit,
)
from interp_jax.steering.interventions import Edits, added, feature_held, gated
from interp_jax.steering.side_effects import targeted
from interp_jax.train.optimizer import Optimizer
from interp_jax.train.population import population
from interp_jax.train.run import Span

DIFFERENCE, PRINCIPAL, PROBE = "difference of means", "principal difference", "probe"
REFT, TARGETED, ALONE = "ReFT-r1", "targeted", "targeted, others kept"
DIRECTIONS = (DIFFERENCE, PRINCIPAL, PROBE, REFT, TARGETED, ALONE)
GATED, FEATURE, LOREFT = "difference, gated", "feature held", "LoReFT"
OTHERS = (GATED, FEATURE, LOREFT)
PENALTY = 1.0  # of probes, on activations of the stream's own scale


class Methods(NamedTuple):
    """What is given, by target and layer.

    Attributes:
      vectors: of length 1, in the order of `DIRECTIONS`.
      random: of length 1, the same for all targets.
      gate: probes that tell decision points from other positions.
      dictionaries: of each layer.
      feature: held for each target and layer.
      learned: by fine-tuning.
    """

    vectors: Float[np.ndarray, "K T L D"]
    random: Float[np.ndarray, "N L D"]
    gate: Linear
    dictionaries: Any
    feature: Int[np.ndarray, "T L"]
    learned: Learned


def found(asked: Asked, seen: Read, learned: Learned) -> Methods:
    """All methods."""
    T, L, D = len(asked.targets), asked.cfg.n_layers, asked.cfg.d_model
    vectors = np.zeros((len(DIRECTIONS), T, L, D), np.float32)
    for t, contrast in enumerate(seen.contrasts):
        positive, negative = seen.rows[:, contrast.positive], seen.rows[:, contrast.negative]
        x = jnp.concatenate([positive, negative], 1) / seen.scale[:, None, None]
        y = jnp.arange(x.shape[1]) < len(contrast.positive)
        vectors[:3, t] = contrasted(x, y.astype(x.dtype), positive, negative)
        vectors[3, t] = fine_tuning.direction(learned.reft)[t]
        others = np.arange(T) != t
        vectors[4, t] = aimed(asked.config, seen, t, np.zeros((L, 0, D), np.float32))
        vectors[5, t] = aimed(asked.config, seen, t, seen.gradient[:, others])
    keys = jax.random.split(randomness.key(asked.seed, "steering.random"), L)
    random = np.stack([random_directions(key, asked.config.doses.random, D) for key in keys], 1)
    dictionaries = trained_dictionaries(asked, seen)
    return Methods(vectors, random, gates(asked, seen), dictionaries, features(asked, seen, dictionaries), learned)


@jax.jit
def contrasted(
    x: Float[Array, "L n D"], y: Float[Array, " n"], positive: Float[Array, "L m D"], negative: Float[Array, "L m D"]
) -> Float[Array, "3 L D"]:
    """The first three directions, layer by layer."""

    def of_layer(one: tuple[Array, Array, Array]) -> Array:
        x, positive, negative = one
        probe = logistic.fit(None, x, y, jnp.ones(len(y)), logistic.Hypers(PENALTY))
        principal = principal_difference(positive, negative).direction
        return jnp.stack([unit(difference_of_means(x, y)), principal, probe_direction(probe)])

    return jnp.moveaxis(jax.lax.map(of_layer, (x, positive, negative)), 0, 1)


def aimed(config: Config, seen: Read, t: int, unwanted: Float[np.ndarray, "L U D"]) -> Float[Array, "L D"]:
    """The targeted direction of each layer."""
    bound, damping = config.doses.bound, config.doses.damping
    best = lambda gradient, fisher, others: unit(targeted(gradient, fisher, bound, others, damping).vector)
    return jax.jit(jax.vmap(best))(seen.gradient[:, t], seen.fisher[:, t], unwanted)


def gates(asked: Asked, seen: Read) -> Linear:
    """Probes, leaves [T L ...], that tell where a target is decided, with yes and no weighing alike."""
    rng, rows = np.random.default_rng(asked.seed + 1), []
    inside = np.zeros(asked.data.tokens.shape, bool)
    inside[asked.fit] = True
    for target in asked.targets:
        sides = [np.flatnonzero((side & inside).ravel()) for side in (target.decides, ~target.decides)]
        rows.append([rng.choice(side, asked.config.reading.examples) for side in sides])
    index = jnp.asarray(np.array(rows).reshape(len(rows), -1))  # [T 2n]
    y = (jnp.arange(index.shape[1]) < index.shape[1] // 2).astype(seen.rows.dtype)

    @jax.jit
    def fit(rows: Array, scale: Array) -> Linear:
        of_layer = lambda one: logistic.fit(None, one[0] / one[1], y, jnp.ones(len(y)), logistic.Hypers(PENALTY))
        probe = jax.lax.map(lambda own: jax.lax.map(of_layer, (rows[:, own], scale)), index)
        return Linear(probe.weights / scale[:, None], probe.bias)

    return fit(seen.rows, jnp.asarray(seen.scale))


def dictionary_of(config: Config, width: int) -> Dictionary:
    """Its shape."""
    of = config.features
    return Dictionary(kind="topk", d_in=width, n_features=of.n_features, most=of.k, k=of.k, dead_after=50_000)


def trained_dictionaries(asked: Asked, seen: Read) -> Any:
    """Parameters, leaves [L ...], of activations about their mean and of the stream's own length."""
    of, cfg = asked.config.features, dictionary_of(asked.config, asked.cfg.d_model)
    optimizer = Optimizer(learning_rate=2e-3, decay="cosine")
    width = asked.data.tokens.shape[1]
    index = jnp.asarray((asked.fit[:, None] * width + np.arange(width)).ravel())

    def draw(hypers: Any, shared: Any, seed: Array, step: Array) -> Batch:
        chosen = jax.random.randint(randomness.key(seed, "steering.rows", step), (of.batch_size,), 0, len(index))
        x = shared[hypers, index[chosen]]
        return Batch(x, x)

    run = dictionary_run(draw, lambda hypers: (cfg, optimizer, of.steps))

    def whole(layer: Array, shared: Array) -> Any:
        return run.advance(run.init(asked.seed, layer), layer, Span(0, of.steps), shared)[0].params

    layers = jnp.arange(asked.cfg.n_layers)
    return population(whole, 1, jax.devices()[:1])(layers, seen.rows / seen.scale[:, None, None])


def features(asked: Asked, seen: Read, params: Any) -> Int[np.ndarray, "T L"]:
    """The feature that tells decisions apart best: by the difference of its means, in units of its spread."""
    cfg = dictionary_of(asked.config, asked.cfg.d_model)

    @jax.jit
    def apart(params: Any, positive: Array, negative: Array) -> Array:
        f, g = dictionary.encode(params, positive, cfg), dictionary.encode(params, negative, cfg)
        spread = jnp.sqrt(f.var(0) + g.var(0))
        return jnp.where(spread > 0, (f.mean(0) - g.mean(0)) / jnp.where(spread > 0, spread, 1.0), -jnp.inf).argmax()

    chosen = np.zeros((len(asked.targets), asked.cfg.n_layers), int)
    for t, contrast in enumerate(seen.contrasts):
        for layer, scale in enumerate(seen.scale):
            own = jax.tree.map(lambda leaf, layer=layer: leaf[layer], params)
            sides = (seen.rows[layer, rows] / scale for rows in (contrast.positive, contrast.negative))
            chosen[t, layer] = int(apart(own, *sides))
    return chosen


def encode(params: Any, x: Float[Array, "B D"]) -> Float[Array, "B F"]:
    """Features of a dictionary with its scale and shape in `params`."""
    return dictionary.encode(params["own"], x / params["scale"], params["cfg"])


def decode(params: Any, f: Float[Array, "B F"]) -> Float[Array, "B D"]:
    """What they say, in the stream's units."""
    return params["scale"] * dictionary.decode(params["own"], f, params["cfg"])


def edits(asked: Asked, seen: Read, methods: Methods) -> dict[str, Edits]:
    """The edits of all doses, by form: "added" has [K T L X] and then random ones [N L X], flat; the others [T L X]."""
    doses = np.array(asked.config.doses.doses, np.float32)
    T, L, X = len(asked.targets), asked.cfg.n_layers, len(doses)
    stacked = lambda v: v.reshape(-1, v.shape[-1])
    vectors = np.concatenate([stacked(methods.vectors), stacked(methods.random)])
    layers = np.tile(np.arange(L), len(vectors) // L)
    each = lambda x: np.repeat(x, X, axis=0)
    length = np.tile(doses, len(vectors)) * each(seen.scale[layers])
    plain = added(jnp.asarray(each(vectors)), jnp.asarray(length), jnp.asarray(each(layers)))
    t, layer, dose = (x.ravel() for x in np.meshgrid(np.arange(T), np.arange(L), np.arange(X), indexing="ij"))
    at, given, length = jnp.asarray(layer), jnp.asarray(doses[dose]), jnp.asarray(doses[dose] * seen.scale[layer])
    gate = SimpleNamespace(weights=methods.gate.weights[t, layer], bias=methods.gate.bias[t, layer])
    where_decided = gated(jnp.asarray(methods.vectors[0, t, layer]), gate, length, at)
    own = jax.tree.map(lambda leaf: leaf[layer], methods.dictionaries)
    cfg = jax.tree.map(
        lambda leaf: jnp.full(len(t), leaf), dictionary_of(asked.config, asked.cfg.d_model)
    )  # a part: its numbers are arrays
    params = {"own": own, "scale": jnp.asarray(seen.scale[layer]), "cfg": cfg}
    held = feature_held(encode, decode, params, jnp.asarray(methods.feature[t, layer]), given, at)
    many = jax.tree.map(lambda leaf: leaf[t, layer], methods.learned.loreft)
    make = lambda params, dose, layer: fine_tuning.loreft_edit(params, SimpleNamespace(layer=layer), dose)
    learned = jax.jit(jax.vmap(make))(many, given, at)
    return {
        name: {SITE: one} for name, one in zip(("added", *OTHERS), (plain, where_decided, held, learned), strict=True)
    }
