"""Bootstrap intervals against SciPy's, by hand, and against what they promise over 2,000 seeds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from interp_jax import randomness
from interp_jax.errors import InputError
from interp_jax.patching.effects import intervals
from interp_jax.patching.effects.intervals import METHODS, bootstrap_interval
from tests.patching.effects.binomial import N_SEEDS, check_rate

SKEWED = np.random.default_rng(0).exponential(size=(3, 25))


@pytest.mark.parametrize(("method", "scipys"), [("percentile", "percentile"), ("bca", "BCa")])
def test_ends_are_scipys_but_for_the_draws(method, scipys):
    with jax.enable_x64(True):
        seen = bootstrap_interval(jnp.asarray(SKEWED), 0, 0.9, 20_000, method)
        theirs = scipy.stats.bootstrap(
            (SKEWED,), np.mean, axis=-1, n_resamples=20_000, confidence_level=0.9, method=scipys, rng=1
        )
        spread = SKEWED.std(1) / 5
        np.testing.assert_allclose(seen.mean, SKEWED.mean(1), rtol=1e-12)
        for end, their_end in (
            (seen.low, theirs.confidence_interval.low),
            (seen.high, theirs.confidence_interval.high),
        ):
            assert (np.abs(end - their_end) < 0.06 * spread).all()  # an end's standard error is 0.012 spreads


def test_studentised_ends_are_those_of_the_same_resamples_by_hand():
    with jax.enable_x64(True):
        n = 199
        seen = bootstrap_interval(jnp.asarray(SKEWED), 7, 0.9, n, "studentised")
        draw = jax.vmap(lambda i: intervals._resample(jnp.uint32(7), i, 25, np.dtype("float64")))
        counts = np.asarray(draw(jnp.arange(n, dtype=jnp.uint32))).astype(int)
        np.testing.assert_array_equal(counts.sum(1), 25)
        for cell, x in enumerate(SKEWED):
            drawn = np.stack([np.repeat(x, row) for row in counts])
            t = (drawn.mean(1) - x.mean()) / drawn.std(1)
            t = np.sort(t)  # 199 cut [0, 1] into 200: the quantiles 0.05 and 0.95 are the 10th and the 190th
            np.testing.assert_allclose(seen.low[cell], x.mean() - x.std() * t[189], rtol=1e-9)
            np.testing.assert_allclose(seen.high[cell], x.mean() - x.std() * t[9], rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_an_interval_moves_with_its_effects_and_does_not_know_its_neighbours(method, monkeypatch):
    with jax.enable_x64(True):
        grid = jnp.asarray(SKEWED)
        whole = bootstrap_interval(grid.reshape(3, 1, 25), 5, method=method, n_resamples=101)
        assert whole.low.shape == (3, 1)
        alone = bootstrap_interval(grid[1], 5, method=method, n_resamples=101)
        moved = bootstrap_interval(10 + 3 * grid[1], 5, method=method, n_resamples=101)
        for part, one, other in zip(whole, alone, moved, strict=True):
            np.testing.assert_allclose(one, part[1, 0], rtol=1e-12)
            np.testing.assert_allclose(other, 10 + 3 * one, rtol=1e-9)
        intervals._intervals.clear_cache()
        monkeypatch.setattr(intervals, "AT_ONCE", 60)  # two resamples and one cell at once
        for part, other in zip(whole, bootstrap_interval(grid, 5, method=method, n_resamples=101), strict=True):
            np.testing.assert_allclose(other, part[:, 0], rtol=1e-12)
        intervals._intervals.clear_cache()


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_students_interval_is_scipys_and_the_wider_one_holds_it_and_the_studentised_one(level):
    with jax.enable_x64(True):
        of = {m: bootstrap_interval(jnp.asarray(SKEWED), 7, level, 199, m) for m in METHODS}
        theirs = scipy.stats.t.interval(level, 24, SKEWED.mean(1), scipy.stats.sem(SKEWED, 1))
        np.testing.assert_allclose(of["student"][1:], theirs, rtol=1e-9)
        np.testing.assert_array_equal(of["wider"].low, np.minimum(of["student"].low, of["studentised"].low))
        np.testing.assert_array_equal(of["wider"].high, np.maximum(of["student"].high, of["studentised"].high))


def test_the_wider_interval_is_the_default():
    for part, other in zip(bootstrap_interval(SKEWED, 3), bootstrap_interval(SKEWED, 3, method="wider"), strict=True):
        np.testing.assert_array_equal(part, other)


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_effect_is_known_and_a_single_one_is_not_bounded(method):
    seen = bootstrap_interval(jnp.full((2, 9), 0.3), 0, method=method)
    np.testing.assert_allclose(np.array(seen), 0.3, rtol=1e-6)
    high = bootstrap_interval(jnp.zeros(9).at[4].set(1.0), 0, method=method).high
    assert bool(jnp.isinf(high)) == (method in ("studentised", "wider"))


def test_quantiles_between_infinite_values_are_infinite_or_the_finite_end():
    inf = jnp.inf
    for values, levels, expected in (
        ([-inf, -inf, 1.0, 2.0], [0.3, 0.5], [-inf, -inf]),  # between the first two; between -inf and 1
        ([1.0, 2.0, 3.0, inf], [0.6, 0.7], [3.0, inf]),  # at the third; between 3 and inf
        ([-inf, inf, inf, inf], [0.3, 0.4], [-inf, inf]),
        ([-inf, -inf, -inf, 5.0], [0.1, 0.8], [-inf, 5.0]),
    ):
        np.testing.assert_allclose(intervals._quantiles(jnp.array(values), jnp.array(levels)), expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "draw", "mean", "n_examples"),
    [
        ("percentile", jax.random.normal, 0.0, 100),
        ("bca", jax.random.normal, 0.0, 100),
        ("bca", jax.random.exponential, 1.0, 200),
        ("studentised", jax.random.normal, 0.0, 12),
        ("studentised", jax.random.exponential, 1.0, 30),
    ],
)
def test_intervals_cover_what_they_promise(method, draw, mean, n_examples):
    def covers(seed):
        values = draw(randomness.key(seed, "calibration"), (n_examples,))
        seen = bootstrap_interval(values, seed, n_resamples=399, method=method)
        return (seen.low <= mean) & (mean <= seen.high)

    hits = jax.jit(lambda seeds: jax.lax.map(covers, seeds, batch_size=100))(jnp.arange(N_SEEDS))
    check_rate(np.asarray(hits), 0.95)


EFFECTS = {  # in the order of the module's table, with their mean
    "normal": (jax.random.normal, 0.0),
    "skewed": (lambda key, shape: jnp.exp(jax.random.normal(key, shape)), float(np.exp(0.5))),
    "heavy-tailed": (lambda key, shape: jax.random.t(key, 3.0, shape), 0.0),
    "binary": (lambda key, shape: jax.random.bernoulli(key, 0.3, shape).astype(jnp.float32), 0.3),
}
EXAMPLES = (8, 12, 32, 128)
SHORT = {("skewed", 8): 0.9, ("skewed", 12): 0.915, ("skewed", 32): 0.94, ("binary", 8): 0.94}  # of the default
PER_SEED = 200  # cells that share their resamples


def covered(kind, n_examples, **options):
    """Whether intervals hold the mean, [N_SEEDS]; 399 resamples cut [0, 1] into 400."""
    draw, mean = EFFECTS[kind]
    hits = []
    for seed in range(N_SEEDS // PER_SEED):
        cells = draw(randomness.key(seed, "coverage"), (PER_SEED, n_examples))
        seen = bootstrap_interval(cells, seed, n_resamples=399, **options)
        hits.append((seen.low <= mean + 1e-6) & (mean - 1e-6 <= seen.high))
    return np.concatenate(hits)


@pytest.mark.slow
@pytest.mark.parametrize("kind", EFFECTS)
def test_the_default_covers_what_it_promises_but_of_few_skewed_examples(kind):
    """There it covers no less than what the module says."""
    for n in EXAMPLES:
        check_rate(covered(kind, n), SHORT.get((kind, n), 0.95), "less")


def test_the_default_is_not_wide_for_nothing():
    """On normal effects it is little longer than Student's, which is exact there."""
    for n, most in zip(EXAMPLES, (1.2, 1.12, 1.05, 1.02), strict=True):
        cells = jax.random.normal(randomness.key(0, "length"), (PER_SEED, n))
        wide, exact = (bootstrap_interval(cells, 0, **of) for of in ({}, {"method": "student"}))
        assert 1 <= np.median((wide.high - wide.low) / (exact.high - exact.low)) < most


