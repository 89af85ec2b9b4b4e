"""What probes read of planted signals, beside what there is to be read: a figure each, with its truth."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from interp_jax.data import planted_signals as planted
from interp_jax.experiments.known_signals import cues
from interp_jax.experiments.known_signals.figures import FITTED, SCORED, Figure, Figures, cosine, one, read
from interp_jax.probes import (
    attention_pooled,
    bilinear,
    code_length,
    contrast_consistent,
    k_sparse,
    l1,
    lda,
    logistic,
    mass_mean,
    mlp,
    principal,
    ridge,
    structural,
    variational_code,
)
from interp_jax.probes.controls import UNTRAINED
from interp_jax.probes.everywhere import Examples, everywhere
from interp_jax.probes.reliance import relied_on
from interp_jax.probes.scale import scaled
from interp_jax.probes.splits import cross_validation

WIDTH = 12
CHANCE = 0.5


def of_line(keys: Key[Array, "2"]) -> Figures:
    """Two normal classes: accuracies of what was fitted, in closed form, and directions."""
    data = planted.line(keys, FITTED + 100, WIDTH, separation=2.0, stretch=2.0)
    best, found = float(planted.best_rate(data)), {}
    kinds = {
        "logistic": (logistic.PROBE, logistic.Hypers(1.0)),
        "LDA": (lda.PROBE, lda.Hypers(0.0)),
        "mass-mean": (mass_mean.PROBE, mass_mean.Hypers()),
    }
    for name, (probe, hypers) in kinds.items():
        fit = read(probe, data.x, data.y, hypers).params
        weights, bias = one(fit.weights), one(fit.bias)
        towards = data.mean if name == "mass-mean" else planted.best_reading(data)
        plain = float(planted.rate_of(data, data.mean, jnp.float32(0.0)))
        rate = float(planted.rate_of(data, jnp.asarray(weights), jnp.asarray(bias)))
        found[f"{name}: accuracy"] = Figure(rate, plain if name == "mass-mean" else best)
        found[f"{name}: |cos|"] = Figure(cosine(weights, towards), 1.0)
    return found


def of_exclusive_or(keys: Key[Array, "2"]) -> Figures:
    """Two kinds that read it, and a line, which ranks by chance."""
    data = planted.exclusive_or(keys, FITTED + SCORED, WIDTH, strength=1.8)
    best = float(planted.exclusive_or_rate(1.8))
    of_mlp = read(MLP, data.x, data.y, mlp.Hypers(10.0))
    of_form = read(FORM, data.x, data.y, bilinear.Hypers(10.0))
    of_line = read(logistic.PROBE, data.x, data.y, logistic.Hypers(1.0))
    first, second = (one(part)[:, 0] for part in of_form.params[:2])
    strongest = np.linalg.svd(np.outer(first, second) + np.outer(second, first))[2][:2]
    inside = np.linalg.norm(strongest @ np.asarray(data.directions).T) / np.sqrt(2)
    return {
        "MLP: accuracy": Figure(of_mlp.measure("accuracy").item(), best),
        "bilinear: accuracy": Figure(of_form.measure("accuracy").item(), best),
        "bilinear: its plane": Figure(float(inside), 1.0),
        "a line: AUROC": Figure(of_line.measure("auroc").item(), CHANCE),
    }


MLP = mlp.PROBE._replace(fit=partial(mlp.fit, width=16, tolerance=1e-4, most_steps=200))
FORM = bilinear.PROBE._replace(fit=partial(bilinear.fit, rank=1, tolerance=1e-4, most_steps=200))


def of_rank(keys: Key[Array, "2"], k: int = 3, noise: float = 0.5) -> Figures:
    """Numbers that k directions say: the weights' largest singular vectors, and R²."""
    data = planted.ranked(keys, FITTED + SCORED, WIDTH, k, targets=6, noise=noise)
    probed = read(ridge.PROBE, data.x, data.y, ridge.Hypers(1.0))
    values, rows = np.linalg.svd(one(probed.params.weights))[1:]
    inside = np.linalg.norm(rows[:k] @ np.asarray(data.directions).T) / np.sqrt(k)
    spread = np.asarray(data.y[FITTED:]).var(0)
    return {
        "ridge: subspace": Figure(float(inside), 1.0),
        "ridge: rank": Figure(float((values > 0.1 * values[0]).sum()), float(k)),
        "ridge: R²": Figure(probed.measure("r2").item(), float((1 - noise**2 / spread).mean())),
    }


