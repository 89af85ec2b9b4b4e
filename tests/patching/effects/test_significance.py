"""Sign-flip tests against enumeration by hand, corrections against SciPy's or their definition, and all over 2,000 seeds."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from interp_jax import randomness
from interp_jax.errors import InputError
from interp_jax.patching.effects import significance
from interp_jax.patching.effects.significance import SIDES, benjamini_hochberg, holm, sign_flip_test
from tests.patching.effects.binomial import N_SEEDS, check_rate


def by_hand(rows, side):
    """P-values and step-down family-wise ones, choice by choice; [C]."""
    statistic = {"two-sided": np.abs, "greater": lambda t: t, "less": lambda t: -t}[side]
    unit = rows / np.sqrt((rows**2).sum(1, keepdims=True))
    bar = statistic(unit.sum(1)) - 1e-9
    order = np.argsort(-bar)
    single, family = np.zeros(len(rows)), np.zeros(len(rows))
    choices = list(itertools.product([1, -1], repeat=rows.shape[1]))
    for signs in choices:
        drawn = statistic(unit @ np.array(signs))
        single += drawn >= bar
        family += [max(drawn[order[i:]]) >= bar[order[i]] for i in np.argsort(order)]
    family[order] = np.maximum.accumulate(family[order])
    return single / len(choices), family / len(choices)


@pytest.mark.parametrize("side", SIDES)
def test_few_examples_are_enumerated(side):
    with jax.enable_x64(True):
        rows = np.random.default_rng(0).normal(0.5, 1, size=(6, 7)) * np.array([[1], [10], [1], [0.1], [1], [1]])
        seen = sign_flip_test(jnp.asarray(rows.reshape(2, 3, 7)), alternative=side)
        p, family = by_hand(rows, side)
        np.testing.assert_allclose(seen.p.ravel(), p, atol=1e-12)
        np.testing.assert_allclose(seen.family_wise.ravel(), family, atol=1e-12)
        if side != "less":
            theirs = scipy.stats.permutation_test(
                (rows,), np.mean, permutation_type="samples", axis=1, alternative=side, n_resamples=np.inf
            )
            np.testing.assert_allclose(p, theirs.pvalue, atol=1e-12)


def test_the_smallest_p_is_that_of_equal_signs_and_no_effect_has_one():
    seen = sign_flip_test(jnp.stack([jnp.arange(1.0, 6.0), jnp.zeros(5), jnp.full(5, 0.1)]))
    np.testing.assert_allclose(seen.p, [2 / 32, 1, 2 / 32])
    drawn = sign_flip_test(jnp.ones((2, 100)), n_flips=99)
    np.testing.assert_allclose(drawn.p, [0.01, 0.01])
    np.testing.assert_allclose(drawn.family_wise, [0.01, 0.01])


def test_drawn_signs_agree_with_the_exact_answer_and_with_every_block(monkeypatch):
    rows = jnp.asarray(np.random.default_rng(1).normal(0.3, 1, size=(5, 12)), jnp.float32)
    exact = sign_flip_test(rows)
    monkeypatch.setattr(significance, "EXACT_UP_TO", 11)
    significance._flip.clear_cache()
    drawn = sign_flip_test(rows, seed=3, n_flips=10_001)
    for one, other in zip(drawn, exact, strict=True):
        np.testing.assert_allclose(one, other, atol=0.02)  # four standard errors
    monkeypatch.setattr(significance, "AT_ONCE", 12 * 64)  # 157 blocks, the last one with 17 flips
    significance._flip.clear_cache()
    for one, other in zip(sign_flip_test(rows, seed=3, n_flips=10_001), drawn, strict=True):
        np.testing.assert_array_equal(one, other)
    significance._flip.clear_cache()


def test_identical_cells_count_as_one():
    """Holm's factor for ten copies of a cell is 10; the maximum over them is any of them."""
    x = jnp.asarray(np.random.default_rng(2).normal(0.8, 1, size=10), jnp.float32)
    seen = sign_flip_test(jnp.tile(x, (10, 1)))
    np.testing.assert_allclose(seen.family_wise, seen.p, rtol=1e-6)
    np.testing.assert_allclose(holm(seen.p), np.minimum(10 * seen.p, 1), rtol=1e-6)


