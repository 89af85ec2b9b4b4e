"""Both generators are uniform and uncorrelated within a stream, between steps and between members, and a member's numbers
are its own whoever else is there."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from interp_jax.randomness import GENERATORS, counter_bits, key, mix, threefry_bits, uniform

N = 1 << 16
LEAST_P = 1e-5  # some 200 tests are made here: one of them fails by chance once in 500 changes of the generator

each_generator = pytest.mark.parametrize("generator", GENERATORS)


def draws(generator, seed=0, stream="train", step=0, shape=(N,)):
    return np.asarray(uniform(generator, seed, stream, step, shape))


def correlation_p(a, b):
    """Two-sided p of the correlation of two samples under independence."""
    z = np.corrcoef(a.ravel(), b.ravel())[0, 1] * np.sqrt(a.size)
    return 2 * scipy.stats.norm.sf(abs(z))


def test_threefry_is_that_of_jax():
    for shape in ((7,), (3, 5), (2, 3, 4)):
        np.testing.assert_array_equal(threefry_bits(key(3, "a", 9), shape), jax.random.bits(key(3, "a", 9), shape))
        np.testing.assert_array_equal(uniform("threefry", 3, "a", 9, shape), jax.random.uniform(key(3, "a", 9), shape))


@each_generator
@pytest.mark.parametrize("bins", [10, 256, 1000])
def test_uniform_in_one_dimension(generator, bins):
    for seed, step in itertools.product((0, 1, 12345), (0, 1, 999)):
        counts = np.bincount((draws(generator, seed, step=step) * bins).astype(int), minlength=bins)
        assert scipy.stats.chisquare(counts).pvalue > LEAST_P


@each_generator
@pytest.mark.parametrize("lag", [1, 2, 3, 20, 1024])
def test_uniform_in_pairs_at_a_lag(generator, lag):
    """A chi-squared over 32 × 32 cells of (u_i, u_{i + lag}) sees serial dependence of any form."""
    u = (draws(generator, 5, step=3) * 32).astype(int)
    counts = np.bincount(32 * u[:-lag] + u[lag:], minlength=32 * 32)
    assert scipy.stats.chisquare(counts).pvalue > LEAST_P


@each_generator
def test_every_bit_is_fair(generator):
    bits = threefry_bits(key(1, "bits"), (N,)) if generator == "threefry" else counter_bits(1, "bits", 0, (N,))
    ones = (np.asarray(bits)[:, None] >> np.arange(32) & 1).sum(0)
    assert min(scipy.stats.binomtest(int(k), N, 0.5).pvalue for k in ones) > LEAST_P


@each_generator
@pytest.mark.parametrize("what", ["seed", "step", "stream"])
def test_neighbours_are_independent(generator, what):
    """Neighbouring members, steps and streams: pairs of draws at the same index, and shifted by one."""
    at = {"seed": lambda i: {"seed": i}, "step": lambda i: {"step": i}, "stream": lambda i: {"stream": f"s{i}"}}[what]
    samples = [draws(generator, **at(i)) for i in (0, 1, 2, 3, 1000)]
    for a, b in itertools.combinations(samples, 2):
        assert correlation_p(a, b) > LEAST_P
        assert correlation_p(a[1:], b[:-1]) > LEAST_P
        cells = np.bincount(32 * (a * 32).astype(int) + (b * 32).astype(int), minlength=32 * 32)
        assert scipy.stats.chisquare(cells).pvalue > LEAST_P


@each_generator
def test_means_over_many_members_and_steps_spread_as_they_should(generator):
    """400 × 25 batches of 64 draws: the variance of their means is 1 / (12 · 64) if and only if they do not agree."""
    seeds, steps = (g.ravel() for g in np.meshgrid(np.arange(400), np.arange(25)))
    u = np.asarray(jax.vmap(lambda s, t: uniform(generator, s, "train", t, (64,)))(seeds, steps))
    spread = u.mean(1).var() * 12 * 64 * len(u)
    assert LEAST_P < scipy.stats.chi2.cdf(spread, len(u)) < 1 - LEAST_P
    assert scipy.stats.kstest(u[:, 0], "uniform").pvalue > LEAST_P  # the first draw alone, across members and steps


@each_generator
def test_the_words_of_a_batch_do_not_repeat_in_another(generator):
    """Shifted copies of one sequence would share thousands of words; by chance two batches share about one."""
    draw = {
        "threefry": lambda s, t: threefry_bits(key(s, "a", t), (N,)),
        "counter": lambda s, t: counter_bits(s, "a", t, (N,)),
    }
    words = np.concatenate([np.unique(draw[generator](s, t)) for s in range(4) for t in range(4)])
    repeats = len(words) - len(np.unique(words))
    expected = 120 * N**2 / 2**32  # 120 pairs of batches
    assert scipy.stats.poisson.sf(repeats - 1, expected) > LEAST_P


@each_generator
def test_a_member_is_itself_in_any_population(generator):
    member = lambda seed: uniform(generator, seed, "train", 7, (5, 3))
    together = jax.jit(jax.vmap(member))(jnp.arange(6))
    for seed in range(6):
        np.testing.assert_array_equal(together[seed], member(seed))
        np.testing.assert_array_equal(together[seed], jax.jit(member)(seed))


@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_why_rbg_is_forbidden(implementation):
    """Under `vmap` only the first member draws what it draws alone."""
    member = lambda seed: jax.random.uniform(jax.random.key(seed, impl=implementation), (4,))
    together, alone = jax.vmap(member)(jnp.arange(3)), [member(seed) for seed in range(3)]
    assert (together[0] == alone[0]).all()
    assert not (together[1] == alone[1]).any()


def test_mix_is_a_bijection():
    words = np.arange(1 << 20, dtype=np.uint32) * np.uint32(4099)
    for between in (0, 0xDEADBEEF):
        assert len(np.unique(mix(jnp.asarray(words), jnp.uint32(between)))) == len(words)


def test_streams_do_not_depend_on_python():
    """crc32 of the name, so the same in every process and version: two draws, pinned."""
    np.testing.assert_array_equal(draws("counter", 3, "a", 9, (2,)), np.float32([0.7069682, 0.20999962]))


def test_an_unknown_generator_is_refused():
    with pytest.raises(ValueError, match="known: threefry, counter"):
        uniform("rbg", 0, "a", 0, (1,))
