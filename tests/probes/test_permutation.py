"""Tests of claims: p by hand, and what is planted is called; orders of groups; twice the median of p that depend on another."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from interp_jax.errors import InputError
from interp_jax.probes import mass_mean
from interp_jax.probes.controls import draw
from interp_jax.probes.everywhere import Examples, everywhere
from interp_jax.probes.paired import fold_p, merged, paired_p
from interp_jax.probes.permutation import permutation_p, rank_p, rank_p_at_best
from interp_jax.probes.splits import cross_validation


@functools.cache
def probed(seeds, n=60):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    x = rng.normal(size=(2, n, 3))
    x[1] += 3 * y[:, None]
    given = Examples(jnp.float32(x), y[None])
    splits = cross_validation(n, 3, seeds=seeds)
    return everywhere(mass_mean.PROBE, given, splits, mass_mean.Hypers(), axes={"layer": range(2)})


def test_p_is_the_rank_among_orders_and_what_is_there_is_called():
    found = probed(19)
    p = permutation_p(found, "accuracy")
    true, orders = found.measure("accuracy")[0, 0, 0, 0], found.measure("accuracy", "shuffled")[0, :, 0, 0]
    assert p.shape == (2, 1, 1) and p[0, 0, 0] == (1 + sum(a >= true for a in orders)) / 20
    assert p[1, 0, 0] == 0.05 and p[0, 0, 0] > 0.05


def test_too_few_orders_are_refused():
    with pytest.raises(InputError, match="no p below 0.2"):
        rank_p(np.zeros(2), np.zeros((4, 2)))


def test_labels_of_a_group_stay_together_begin_anywhere_and_groups_change_places():
    groups = np.array([5, 5, 2, 2, 2, 7, 7, 9])
    counted, fold = np.array([1, 1, 1, 1, 1, 1, 0, 1], bool), np.array([0, 0, 1, 1, 1, 0, 0, 2])
    seen = {tuple(draw(seed, 0, fold, 2, counted, None, groups)[1]) for seed in range(600)}
    assert len(seen) == 6 * 3 * 2  # three groups of folds, of 3, 2, 1; what is of no fold, or does not count, stays
    for order in seen:
        assert order[6:] == (6, 7) and sorted(order) == list(range(8))
        laid = [groups[order[row]] for row in (2, 3, 4, 0, 1, 5)]  # as rows of groups 2, 5, 7 are laid out
        assert (np.diff(laid) != 0).sum() == 2
    of_2 = {tuple(row for row in (order[i] for i in (2, 3, 4, 0, 1, 5)) if groups[row] == 2) for order in seen}
    assert of_2 == {(2, 3, 4), (3, 4, 2), (4, 2, 3)}  # neighbours stay neighbours


def test_the_best_place_of_each_order_is_its_own():
    rng = np.random.default_rng(0)
    runs = rng.normal(size=(4_000, 20, 3)) + np.array([0.0, 3.0, -1.0])  # a place that is good for any labels
    true, orders = runs[:, 0].T, np.moveaxis(runs[:, 1:], 0, -1)
    p = rank_p_at_best(true, orders)
    assert scipy.stats.kstest(p + rng.uniform(-0.05, 0, 4_000), "uniform").pvalue > 1e-3
    first = rank_p_at_best(true[:, :1], orders[..., :1])
    above = (runs[0] - runs[0].mean(0))[np.arange(20), runs[0].argmax(1)]
    assert first[0] == (1 + (above[1:] >= above[0]).sum()) / 20


def test_p_of_a_fold_is_students_and_twice_the_median_is_valid_however_folds_depend():
    rng = np.random.default_rng(1)
    d = rng.normal(size=(30, 8)) + 0.5
    np.testing.assert_allclose(fold_p(d), scipy.stats.ttest_1samp(d, 0, axis=1, alternative="greater").pvalue)
    assert fold_p(np.full((1, 4), 0.3))[0] == 1 / 16 and fold_p(np.zeros((1, 4)))[0] == fold_p(np.ones((1, 1)))[0] == 1
    p = np.array([0.3, 0.01, 0.02, 0.6])
    assert merged(p[:, None])[0] == 0.04 and merged(p[:3, None])[0] == 0.04 and merged(np.ones((3, 1)))[0] == 1
    same = np.repeat(rng.uniform(size=(1, 20_000)), 5, axis=0)
    worst = np.where(np.arange(5)[:, None] < 3, same, 1.0)  # the worst there is: half of them are one and the same
    assert (merged(worst) <= 0.05).mean() == pytest.approx(0.025, abs=0.005)
    fold = np.array([[0, 0, 0, 1, 1, 1], [0, 1, 0, 1, 0, 1]])
    d = rng.normal(size=(2, 6))
    each = [fold_p(d[n, fold[n] == f]) for n in (0, 1) for f in (0, 1)]
    assert paired_p(d, fold) == min(1, 2 * sorted(each)[1])