def test_corrections_of_a_list():
    p = jnp.array([[0.01, 0.04], [0.03, 0.5]])
    np.testing.assert_allclose(holm(p), [[0.04, 0.09], [0.09, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(benjamini_hochberg(p), [[0.04, 0.16 / 3], [0.16 / 3, 0.5]], rtol=1e-6)
    many = np.random.default_rng(3).uniform(size=50) ** 2
    np.testing.assert_allclose(
        benjamini_hochberg(jnp.asarray(many)), scipy.stats.false_discovery_control(many), rtol=1e-5
    )
    ordered = np.sort(many)
    direct = [min(1, max((50 - j) * ordered[j] for j in range(i + 1))) for i in range(50)]
    np.testing.assert_allclose(np.sort(holm(jnp.asarray(many))), direct, rtol=1e-5)


def over_seeds(function, batch=50):
    return jax.tree.map(np.asarray, jax.jit(lambda s: jax.lax.map(function, s, batch_size=batch))(jnp.arange(N_SEEDS)))


def noise(seed, shape):
    return jax.random.normal(randomness.key(seed, "calibration"), shape)


@pytest.mark.parametrize(("n_examples", "draw"), [(10, jax.random.normal), (30, jax.random.laplace)])
@pytest.mark.parametrize("side", ["two-sided", "greater"])
def test_p_values_are_at_most_alpha_as_often_as_they_say(n_examples, draw, side):
    """Symmetric effects: exactly 5% where 0.05 is a multiple of the smallest p, as for 199 draws; else just under it."""

    def test(seed):
        values = draw(randomness.key(seed, "calibration"), (n_examples,))
        return sign_flip_test(values, seed, n_flips=199, alternative=side).p

    p = over_seeds(test)
    step = 2 ** (side == "two-sided") / 2**n_examples if n_examples <= 12 else 1 / 200
    for alpha in (0.05, 0.2):
        check_rate(p <= alpha + 1e-6, np.floor(alpha / step + 1e-6) * step)


def grid(seed, shift=0.0, n_cells=20, n_examples=15, shared=0.8):
    """Correlated cells: 80% of the variance of each example is common to all of them; the first five have effects."""
    values = shared**0.5 * noise(seed, (n_examples,)) + (1 - shared) ** 0.5 * noise(
        seed + 10**6, (n_cells, n_examples)
    )
    return values.at[:5].add(shift)


def test_the_family_is_wrong_as_often_as_it_says_on_correlated_cells():
    """Exactly 5% by the maximum; far less by Holm's rule, which does not know of the correlation."""

    def test(seed):
        seen = sign_flip_test(grid(seed), seed, n_flips=199)
        return seen.family_wise.min() <= 0.05 + 1e-6, holm(seen.p).min() <= 0.05 + 1e-6, seen.p.min() <= 0.05 + 1e-6

    by_maximum, by_holm, uncorrected = over_seeds(test)
    check_rate(by_maximum, 0.05)
    check_rate(by_holm, 0.05, "greater")
    assert uncorrected.mean() > 0.1


def test_true_effects_elsewhere_do_not_make_false_ones():
    """Strong control: with five strong cells among them, the other fifteen are called no oftener; and the five are found."""

    def test(seed):
        seen = sign_flip_test(grid(seed, shift=2.0), seed, n_flips=199)
        return seen.family_wise[5:].min() <= 0.05 + 1e-6, (seen.family_wise[:5] <= 0.05 + 1e-6).mean()

    false, found = over_seeds(test)
    check_rate(false, 0.05, "greater")
    assert found.mean() > 0.95


@pytest.mark.slow
def test_the_share_of_false_discoveries_is_bounded_and_effects_are_found():
    """Benjamini and Hochberg promise α times the share of null cells: 0.1 · 30/40."""

    def test(seed):
        values = grid(seed, shift=0.0, n_cells=40, n_examples=15, shared=0.0).at[:10].add(1.2)
        called = benjamini_hochberg(sign_flip_test(values, seed, n_flips=999).p) <= 0.1
        return called[10:].sum() / jnp.maximum(called.sum(), 1), called[:10].mean()

    share, found = over_seeds(test)
    excess = (share.mean() - 0.1 * 30 / 40) / (share.std(ddof=1) / N_SEEDS**0.5)
    assert excess < scipy.stats.norm.isf(0.001), share.mean()
    assert found.mean() > 0.8 and share.mean() > 0.05


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sign_flip_test(jnp.ones((2, 3)), alternative="two sided"), "did you mean 'two-sided'?"),
        (lambda: sign_flip_test(jnp.ones((2, 0))), "effects have shape (2, 0): there is nothing to test"),
        (lambda: sign_flip_test(jnp.ones((2, 3)), n_flips=0), "n_flips = 0: must be at least 1"),
        (lambda: sign_flip_test(jnp.array([[0.0, jnp.nan]])), "the metric 'effect' is nan on example 1, cell (0,)"),
        (lambda: holm(jnp.array([0.1, 1.2])), "of cell (1,): must lie between 0 and 1"),
        (lambda: benjamini_hochberg(jnp.array([[jnp.nan]])), "p-value nan of cell (0, 0): must lie between 0 and 1"),
    ],
)
def test_bad_input_is_one_line(call, message):
    with pytest.raises(InputError) as error:
        call()
    assert message in str(error.value) and "\n" not in str(error.value)
