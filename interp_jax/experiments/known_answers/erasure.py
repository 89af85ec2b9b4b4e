"""What erasers, moments and reliance say where the answer is known: arrays `found` and `truth`, for a seed.

Normal classes of one covariance, whose best reader is the discriminant: it is right with probability Φ(Δ/2), Δ the distance of
the means in units of the covariance, and Δ of what an eraser leaves is known too. Erasers are fitted to one draw, readers to a
second and counted on a third.
"""

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float, Int

from interp_jax import taps
from interp_jax.activations.moment_harvest import Labelled, one_hot
from interp_jax.activations.moments import Moments, merge, streamed
from interp_jax.experiments.known_answers.question import Question, Told
from interp_jax.probes import lda
from interp_jax.probes.erasure.eraser import Eraser, edit_of, erased, ranks, stacked
from interp_jax.probes.erasure.inlp import inlp_of
from interp_jax.probes.erasure.labelled import transport, transported
from interp_jax.probes.erasure.linear import least_change, orthogonal, projection, random_like
from interp_jax.probes.linear import predict
from interp_jax.probes.reliance import reliance, relied_on
from interp_jax.probes.removal import Measured, measured
from interp_jax.probes.scrubbing import scrubbed

EXAMPLES, WIDTH = 4_000, 16
NARROW = 6  # of classes that a quadratic reader tells apart, by 27 numbers
DISTANCE = 2.0  # of the means of the two classes, in units of the covariance
DRAWS = 39  # random subspaces
SHRINKAGE = 1e-5  # of the reader's covariance, which is singular after an eraser
CHANCE = 0.5


class Law(NamedTuple):
    """Two normal classes: means, equally likely, and the covariance of each."""

    means: Float[np.ndarray, "2 D"]
    covariances: Float[np.ndarray, "2 D D"]


def law(rng: np.random.Generator) -> Law:
    """Of one covariance, whose variances spread over a factor of a hundred."""
    basis = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0]
    root = basis * np.geomspace(0.1, 1, WIDTH)
    direction = rng.normal(size=WIDTH)
    half = DISTANCE / 2 * root @ (direction / np.linalg.norm(direction))
    return Law(np.stack([-half, half]) + rng.normal(size=WIDTH), np.stack([root @ root.T] * 2))


def draw(of: Law, rng: np.random.Generator) -> tuple[Float[np.ndarray, "N D"], Int[np.ndarray, " N"]]:
    """Examples and their classes."""
    y = rng.integers(0, 2, EXAMPLES)
    roots = np.linalg.cholesky(of.covariances)
    return of.means[y] + np.einsum("nd,ned->ne", rng.normal(size=(EXAMPLES, of.means.shape[1])), roots[y]), y


def moments(x: Float[np.ndarray, "N D"], y: Int[np.ndarray, " N"]) -> Moments:
    """As they are streamed from a device in float32."""
    parts = zip(np.array_split(np.float32(x), 4), np.array_split(one_hot(y, 2), 4), strict=True)
    return streamed((rows, z, None) for rows, z in parts)


