"""Codes in bits: a guess costs log₂ K, counting costs Laplace's closed form, a fair coin a bit; sums are NumPy's."""

import math
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
from scipy.special import expit

from interp_jax.errors import InputError
from interp_jax.probes import code_length, k_sparse, lda, variational_code
from interp_jax.probes.probe import Probe
from interp_jax.probes.targets import BINARY, CLASSES, LABELS, REAL

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def silent(target):
    """A probe that knows nothing: the same score for all."""
    return Probe(lambda key, x, y, w, hypers: (), lambda params, x: jnp.zeros((len(x), *SHAPE[target])), target)


SHAPE = {BINARY: (), CLASSES: (5,), LABELS: (3,)}


@pytest.mark.parametrize("target,each", [(BINARY, 1.0), (CLASSES, math.log2(5)), (LABELS, 3.0)])
def test_a_probe_that_guesses_costs_the_uniform_code_exactly(target, each):
    y = {
        BINARY: RNG.random(200) < 0.2,
        CLASSES: np.eye(5)[RNG.integers(0, 5, 200)],
        LABELS: RNG.random((200, 3)) < 0.1,
    }
    w = RNG.integers(0, 3, 200)
    run = jax.jit(lambda *given: code_length.online_code(KEY, silent(target), *given, (), (0.1, 0.5, 1.0)))
    code = run(*map(jnp.float32, (np.zeros((200, 1)), y[target], w)))
    np.testing.assert_allclose([code.bits, code.uniform, code.shuffled], w.sum() * each, rtol=1e-5)
    assert code.convergence is None


def counting(key, x, y, w, hypers):
    """Log-odds of the share of ones."""
    share = jnp.clip((w * y).sum() / w.sum(), 1e-6, 1 - 1e-6)
    return jnp.log(share) - jnp.log1p(-share)


COUNT = Probe(counting, lambda params, x: jnp.full(len(x), params), BINARY)


def test_counting_example_by_example_costs_laplaces_closed_form():
    """(n σ(z) + 1) / (n + 2) with the share of ones is Laplace's rule: n₁! n₀! / (n + 1)! is the labels' probability."""
    y = jnp.float32(RNG.random(40) < 0.3)
    ends = tuple(i / 40 for i in range(1, 41))
    code = jax.jit(lambda y: code_length.online_code(KEY, COUNT, jnp.zeros((40, 1)), y, jnp.ones(40), (), ends))(y)
    rank = np.asarray(code_length.drawn_order(jax.random.split(KEY, 3)[0], jnp.ones(40)))
    ones, order = int(y.sum()), np.asarray(y)[np.argsort(rank)]
    laplace = lambda n, k: (math.lgamma(n + 2) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)
    first = int(order[:2].sum())  # the first two are sent as guesses
    want = 2 + laplace(40, ones) - laplace(2, first)
    np.testing.assert_allclose(code.bits, want, rtol=1e-4)
    np.testing.assert_array_equal(code.ends, np.maximum(np.arange(1, 41), 2))


def test_portions_are_those_of_numpy_and_what_is_held_out_costs_nothing():
    n = 300
    y, w = RNG.random(n) < 0.5, RNG.integers(0, 3, n).astype(float)
    x = np.where(y, 1.5, -1.5)[:, None] + RNG.normal(size=(n, 1))
    ends = (0.1, 0.3, 1.0)
    hypers = k_sparse.Hypers(1, 1.0)
    run = jax.jit(lambda x, y, w: code_length.online_code(KEY, k_sparse.PROBE, x, y, w, hypers, ends))
    code = run(*map(jnp.float32, (x, y, w)))
    rank = np.asarray(code_length.drawn_order(jax.random.split(KEY, 3)[0], jnp.float32(w)))
    stops = np.round(np.array(ends) * (w > 0).sum())
    assert (rank[w == 0] >= stops[-1]).all()
    want = [(w * (rank < stops[0])).sum()]
    for first, stop in pairwise(stops):

        def loss(v, seen=w * (rank < first)):
            z = v[0] * x[:, 0] + v[1]
            return (seen * (np.logaddexp(0, z) - y * z)).sum() + v[0] ** 2 / 2

        v = scipy.optimize.minimize(loss, np.zeros(2), options={"gtol": 1e-9}).x
        p = expit(np.where(y, 1, -1) * (v[0] * x[:, 0] + v[1]))
        bits = -np.log2((first * p + 1) / (first + 2))
        want.append((w * bits)[(rank >= first) & (rank < stop)].sum())
    np.testing.assert_allclose(code.portions, want, rtol=1e-3)
    assert code.convergence.converged.shape == (2, 2) and code.convergence.converged.all()
    short = k_sparse.PROBE._replace(fit=partial(k_sparse.fit, most_steps=1))
    cut = code_length.online_code(KEY, short, *map(jnp.float32, (x, y, w)), hypers, ends)
    assert not cut.convergence.converged.all() and cut.convergence.steps.max() == 1
    assert code.bits < 0.6 * code.uniform < 0.7 * code.shuffled and code.compression > 1.6
    moved = run(
        jnp.float32(np.where((w == 0)[:, None], 50, x)), jnp.float32(np.where(w == 0, 1 - y, y)), jnp.float32(w)
    )
    np.testing.assert_allclose(moved.bits, code.bits, rtol=1e-5)
    np.testing.assert_allclose(moved.shuffled, code.shuffled, rtol=1e-5)


