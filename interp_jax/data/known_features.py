"""Activations made of features that are known: what dictionaries are calibrated on (SynthSAEBench: Chanin and Garriga-Alonso
2026, arXiv:2602.14687).

    x = Σ_i c_i d_i                   c_i = [i fires] · magnitude_i                     [B D], [B S]

    firing       Zipf: p_i falls as i^-exponent from p_first, moved and scaled so that the last is p_last
    together     a Gaussian copula: i fires where g_i > Φ⁻¹(1 - p_i), g = U u + sqrt(1 - ‖U_i‖²) e, with u [rank] common to all
    hierarchy    a child fires only where its parent does, and of the children of a parent at most one, drawn at random
    compensated  children fire more often by themselves, so that hierarchy leaves them about p_i:
                 min(1, p_i / p_parent · (1 + Σ_siblings p_j / p_parent))
    magnitudes   |mean_i + deviation_i · normal|, which is folded-normal; deviation_i = |deviation + spread · normal|
    directions   of length 1, pushed apart by gradient descent on Σ_{i≠j} (d_i · d_j)²

The first features in the order of firing are the roots of trees, which are laid out level by level; those left over are free.
Not compensated, hierarchy lowers how often children fire far below p_i: with the numbers of SynthSAEBench-16k 13 features are
active in an example in place of 34. Draws are a function of (seed, stream, step).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, Bool, Float, Int, Key

from interp_jax import randomness
from interp_jax.errors import InputError
from interp_jax.parts import part
from interp_jax.randomness import Scalar

FREE = -1  # the parent of a feature that has none
ORTHOGONALISING_RATE = 0.01


@part
class KnownFeatures:
    """The law of the features; all of it is static, since a population trains on one stream.

    Attributes:
      n_features: S.
      d_model: D.
      exponent, p_first, p_last: of Zipf's law.
      roots, children, depth: trees: how many, children of a node, levels below the root; 0 roots for none.
      compensated: whether p_i is about how often features in trees fire, or how often they would without the trees.
      rank, correlation: of the copula: its rank, and the length of the rows of U.
      mean_first, mean_last: mean magnitudes, which change linearly from the first feature to the last.
      deviation, spread: of a feature's magnitudes, and how far features differ in it.
      orthogonalised: steps of pushing directions apart.
      law_seed: which features; the stream of examples has a seed of its own.
    """

    n_features: int = 1_024
    d_model: int = 96
    exponent: float = 0.5
    p_first: float = 0.4
    p_last: float = 5e-4
    roots: int = 0
    children: int = 4
    depth: int = 3
    compensated: bool = False
    rank: int = 25
    correlation: float = 0.1
    mean_first: float = 1.0
    mean_last: float = 1.0
    deviation: float = 0.5
    spread: float = 0.0
    orthogonalised: int = 100
    law_seed: int = 0

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if self.n_features < 1 or self.d_model < 1:
            raise InputError("data: n_features and d_model must be at least 1")
        if not 0 < self.p_last <= self.p_first < 1:
            raise InputError(f"data.p_first, data.p_last: {self.p_first}, {self.p_last} must fall, within (0, 1)")
        if not 0 <= self.correlation < 1:
            raise InputError(f"data.correlation: {self.correlation} is not in [0, 1)")
        if self.in_trees > self.n_features:
            raise InputError(
                f"data.roots: trees of {self.in_trees} features are more than n_features = {self.n_features}"
            )

    @property
    def in_trees(self) -> int:
        """How many features are in trees."""
        return sum(self.roots * self.children**level for level in range(self.depth + 1)) if self.roots else 0


class Law(NamedTuple):
    """The features, as arrays.

    Attributes:
      directions: d.
      threshold: Φ⁻¹(1 - p).
      shared: U.
      mean, deviation: of magnitudes.
      parent: of each feature, or `FREE`.
    """

    directions: Float[Array, "S D"]
    threshold: Float[Array, " S"]
    shared: Float[Array, "S K"]
    mean: Float[Array, " S"]
    deviation: Float[Array, " S"]
    parent: Int[Array, " S"]


class Examples(NamedTuple):
    """Activations and the coefficients that they are made of."""

    x: Float[Array, "B D"]
    coefficients: Float[Array, "B S"]


def law_of(cfg: KnownFeatures) -> Law:
    """The features of a config."""
    key = lambda name: randomness.key(cfg.law_seed, f"known features/{name}")
    directions = jax.random.normal(key("directions"), (cfg.n_features, cfg.d_model))
    shared = jax.random.normal(key("copula"), (cfg.n_features, cfg.rank))
    shared = cfg.correlation * shared / jnp.linalg.norm(shared, axis=1, keepdims=True)
    parent = parents(cfg)
    mean = jnp.linspace(cfg.mean_first, cfg.mean_last, cfg.n_features)
    deviation = jnp.abs(cfg.deviation + cfg.spread * jax.random.normal(key("deviation"), (cfg.n_features,)))
    apart = push_apart(directions, cfg.orthogonalised)
    p = compensated(firing(cfg), parent) if cfg.compensated else firing(cfg)
    return Law(apart, -norm.ppf(p), shared, mean, deviation, parent)


def firing(cfg: KnownFeatures) -> Float[Array, " S"]:
    """p, without hierarchy."""
    falling = jnp.arange(1, cfg.n_features + 1, dtype=jnp.float32) ** -cfg.exponent
    share = (falling - falling[-1]) / jnp.maximum(falling[0] - falling[-1], 1e-12)
    return cfg.p_last + (cfg.p_first - cfg.p_last) * share


def compensated(p: Float[Array, " S"], parent: Int[Array, " S"]) -> Float[Array, " S"]:
    """How often features have to fire by themselves so that in their trees they fire about as often as p says."""
    of_parent, in_tree = p[jnp.maximum(parent, 0)], parent != FREE
    litter = jnp.zeros_like(p).at[jnp.maximum(parent, 0)].add(jnp.where(in_tree, p, 0.0))[jnp.maximum(parent, 0)]
    return jnp.where(in_tree, jnp.minimum(1.0, p / of_parent * (1.0 + (litter - p) / of_parent)), p)


def parents(cfg: KnownFeatures) -> Int[Array, " S"]:
    """The parent of each feature: node n of a level has children n·c … n·c + c - 1 of the next."""
    index = jnp.arange(cfg.n_features)
    parent, first, size = jnp.full(cfg.n_features, FREE), 0, cfg.roots
    for _ in range(cfg.depth if cfg.roots else 0):
        below = first + size
        here = (index >= below) & (index < below + size * cfg.children)
        parent = jnp.where(here, first + (index - below) // cfg.children, parent)
        first, size = below, size * cfg.children
    return parent


def push_apart(directions: Float[Array, "S D"], steps: int) -> Float[Array, "S D"]:
    """Rows of length 1 whose squared cosines with each other were lowered."""
    unit = lambda d: d / jnp.linalg.norm(d, axis=1, keepdims=True)

    def step(_: Any, d: Array) -> Array:
        pull = d @ (d.T @ d) - d  # a quarter of the gradient
        return unit(d - ORTHOGONALISING_RATE * pull / jnp.linalg.norm(pull, axis=1, keepdims=True).mean())

    return jax.lax.fori_loop(0, steps, step, unit(directions))


def draw_known(law: Law, cfg: KnownFeatures, n_examples: int, seed: Scalar, stream: str, step: Scalar) -> Examples:
    """The examples of (seed, stream, step)."""
    normal = lambda name, n: jax.random.normal(randomness.key(seed, f"{stream}/{name}", step), (n_examples, n))
    own = jnp.sqrt(1 - jnp.square(law.shared).sum(1))
    g = normal("common", law.shared.shape[1]) @ law.shared.T + own * normal("own", cfg.n_features)
    fires = obey(cfg, g > law.threshold, randomness.key(seed, f"{stream}/siblings", step))
    size = jnp.abs(law.mean + law.deviation * normal("magnitude", cfg.n_features))
    coefficients = jnp.where(fires, size, 0.0)
    return Examples(coefficients @ law.directions, coefficients)


def obey(cfg: KnownFeatures, fires: Bool[Array, "B S"], key: Key[Array, ""]) -> Bool[Array, "B S"]:
    """What fires, level by level: only with its parent, and at most one child of a parent, drawn at random."""
    if not cfg.roots:
        return fires
    rank = jnp.where(fires, jax.random.uniform(key, fires.shape), -1.0)
    levels, first = [fires[:, : cfg.roots]], cfg.roots
    for _ in range(cfg.depth):
        parents = levels[-1]
        own = rank[:, first : first + cfg.children * parents.shape[1]].reshape(*parents.shape, cfg.children)
        chosen = parents[:, :, None] & (own >= 0) & (own == own.max(2, keepdims=True))
        levels.append(chosen.reshape(len(fires), -1))
        first += levels[-1].shape[1]
    return jnp.concatenate([*levels, fires[:, first:]], 1)
