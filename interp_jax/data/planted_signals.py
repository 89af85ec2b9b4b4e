"""Activations in which it is written down what can be read off them, and how well: what probes are calibrated on.

    line           x = ±δ/2 m + noise: two normal classes with one covariance Σ
                   best reading Σ⁻¹ m, right with probability Φ(δ/2 · √(mᵀ Σ⁻¹ m))
    exclusive or   x = ±s u ± s v + noise; the label says whether the signs differ
                   right with probability p² + (1 - p)², p = Φ(s); a line ranks pairs by chance
    rank k         targets T x + noise, T [C D] of rank k
    typed          tokens of types, each type a point; a label of a side of a plane, so of each type
    statements     pairs of a statement and its negation; truth along one direction, negation along another, which is stronger
    marked         texts, of which one position has a mark along one direction; the label is the sign ±s along another there,
                   where other positions have signs of their own. Who finds the mark is right with probability Φ(s)
    trees          words of trees: ±1 along a direction of its own for each edge on the way from the root; so squared distances
                   of words are numbers of edges between them, and squared lengths are depths
    absent         labels that have nothing to do with x

Directions are orthonormal; draws are functions of their keys: of the directions, and of the examples.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, ndtr
from jaxtyping import Array, Float, Int, Key

from interp_jax.data.planted_dictionaries import orthonormal


class Planted(NamedTuple):
    """Activations, targets, and the directions that say these; every function explains them."""

    x: Float[Array, "N *P D"]
    y: Float[Array, "N *C"]
    directions: Float[Array, "k D"]


class Line(NamedTuple):
    """Two normal classes: see the module. `mean` is m δ/2, of class 1; that of class 0 is its opposite."""

    x: Float[Array, "N D"]
    y: Float[Array, " N"]
    mean: Float[Array, " D"]
    covariance: Float[Array, "D D"]


class Typed(NamedTuple):
    """Tokens, their labels, and their types."""

    x: Float[Array, "N D"]
    y: Float[Array, " N"]
    types: Int[Array, " N"]


class Trees(NamedTuple):
    """Words of trees, numbers of edges between them and from the root, and the directions of edges."""

    x: Float[Array, "N P D"]
    distances: Float[Array, "N P P"]
    depths: Float[Array, "N P"]
    directions: Float[Array, "k D"]


def line(keys: Key[Array, "2"], n: int, d: int, separation: float = 2.0, stretch: float = 1.0) -> Line:
    """Labels 0 or 1.

    Args:
      keys: of the directions, and of the examples.
      n: examples.
      d: dimensions.
      separation: δ, between the means.
      stretch: standard deviations of the noise go from 1/stretch to stretch, in directions that are not m's.
    """
    way, turn = jax.random.split(keys[0])
    label, error = jax.random.split(keys[1])
    mean = separation / 2 * orthonormal(way, 1, d)[0]
    basis = orthonormal(turn, d, d)
    deviation = stretch ** jnp.linspace(-1.0, 1.0, d)
    y = jax.random.bernoulli(label, shape=(n,)).astype(jnp.float32)
    noise = jnp.matmul(jax.random.normal(error, (n, d)) * deviation, basis, precision="highest")
    covariance = jnp.matmul(basis.T * deviation**2, basis, precision="highest")
    return Line((2 * y - 1)[:, None] * mean + noise, y, mean, covariance)


def best_reading(planted: Line) -> Float[Array, " D"]:
    """Σ⁻¹ m δ/2."""
    return jnp.linalg.solve(planted.covariance, planted.mean)


def best_rate(planted: Line) -> Float[Array, ""]:
    """The share of labels that the best reading has right: Bayes's rate."""
    return ndtr(jnp.sqrt(planted.mean @ best_reading(planted)))


def rate_of(planted: Line, weights: Float[Array, "*R D"], bias: Float[Array, "*R"]) -> Float[Array, "*R"]:
    """The share of labels that x · weights + bias > 0 has right, of all examples that could be drawn."""
    deviation = jnp.sqrt(jnp.einsum("...d,de,...e->...", weights, planted.covariance, weights, precision="highest"))
    towards = jnp.matmul(weights, planted.mean, precision="highest")
    return (ndtr((towards + bias) / deviation) + ndtr((towards - bias) / deviation)) / 2


def exclusive_or(keys: Key[Array, "2"], n: int, d: int, strength: float = 2.0) -> Planted:
    """Labels 0 or 1 of whether the signs along two directions differ; the strength is in deviations of the noise."""
    signs, error = jax.random.split(keys[1])
    both = jax.random.bernoulli(signs, shape=(n, 2))
    directions = orthonormal(keys[0], 2, d)
    said = jnp.matmul(strength * (2.0 * both - 1), directions, precision="highest")
    y = (both[:, 0] ^ both[:, 1]).astype(jnp.float32)
    return Planted(said + jax.random.normal(error, (n, d)), y, directions)


def exclusive_or_rate(strength: float) -> Float[Array, ""]:
    """Bayes's rate."""
    p = ndtr(jnp.float32(strength))
    return p**2 + (1 - p) ** 2