def of_columns(keys: Key[Array, "2"]) -> Figures:
    """A line along two columns of many: which are chosen, and what they say."""
    data = planted.line(keys, FITTED + SCORED, 60, separation=2.4)
    moved = jnp.zeros(60).at[jnp.array([4, 9])].set(jnp.array([0.8, -0.6]))
    x = data.x + (2 * data.y - 1)[:, None] * (1.2 * moved - data.mean)
    best = float(planted.ndtr(1.2))
    few = read(TWO, x, data.y, k_sparse.Hypers(2, 1.0))
    sparse = read(l1.PROBE, x, data.y, l1.Hypers(40.0))
    weights = one(sparse.params.weights)
    return {
        "2-sparse: columns": Figure(float(len({4, 9} & set(one(few.params.columns).tolist()))), 2.0),
        "2-sparse: accuracy": Figure(few.measure("accuracy").item(), best),
        "L1: columns": Figure(float(len({4, 9} & set(np.argsort(-np.abs(weights))[:2].tolist()))), 2.0),
        "L1: accuracy": Figure(sparse.measure("accuracy").item(), best),
    }


TWO = k_sparse.PROBE._replace(fit=partial(k_sparse.fit, most=2))


def of_statements(keys: Key[Array, "2"]) -> Figures:
    """Truth without labels, beside a negation that is stronger; and the first component of the differences."""
    data = planted.statements(keys, FITTED + 1_000, WIDTH)
    searched = read(contrast_consistent.PROBE, data.x, data.y, contrast_consistent.Hypers())
    apart = data.x[:, 0] - data.x[:, 1]
    component = read(principal.PROBE, apart - apart.mean(0), data.y, principal.Hypers(0))
    directions = one(component.params.directions)[0]
    return {
        "contrast-consistent: accuracy": Figure(searched.measure("accuracy").item(), 1.0),
        "contrast-consistent: |cos|": Figure(cosine(one(searched.params.weights), data.directions[0]), 1.0),
        "first component: accuracy": Figure(component.measure("accuracy").item(), 1.0),
        "first component: |cos|": Figure(cosine(directions, data.directions[0]), 1.0),
    }


def of_marked(keys: Key[Array, "2"], positions: int = 6) -> Figures:
    """Texts of which a position that is marked says the label: attention finds it, and the mean over positions does not."""
    data = planted.marked(keys, FITTED + SCORED, positions, WIDTH)
    best, of_mean = map(float, planted.marked_rates(positions, 1.5))
    pooled = read(POOLED, data.x, data.y, attention_pooled.Hypers(1.0))
    line = read(logistic.PROBE, data.x.mean(1), data.y, logistic.Hypers(1.0))
    params = jax.tree.map(lambda leaf: jnp.asarray(one(leaf)), pooled.params)
    held, there = data.x[FITTED:], jnp.ones((len(data.x) - FITTED, positions), bool)
    looked = attention_pooled.attention(params.queries, scaled(params.scale, held), there)[..., 0]
    at_mark = jnp.take_along_axis(looked, (held @ data.directions[0]).argmax(1)[:, None], 1)
    return {
        "attention-pooled: accuracy": Figure(pooled.measure("accuracy").item(), best),
        "attention-pooled: attention at the mark": Figure(float(at_mark.mean()), 1.0),
        "attention-pooled: |cos| of what it reads": Figure(cosine(params.values[:, 0], data.directions[1]), 1.0),
        "a line through the mean: accuracy": Figure(line.measure("accuracy").item(), of_mean),
    }


POOLED = attention_pooled.PROBE._replace(fit=partial(attention_pooled.fit, tolerance=1e-4, most_steps=300))


def of_trees(keys: Key[Array, "2"], n: int = 1_200, words: int = 7) -> Figures:
    """Trees that are laid out in half of the directions: edges between words and from the root, of trees held out."""
    data, fitted = planted.trees(keys, n, words, WIDTH), 2 * n // 3
    hypers, figures = structural.Hypers(0.0, 0.05), {}
    for name, probe, y in (("distances", DISTANCES, data.distances), ("depths", DEPTHS, data.depths)):
        probed = read(probe, data.x, y, hypers, fitted)
        inside = np.linalg.svd(one(probed.params.B))[0][:, : words - 1].T @ np.asarray(data.directions).T
        figures[f"{name}: error, edges"] = Figure(probed.measure("error").item(), 0.0)
        figures[f"{name}: R²"] = Figure(probed.measure("r2").item(), 1.0)
        figures[f"{name}: subspace"] = Figure(float(np.linalg.norm(inside) / np.sqrt(words - 1)), 1.0)
        if name == "distances":
            of = structural.attachment(probed.scores[0, 0, 0, 0, fitted:], np.asarray(y)[fitted:])
            figures["distances: edges that are found"] = Figure(float(of.mean()), 1.0)
    return figures


DISTANCES, DEPTHS = (
    probe._replace(fit=partial(probe.fit, rank=6, tolerance=1e-4))
    for probe in (structural.DISTANCES, structural.DEPTHS)
)