def table():
    """The coverage that the module states: {method: [kind examples]}."""
    rows = [line.split() for line in intervals.__doc__.splitlines()]
    return {row[0]: np.array(row[1:], float).reshape(4, 4) for row in rows if len(row) == 17 and row[0] in METHODS}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_table_of_coverage_is_what_is_measured(method):
    stated = table()[method]
    for i, kind in enumerate(EFFECTS):
        for j, n in enumerate(EXAMPLES):
            hits = covered(kind, n, method=method)
            check_rate(hits, np.clip(hits.mean(), stated[i, j] - 0.008, stated[i, j] + 0.008))  # its own error


def test_no_kind_falls_short_by_less_than_the_default():
    short = {method: np.maximum(0.95 - rates, 0) for method, rates in table().items()}
    assert set(short) == set(METHODS)
    for of in (np.max, np.sum):
        assert of(short["wider"]) == min(map(of, short.values()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"effects": jnp.ones((3, 1))}, "an interval over 1 example(s): give at least 2"),
        ({"method": "bcaa"}, "unknown method 'bcaa': did you mean 'bca'?"),
        ({"level": 95.0}, "level = 95.0: must lie between 0 and 1"),
        ({"n_resamples": 0}, "n_resamples = 0: must be at least 1"),
        ({"effects": jnp.array([1.0, jnp.inf])}, "the metric 'effect' is inf on example 1"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    with pytest.raises(InputError) as error:
        bootstrap_interval(**({"effects": jnp.ones((3, 4)), "seed": 0} | arguments))
    assert str(error.value) == message