def test_bad_portions_and_numbers_are_refused():
    given = jnp.zeros((9, 1)), jnp.zeros(9), jnp.ones(9), ()
    with pytest.raises(InputError, match="must rise"):
        code_length.online_code(KEY, COUNT, *given, (0.5, 0.2, 1.0))
    with pytest.raises(InputError, match="needs probabilities"):
        code_length.online_code(KEY, COUNT._replace(target=REAL), *given)


def test_the_variational_code_of_a_bias_is_near_the_exact_probability_of_the_labels():
    """x says nothing: what is left is one weight, whose prior and likelihood are integrated here."""
    n, ones, alpha = 60, 42, 1.5
    y = jnp.float32(np.arange(n) < ones)
    got = jax.jit(
        lambda y: variational_code.fit(KEY, jnp.zeros((n, 1)), y, jnp.ones(n), variational_code.Hypers(alpha))
    )(y)
    density = lambda b: np.exp(
        ones * -np.logaddexp(0, -b) + (n - ones) * -np.logaddexp(0, b) - b**2 / (2 * alpha**2)
    ) / (alpha * math.sqrt(2 * math.pi))  # fmt: skip
    exact = -math.log2(scipy.integrate.quad(density, -10, 10)[0])
    assert exact <= got.bits + 1e-3 and got.bits - exact < 0.02 and got.convergence.converged
    assert (
        abs(float(got.mean[0])) < 1e-3 and abs(float(got.deviation[0]) - alpha) < 1e-2
    )  # the weight of x is not sent


def test_the_variational_code_is_numpys_and_least():
    n, D, alpha = 150, 3, 2.0
    x = RNG.normal(size=(n, D)) * 2 + 1
    y = (x[:, 0] + RNG.normal(size=n) > 1).astype(float)
    w = RNG.integers(0, 3, n).astype(float)
    mean = w @ x / w.sum()
    rows = np.c_[(x - mean) / np.sqrt((w @ (x - mean) ** 2).mean() / w.sum()), np.ones(n)]
    nodes, shares = np.polynomial.hermite.hermgauss(40)

    def bits(v):
        mu, sigma = v[: D + 1], np.exp(v[D + 1 :])
        z = (rows @ mu)[:, None] + np.sqrt(2 * (rows**2 @ sigma**2))[:, None] * nodes
        labels = (np.logaddexp(0, z) @ shares / shares.sum() - y * (rows @ mu)) @ w
        return (labels + ((mu**2 + sigma**2) / alpha**2 - 1 - 2 * np.log(sigma / alpha)).sum() / 2) / math.log(2)

    got = jax.jit(lambda *a: variational_code.fit(KEY, *a, variational_code.Hypers(alpha)))(
        *map(jnp.float32, (x, y, w))
    )
    want = scipy.optimize.minimize(bits, np.r_[np.zeros(D + 1), np.full(D + 1, -1.0)])
    np.testing.assert_allclose(got.bits, want.fun, rtol=1e-4)
    np.testing.assert_allclose(np.r_[got.mean, np.log(got.deviation)], want.x, atol=2e-2)
    np.testing.assert_allclose(variational_code.predict(got, jnp.float32(x)), rows @ got.mean, rtol=1e-3, atol=1e-4)
    assert 0 < got.bits_of_weights < got.bits < w.sum()


