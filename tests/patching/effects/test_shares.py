"""Intervals of shares of the whole effect: Fieller's, by inverting the test, and what they promise over 2,000 seeds."""

import jax
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from interp_jax import randomness
from interp_jax.errors import InputError
from interp_jax.experiments.patching.listing import Cells, listed, p_values, rounded, strongest
from interp_jax.patching.effects.intervals import bootstrap_interval
from interp_jax.patching.effects.shares import share_interval
from interp_jax.patching.effects.significance import benjamini_hochberg, sign_flip_test
from interp_jax.patching.prompts import DIRECTIONS
from tests.experiments.test_patching import view_with
from tests.patching.effects.binomial import N_SEEDS, check_rate

DRAW = np.random.default_rng(0)
WHOLE = DRAW.normal(2.0, 1.0, 20)
CELLS = 0.4 * WHOLE + DRAW.normal(0, 0.5, (3, 20))


def by_inversion(x, y, level):
    """All ρ at which Student's test of mean(x - ρ y) = 0 does not reject: its ends, by bisection."""
    r = x.mean() / y.mean()
    p = lambda rho: scipy.stats.ttest_1samp(x - rho * y, 0).pvalue - (1 - level)
    return [scipy.optimize.brentq(p, r, r + step) for step in (-5, 5)]


def test_with_students_bounds_it_is_fiellers():
    for flip in (1, -1):  # of a metric of which less is better, all effects are below 0
        seen = share_interval(flip * CELLS, flip * WHOLE, level=0.9, method="student")
        np.testing.assert_allclose(seen.mean, CELLS.mean(1) / WHOLE.mean(), rtol=1e-12)
        for i, x in enumerate(CELLS):
            np.testing.assert_allclose([seen.low[i], seen.high[i]], by_inversion(x, WHOLE, 0.9), rtol=1e-5)


def test_with_bounds_of_a_bootstrap_it_holds_the_shares_that_these_allow():
    """At either end, T is the bound of the bootstrap's T* that `bootstrap_interval` gives for the mean of d."""
    seen = share_interval(CELLS, WHOLE, seed=3, method="studentised")
    for i, x in enumerate(CELLS):
        d = x - seen.mean[i] * WHOLE
        d = (d / d.std()).astype(np.float32)
        _, low, high = bootstrap_interval(d, 3, method="studentised")
        t = lambda rho: (x - rho * WHOLE).mean() / (x - rho * WHOLE).std()  # noqa: B023
        np.testing.assert_allclose([t(seen.low[i]), t(seen.high[i])], [-float(low), -float(high)], rtol=1e-4)


def test_signs_and_units_do_not_matter():
    whole, flipped, longer = (
        share_interval(*given) for given in ((CELLS, WHOLE), (-CELLS, -WHOLE), (7 * CELLS, 7 * WHOLE))
    )
    for part, other in zip(whole, longer, strict=True):
        np.testing.assert_allclose(part, other, rtol=1e-5)
    np.testing.assert_allclose(flipped.mean, whole.mean)
    assert (np.abs(np.array(flipped[1:]) - whole[1:]) < 0.02).all()  # resamples of -d are others than those of d
    against = share_interval(-CELLS, WHOLE)
    np.testing.assert_allclose(against.mean, -whole.mean)
    np.testing.assert_allclose([-against.low, -against.high], [whole.high, whole.low], atol=0.02)


def test_what_has_a_fixed_share_is_known_and_where_there_is_no_effect_nothing_is():
    known = share_interval(np.stack([WHOLE, 0 * WHOLE, -0.3 * WHOLE]), WHOLE)
    for part in known:
        np.testing.assert_allclose(part, [1, 0, -0.3], atol=1e-9)
    unclear = np.array([1.0, -1.0, 1.2, -0.9, 1.1])
    seen = share_interval(CELLS[:, :5], unclear)
    assert np.isinf(seen.low).all() and np.isinf(seen.high).all()
    with pytest.raises(InputError, match="the mean whole effect is 0"):
        share_interval(CELLS[:, :2], np.array([1.0, -1.0]))
    with pytest.raises(InputError, match="an interval over 1 example"):
        share_interval(CELLS[:, :1], WHOLE[:1])


# --- coverage

PER_SEED = 200  # cells that share their resamples
EXAMPLES = (8, 12, 32, 128)


def alike(key, shape):
    """A node with four tenths of each pair's effect, and a little of its own."""
    y, noise = jax.random.normal(key, (2, *shape))
    return 0.4 * (3 + y) + 0.3 * noise, 3 + y