def read(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> float:
    """How often the discriminant of one draw is right on another."""
    probe = lda.from_moments(moments(*first), lda.Hypers(SHRINKAGE))
    return float((np.asarray(predict(probe, jnp.asarray(second[0], jnp.float32))).argmax(1) == second[1]).mean())


def readable(of: Law, eraser: Eraser) -> float:
    """Φ(Δ/2) of what an eraser leaves of classes of one covariance."""
    kept = np.eye(WIDTH) - eraser.read @ eraser.write
    difference = (of.means[1] - of.means[0]) @ kept
    squared = difference @ np.linalg.pinv(kept.T @ of.covariances[0] @ kept, rcond=1e-10) @ difference
    return float(scipy.special.ndtr(np.sqrt(max(squared, 0.0)) / 2))


def after(seed: int, fit: Any, readable_after: Any = None) -> Told:
    """How well classes are told apart before and after, beside the truth."""
    rng = np.random.default_rng(seed)
    of = law(rng)
    draws = [draw(of, rng) for _ in range(3)]
    eraser = fit(moments(*draws[0]))
    left = [(erased(eraser, x), y) for x, y in draws[1:]]
    truth = readable(of, eraser) if readable_after is None else readable_after
    return told((read(*draws[1:]), float(scipy.special.ndtr(DISTANCE / 2))), (read(*left), truth))


def of_scrubbing(seed: int) -> Told:
    """A model that computes the concept anew at every layer: scrubbing leaves a guess at each of them."""
    rng = np.random.default_rng(seed)
    of = law(rng)
    draws = [draw(of, rng) for _ in range(3)]
    x, y = (np.concatenate(parts) for parts in zip(*draws, strict=True))
    pair = rng.normal(size=(len(x), 2))
    pair[:, 1] = np.abs(pair[:, 1]) * np.sign(pair[:, 0]) * (2 * y - 1)  # their product has the class's sign
    rows, third = jnp.asarray(np.concatenate([x, pair], 1), jnp.float32), np.split(np.arange(len(x))[:, None], 3)
    blocks = lambda: [Labelled(part, one_hot(y[part], 2)) for part in np.array_split(third[0], 4)]
    erasers = scrubbed(computes_again, rows, "blocks.resid_post", blocks, least_change, 2)
    model = partial(taps.edit(computes_again), {"blocks.resid_post": edit_of(erasers)})
    _, acts = taps.record(model, ["blocks.resid_post"])(rows, np.arange(len(x))[:, None])
    left = np.asarray(acts["blocks.resid_post"], np.float64)[:, :, 0]
    each = [read(*((own[part[:, 0]], y[part[:, 0]]) for part in third[1:])) for own in left]
    return told((read(*draws[1:]), float(scipy.special.ndtr(DISTANCE / 2))), *((found, CHANCE) for found in each))


def computes_again(rows: Float[Array, "N D"], index: Int[Array, "W P"]) -> Float[Array, "W P D"]:
    """Layers that each write the product of the last two numbers along directions of their own."""

    def layer(x: Array, towards: Array) -> tuple[Array, None]:
        return taps.tap(x + (x[..., -1] * x[..., -2])[..., None] * towards, "blocks.resid_post"), None

    return taps.scan(layer, rows[index], jnp.eye(3, rows.shape[1], dtype=rows.dtype))[0]


def told(*pairs: tuple[float, float]) -> Told:
    """What was found beside the truth."""
    return Told(*(np.array(side, np.float64) for side in zip(*pairs, strict=True)))


def of_least_change(seed: int) -> Told:
    """LEACE leaves a guess."""
    return after(seed, least_change, CHANCE)


def of_orthogonal(seed: int) -> Told:
    """So does the orthogonal projection."""
    return after(seed, orthogonal, CHANCE)


def of_inlp(seed: int) -> Told:
    """Projections one after another leave what their last directions leave; most of it goes in the first rounds."""
    return after(seed, lambda m: inlp_of(m, 3))


def of_projection(seed: int) -> Told:
    """Projecting out the probe's own weights leaves some of it, which is known, where activations are not white."""

    def fit(m: Moments) -> Eraser:
        weights = np.asarray(lda.from_moments(m, lda.Hypers(SHRINKAGE)).weights)
        return projection(weights[1:] - weights[:1], m.mean)

    return after(seed, fit)


def of_random(seed: int) -> Told:
    """Random directions of equal rank leave nearly all of it, and how much is known."""
    return after(seed, lambda m: Eraser(*(a[0] for a in random_like(least_change(m), seed, 1, m.covariance))))


def of_transport(seed: int) -> Told:
    """Classes that differ in their covariance alone: the best rule still reads them after LEACE, none after it."""
    rng = np.random.default_rng(seed)
    turned = lambda: np.linalg.qr(rng.normal(size=(NARROW, NARROW)))[0] * np.geomspace(0.5, 2, NARROW)
    roots = np.stack([turned(), turned()])
    of = Law(np.zeros((2, NARROW)), roots @ roots.swapaxes(1, 2))
    first, second, third = (draw(of, rng) for _ in range(3))
    by_class = [streamed([(np.float32(first[0]), None, np.float32(first[1] == c))]) for c in (0, 1)]
    by = transport(Moments(*(np.stack(leaves) for leaves in zip(*by_class, strict=True))))
    eraser = least_change(moments(*first))
    best = float((likelier(of, eraser, third[0]) == third[1]).mean())
    after_linear, after_transport = (
        read(*[(products(way(x, y)), y) for x, y in (second, third)])
        for way in (lambda x, y: erased(eraser, x), lambda x, y: transported(by, x, y))
    )
    return told((after_linear, best), (after_transport, CHANCE))


def likelier(of: Law, eraser: Eraser, x: Float[np.ndarray, "N D"]) -> Int[np.ndarray, " N"]:
    """The likelier class of what an eraser leaves of rows, by the true law, in coordinates of the subspace that is left."""
    basis = np.linalg.svd(np.eye(NARROW) - eraser.read @ eraser.write)[2][: -int(ranks(eraser))]
    kept = (np.eye(NARROW) - eraser.read @ eraser.write) @ basis.T
    rows, covariances = (x - eraser.centre) @ kept, kept.T @ of.covariances @ kept
    squares = np.einsum("nd,cde,ne->cn", rows, np.linalg.inv(covariances), rows)
    return (squares + np.linalg.slogdet(covariances)[1][:, None]).argmin(0)


def products(x: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N M"]:
    """Numbers and their products: what a quadratic reader reads."""
    i, j = np.triu_indices(x.shape[1])
    return np.concatenate([x, x[:, i] * x[:, j]], 1)


def of_moments(seed: int) -> Told:
    """Streamed in float32, of means a hundred times the spread: covariances in units of the variances, beside float64."""
    rng = np.random.default_rng(seed)
    x = np.float32(rng.normal(size=(2**16, WIDTH)) @ rng.normal(size=(WIDTH, WIDTH)) + 300)
    parts = [streamed((rows, None, None) for rows in np.array_split(half, 5)) for half in np.array_split(x, 2)]
    got, want = merge(parts).covariance, np.cov(np.float64(x), rowvar=False, bias=True)
    scale = np.sqrt(np.outer(np.diag(want), np.diag(want)))
    return told((float(np.abs((got - want) / scale).max()), 0.0))


def answer(x: Float[Array, "B D"], used: Float[Array, " D"], sign: Float[Array, " B"]) -> Float[Array, " B"]:
    """A model that reads one direction of its activations, and says how much of the right answer is there."""
    return jnp.matmul(taps.tap(x, "read"), used, precision="highest") * sign


def of_reliance(seed: int) -> Told:
    """Two directions that tell the answer equally well, of which the model reads one: its effect, and none of the other's.

    The effect is D - 1 parts in D of what is there, for a random direction takes one part; only the used one is relied on.
    """
    rng = np.random.default_rng(seed)
    used, other = np.linalg.qr(rng.normal(size=(WIDTH, 2)))[0].T
    sign = rng.choice([-1.0, 1.0], EXAMPLES // 4)
    x = np.float32(sign[:, None] * DISTANCE * (used + other) + 0.5 * rng.normal(size=(len(sign), WIDTH)))
    subspaces = stacked([projection(used[None]), projection(other[None])])
    controls = random_like(subspaces, seed, DRAWS)
    args = (jnp.asarray(x), jnp.float32(used), jnp.float32(sign))
    got = reliance(measured(answer, args, "read", subspaces, controls, batch=8))
    said = relied_on(got)
    effects = [(float(got.effect.mean[i]), truth) for i, truth in enumerate((DISTANCE, 0.0))]
    return told(*effects, (float(said[0]), 1.0), (float(said[1]), 0.0))


def of_intervals(seed: int) -> Told:
    """How often 95% intervals hold the truth, over 2,000 draws of examples and subspaces: of excesses at least as often."""
    rng, n_seeds, n = np.random.default_rng(seed), 2_000, 24
    example = rng.normal(size=(n_seeds, n))
    effect = 0.8 + example + rng.normal(size=(n_seeds, n))
    control = 0.5 + 0.6 * rng.normal(size=(12, n_seeds, 1)) + 0.5 * example + 0.5 * rng.normal(size=(12, n_seeds, n))
    got = reliance(Measured(np.zeros(n), -effect, -control))
    covered = lambda by, truth: float(np.mean((by.low <= truth) & (truth <= by.high)))
    return told((covered(got.effect, 0.8), 0.95), (min(covered(got.excess, 0.3), 0.95), 0.95))


# the largest error: that of counting over 4,000 examples and of fitting to as many, or of rounding
QUESTIONS = {
    "least change": Question(of_least_change, "a linear concept: LEACE leaves the discriminant a guess", 0.04),
    "orthogonal": Question(of_orthogonal, "a linear concept: the orthogonal projection leaves a guess", 0.04),
    "null-space projection": Question(of_inlp, "a linear concept: what three rounds leave, in closed form", 0.04),
    "projection": Question(
        of_projection, "a linear concept: what the probe's own direction leaves, in closed form", 0.04
    ),
    "random subspace": Question(of_random, "a linear concept: what a random direction leaves, in closed form", 0.03),
    "transport": Question(
        of_transport,
        "a quadratic concept: LEACE leaves what the likelihood ratio reads, transport (QLEACE) a guess",
        0.05,
    ),
    "scrubbing": Question(
        of_scrubbing,
        "a model that computes the concept anew at every layer: erasers in order leave a guess at each",
        0.05,
    ),
    "moments": Question(
        of_moments, "means a hundred times the spread: covariances as in float64, in units of variances", 1e-6
    ),
    "reliance": Question(of_reliance, "two directions that tell the answer, of which the model reads one", 0.1),
    "intervals": Question(
        of_intervals, "95% intervals of effects, and of excesses at least that, over 2,000 draws", 0.0161
    ),
}