def test_the_expectation_over_classes_is_an_integral():
    """log S = ∫ (e^-t - e^-tS) dt/t, and e^-tS is a product over classes, each an integral over one number."""
    m, v = RNG.normal(size=(6, 3)), RNG.uniform(0.01, 1.5, (6, 3))
    y = np.eye(4)[RNG.integers(0, 4, 6)]
    nodes, shares = np.polynomial.hermite_e.hermegauss(80)
    log_t = np.linspace(-40, 8, 6_001)
    z = m[:, :, None] + np.sqrt(v)[:, :, None] * nodes
    each = np.exp(-np.exp(log_t[:, None, None, None] + z)) @ (shares / shares.sum())
    product = each.prod(-1) * np.exp(-np.exp(log_t))[:, None]  # the last class has the score 0
    want = np.trapezoid(np.exp(-np.exp(log_t))[:, None] - product, log_t, axis=0) - (y[:, :3] * m).sum(1)
    got = variational_code.expected_of_classes(*map(jnp.float32, (m, v, y)))
    np.testing.assert_allclose(got, want, atol=5e-3)


def test_the_code_of_two_classes_is_that_of_one_label_and_of_three_it_is_near_the_exact_probability():
    n, alpha = 90, 1.5
    x = jnp.float32(RNG.normal(size=(n, 2)))
    yes = (np.asarray(x[:, 0]) + RNG.normal(size=n) > 0).astype(np.float32)
    hypers, w = variational_code.Hypers(alpha), jnp.float32(RNG.integers(0, 3, n))
    fit = jax.jit(lambda x, y: variational_code.OF_CLASSES.fit(KEY, x, y, w, hypers))
    one, two = variational_code.fit(KEY, x, jnp.asarray(yes), w, hypers), fit(x, jnp.stack([yes, 1 - yes], 1))
    np.testing.assert_allclose([two.bits, two.bits_of_weights], [one.bits, one.bits_of_weights], rtol=1e-3)
    z = variational_code.OF_CLASSES.predict(two, x)
    np.testing.assert_allclose(z[:, 0] - z[:, 1], variational_code.predict(one, x), atol=1e-2)

    counts = np.array([40, 30, 20])
    y = np.eye(3)[np.repeat(np.arange(3), counts)]
    got = jax.jit(lambda y: variational_code.OF_CLASSES.fit(KEY, jnp.zeros((n, 1)), y, jnp.ones(n), hypers))(
        jnp.float32(y)
    )
    a, b = np.meshgrid(grid := np.linspace(-6, 6, 1_201), grid, indexing="ij")
    log = counts[0] * a + counts[1] * b - n * np.logaddexp(np.logaddexp(a, b), 0) - (a**2 + b**2) / (2 * alpha**2)
    exact = -np.log2(np.exp(log).sum() * (grid[1] - grid[0]) ** 2 / (2 * np.pi * alpha**2))
    assert (
        exact <= got.bits + 1e-2 and got.bits - exact < 0.4 and bool(got.convergence.converged)
    )  # q has no correlations


def test_a_code_of_another_loss_or_of_classes_without_an_axis_is_refused():
    given = KEY, jnp.zeros((4, 1)), jnp.zeros(4), jnp.ones(4), variational_code.Hypers()
    for loss, message in (("clases", "did you mean 'classes'"), ("classes", "one-hot targets")):
        with pytest.raises(InputError, match=message):
            variational_code.fit(*given, loss)


def test_a_fair_coin_costs_a_bit_an_example_and_little_more():
    n, seeds, hypers = 400, 8, variational_code.Hypers(0.3)
    x = jnp.float32(RNG.normal(size=(seeds, n, 4)))
    y = jnp.float32(RNG.random((seeds, n)) < 0.5)
    w, sent = jnp.ones(n), partial(variational_code.fit, tolerance=1e-3)
    coded = lambda x, y: (
        code_length.online_code(KEY, lda.PROBE, x, y, w, lda.Hypers(), (0.1, 0.3, 1.0)).bits,
        sent(KEY, x, y, w, hypers).bits,
    )
    online, variational = jax.jit(jax.vmap(coded))(x, y)
    assert abs(np.mean(online) / n - 1) < 0.05 and abs(np.mean(variational) / n - 1) < 0.02
    assert (variational > 0.97 * n).all()