def apart(key, shape):
    """A node whose effect has nothing to do with the whole one."""
    x, y = jax.random.normal(key, (2, *shape))
    return 1 + x, 3 + y


def skewed(key, shape):
    """A few pairs have most of the node's effect."""
    x, y = jax.random.normal(key, (2, *shape))
    return np.exp(x), 3 + y


def some(key, shape):
    """A node that does everything in half of the pairs, and nothing in the others."""
    noise, which = jax.random.split(key)
    y = 2 + jax.random.normal(noise, shape)
    return jax.random.bernoulli(which, 0.5, shape) * y, y


KINDS = {
    "alike": (alike, 0.4),
    "apart": (apart, 1 / 3),
    "skewed": (skewed, float(np.exp(0.5)) / 3),
    "some": (some, 0.5),
}
SHORT = {("skewed", 8): 0.9, ("skewed", 12): 0.915, ("skewed", 32): 0.94}  # as of means, see `intervals.py`


def covered(kind, n_examples, interval=share_interval):
    """Whether intervals hold the share, [N_SEEDS]; 399 resamples cut [0, 1] into 400."""
    draw, share = KINDS[kind]
    hits = []
    for seed in range(N_SEEDS // PER_SEED):
        x, y = (np.asarray(v) for v in draw(randomness.key(seed, "shares"), (PER_SEED, n_examples)))
        seen = interval(x, y, seed, n_resamples=399)
        hits.append((seen.low <= share + 1e-9) & (share - 1e-9 <= seen.high))
    return np.concatenate(hits)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_intervals_of_shares_cover_what_they_promise(kind):
    for n in EXAMPLES:
        hits = covered(kind, n)
        print(kind, n, hits.mean())
        check_rate(hits, SHORT.get((kind, n), 0.95), "less")


def constant_total(x, y, seed, n_resamples):
    """As if the whole effect were known."""
    return bootstrap_interval((x / y.mean(-1, keepdims=True)).astype(np.float32), seed, n_resamples=n_resamples)


@pytest.mark.slow
def test_a_whole_effect_that_is_taken_for_known_gives_wrong_intervals():
    """Too long where a node goes along with the whole, too short where it does not."""
    assert covered("alike", 32, constant_total).mean() > 0.995
    opposed = lambda key, shape: (2 - 1.5 * (y := jax.random.normal(key, shape)), 2 + y)
    KINDS["opposed"] = (opposed, 1.0)
    try:
        assert covered("opposed", 32, constant_total).mean() < 0.9
        check_rate(covered("opposed", 32), 0.95, "less")
    finally:
        del KINDS["opposed"]


# --- tables


def test_tables_list_the_strongest_with_chances_among_all():
    view = view_with(np.zeros((2, 2, 3)), n_pairs=20)
    draw = np.random.default_rng(1)
    effects = {d: 0.2 * draw.normal(size=(40, 20)).astype(np.float32) for d in DIRECTIONS}
    for d, i in zip(DIRECTIONS, (7, 3), strict=True):
        effects[d][i] += 1.0
    cells = Cells(("what",), [(f"cell {i}",) for i in range(40)], effects)
    chosen = strongest(view, cells, 5)
    assert set(chosen[:2]) == {3, 7} and len(chosen) == 5
    rows = listed(view, cells, chosen, "Five.").rows
    assert [row[0] for row in rows] == [f"cell {i}" for i in chosen]
    for j, d in enumerate(DIRECTIONS):
        test, shares = sign_flip_test(effects[d]), share_interval(effects[d], view.clean - view.corrupted)
        for row, i in zip(rows, chosen, strict=True):
            share, low, high, family, discovery = row[1 + 5 * j : 6 + 5 * j]
            np.testing.assert_allclose([share, low, high], [part[i] for part in shares], atol=6e-4)
            assert family == rounded(float(test.family_wise[i]))
            assert discovery == rounded(float(benjamini_hochberg(test.p)[i]))
        named = p_values(effects[d])
        assert (named.family_wise < 0.05).sum() == 1 and named.p.min() == named.family_wise.min()


def test_at_least_one_cell_is_listed_and_those_that_do_nothing_are_not():
    view = view_with(np.zeros((2, 2, 3)))
    effects = dict.fromkeys(DIRECTIONS, np.array([[0.0] * 4, [1e-9] * 4, [0.1] * 4]))
    cells = Cells(("what",), [("a",), ("b",), ("c",)], effects)
    assert strongest(view, cells, 9) == [2]
    nothing = cells._replace(effects=dict.fromkeys(DIRECTIONS, np.zeros((3, 4))))
    assert strongest(view, nothing, 9) == [0]