def ranked(keys: Key[Array, "2"], n: int, d: int, k: int, targets: int, noise: float = 0.5) -> Planted:
    """Numbers [N C] that k directions say, each target by a mixture of its own, with noise."""
    way, mixture = jax.random.split(keys[0])
    own, error = jax.random.split(keys[1])
    directions = orthonormal(way, k, d)
    mixtures = jax.random.normal(mixture, (k, targets)) / jnp.sqrt(1.0 * k)
    x = jax.random.normal(own, (n, d))
    said = jnp.matmul(jnp.matmul(x, directions.T, precision="highest"), mixtures, precision="highest")
    return Planted(x, said + noise * jax.random.normal(error, said.shape), directions)


def typed(keys: Key[Array, "2"], n: int, d: int, n_types: int, noise: float = 0.1) -> Typed:
    """Tokens of types by chance; a type's label is its side of a plane, and no type lies within half of its distance to it."""
    way, point = jax.random.split(keys[0])
    which, error = jax.random.split(keys[1])
    (direction,) = orthonormal(way, 1, d)
    points = jax.random.normal(point, (n_types, d))
    along = points @ direction
    points = points + (jnp.sign(along) * (jnp.abs(along) + 0.5) - along)[:, None] * direction
    types = jax.random.randint(which, (n,), 0, n_types)
    x = points[types] + noise * jax.random.normal(error, (n, d))
    return Typed(x, (points[types] @ direction > 0).astype(jnp.float32), types)


def statements(keys: Key[Array, "2"], n: int, d: int, negation: float = 5.0, noise: float = 0.2) -> Planted:
    """Pairs x [N 2 D] with labels of whether the first is true; directions are those of truth and of negation."""
    label, topic, error = jax.random.split(keys[1], 3)
    directions = orthonormal(keys[0], 2, d)
    y = jax.random.bernoulli(label, shape=(n,)).astype(jnp.float32)
    first = (2 * y - 1)[:, None] * directions[0] + negation * directions[1]
    common = 0.3 * jax.random.normal(topic, (n, 1, d))
    x = common + jnp.stack([first, -first], axis=1) + noise * jax.random.normal(error, (n, 2, d))
    return Planted(x, y, directions)


def marked(keys: Key[Array, "2"], n: int, positions: int, d: int, strength: float = 1.5, mark: float = 8.0) -> Planted:
    """Texts [N P D], and labels 0 or 1; strengths are in deviations of the noise, the mark's direction is the first."""
    signs, where, error = jax.random.split(keys[1], 3)
    directions = orthonormal(keys[0], 2, d)
    own, at = jax.random.bernoulli(signs, shape=(n, positions)), jax.random.randint(where, (n,), 0, positions)
    there = jax.nn.one_hot(at, positions)
    x = jax.random.normal(error, (n, positions, d))
    x = x + mark * there[..., None] * directions[0] + strength * (2.0 * own - 1)[..., None] * directions[1]
    return Planted(x, (there * own).sum(1), directions)


def marked_rates(positions: int, strength: float) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """How often who finds the mark is right, and who reads the mean over positions: the sum of all signs, with noise."""
    ones = jnp.arange(positions)
    chance = jnp.exp(gammaln(positions) - gammaln(ones + 1) - gammaln(positions - ones)) / 2.0 ** (positions - 1)
    total = strength * (1 + 2 * ones - (positions - 1))
    return ndtr(jnp.float32(strength)), (chance * ndtr(total / jnp.sqrt(1.0 * positions))).sum()


def trees(keys: Key[Array, "2"], n: int, words: int, d: int, noise: float = 1.5) -> Trees:
    """Random trees, beside noise in all directions but those of edges; each word hangs on one of those before it.

    Args:
      keys: of the directions, and of the examples.
      n: trees.
      words: of each, of which the first is the root.
      d: dimensions, at least as many as there are edges.
      noise: its standard deviation.
    """
    drawn = jax.random.split(keys[1], 3)
    parent = jnp.floor(jax.random.uniform(drawn[0], (n, words)) * jnp.arange(words)).astype(int)
    step = jax.random.rademacher(drawn[1], (n, words), float)

    def hang(h: Array, i: Array) -> tuple[Array, None]:
        above = jnp.take_along_axis(h, parent[:, i][:, None, None], axis=1)[:, 0]
        return h.at[:, i].set(above + step[:, i, None] * jax.nn.one_hot(i - 1, words - 1)), None

    h, _ = jax.lax.scan(hang, jnp.zeros((n, words, words - 1)), jnp.arange(1, words))
    beside = noise * jax.random.normal(drawn[2], (n, words, d - words + 1))
    basis = orthonormal(keys[0], d, d)
    x = jnp.matmul(jnp.concatenate([h, beside], -1), basis, precision="highest")
    square = jnp.square(h).sum(-1)
    return Trees(x, jnp.square(h[:, :, None] - h[:, None]).sum(-1), square, basis[: words - 1])


def absent(keys: Key[Array, "2"], n: int, d: int) -> Planted:
    """Labels 0 or 1 that a coin says; there is no direction."""
    label, own = jax.random.split(keys[1])
    y = jax.random.bernoulli(label, shape=(n,)).astype(jnp.float32)
    return Planted(jax.random.normal(own, (n, d)), y, jnp.zeros((0, d)))