def of_bits(keys: Key[Array, "2"], n: int = 4_000) -> Figures:
    """Codes of labels of a line and of a coin, per example: what these labels cost who knows the classes' law, and a bit."""
    line = planted.line(keys, n, 4, separation=3.0)
    coin = planted.absent(keys, n, 4)
    x, y = jnp.stack([line.x, coin.x]), jnp.stack([line.y, coin.y])
    online, sent = coded(keys[0], x, y)
    log_odds = 2 * np.asarray(line.x, np.float64) @ np.asarray(line.mean)  # Σ is I
    left = float(np.logaddexp(0, -(2 * np.asarray(line.y) - 1) * log_odds).mean() / np.log(2))
    return {
        "online code, a line": Figure(float(online.bits[0]) / n, left),
        "online code, a coin": Figure(float(online.bits[1]) / n, 1.0),
        "online code, a line's labels in another order": Figure(float(online.shuffled[0]) / n, 1.0),
        "variational code, a line": Figure(float(sent[0]) / n, left),
        "variational code, a coin": Figure(float(sent[1]) / n, 1.0),
    }


@jax.jit
def coded(key: Key[Array, ""], x: Float[Array, "T B D"], y: Float[Array, "T B"]) -> tuple[Any, Float[Array, " T"]]:
    """Both codes of several labels."""
    w, online, sent = jnp.ones(x.shape[1]), logistic.Hypers(1.0), variational_code.Hypers(2.0)

    def each(given: tuple[Array, Array]) -> tuple[Any, Array]:
        code = code_length.online_code(key, logistic.PROBE, *given, w, online)
        return code, variational_code.fit(key, *given, w, sent).bits

    return jax.lax.map(each, (x, y))


def of_types(keys: Key[Array, "2"], n_types: int = 200, draws: int = 4) -> Figures:
    """Tokens of types: what a line and an MLP say of labels, and of a control task that can only be memorised.

    Of N random labels a line in D dimensions has Φ(√(h / (1 - h))) right, h = (D + 1) / N: what a label does to its own fit.
    """
    d = 8
    data = planted.typed(keys, 10 * n_types, d, n_types)
    examples = Examples(data.x, np.asarray(data.y)[None], types=np.asarray(data.types))
    splits = cross_validation(len(data.x), 2, seeds=draws)
    line = everywhere(logistic.PROBE, examples, splits, logistic.Hypers(1.0), without=(UNTRAINED,))
    net = everywhere(MEMORY, examples, splits, mlp.Hypers(0.1), without=(UNTRAINED,))
    h = (d + 1) / n_types
    mean = lambda found: float(found.mean())
    return {
        "a line: accuracy": Figure(mean(line.measure("accuracy")), 1.0),
        "MLP: accuracy": Figure(mean(net.measure("accuracy")), 1.0),
        "a line: selectivity": Figure(mean(line.selectivity()), 1 - float(planted.ndtr(np.sqrt(h / (1 - h))))),
        "MLP: selectivity": Figure(mean(net.selectivity()), 0.0),
    }


MEMORY = mlp.PROBE._replace(fit=partial(mlp.fit, width=128, tolerance=1e-3, most_steps=150))


def of_cue(keys: Key[Array, "2"]) -> Figures:
    """Models that use a cue, and models that do not: what is read of it, and the share of behaviour that is lost without."""
    found = cues.found(int(jax.random.randint(keys[0], (), 0, 2**20)))
    lost = np.array([one.effect.mean[0] / one.clean for one in found.reliance])
    control = np.array([one.control.mean[0] / one.clean for one in found.reliance])
    called = np.array([relied_on(one, 0.01)[0] for one in found.reliance])
    figures = {}
    for name, own in (("used", found.used), ("never used", ~found.used)):
        truth = float(name == "used")
        figures[f"{name}: accuracy of the model"] = Figure(float(found.right[own].mean()), 1.0)
        figures[f"{name}: accuracy of the probe"] = Figure(float(found.read[own].mean()), 1.0)
        figures[f"{name}: behaviour lost"] = Figure(float(lost[own].mean()), truth)
        figures[f"{name}: lost without a random direction"] = Figure(float(control[own].mean()), 0.0)
        figures[f"{name}: called relied on"] = Figure(float(called[own].mean()), truth)
    return figures


READINGS: dict[str, Callable[[Key[Array, "2"]], Figures]] = {
    "a line": of_line,
    "an exclusive or": of_exclusive_or,
    "rank 3": of_rank,
    "two columns of sixty": of_columns,
    "truth without labels": of_statements,
    "a marked position": of_marked,
    "trees": of_trees,
    "labels in bits": of_bits,
    "memorised types": of_types,
    "a cue": of_cue,
}
