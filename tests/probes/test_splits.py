"""Folds: every example in one, groups together, strata even, inner fits that miss two; leaks are counted."""

import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.probes.controls import draw
from interp_jax.probes.splits import Splits, cross_validation, held_out, leaks

RNG = np.random.default_rng(0)


def test_folds_are_of_one_size_and_differ_by_seed():
    splits = cross_validation(103, 5, seeds=3)
    for fold in splits.fold:
        assert sorted(np.bincount(fold).tolist()) == [20, 20, 21, 21, 21]
    assert (splits.fold[0] != splits.fold[1]).any()
    rows = splits.rows()
    assert rows.shape == (3, 6, 21) and (rows[:, 5] == -1).all()
    np.testing.assert_array_equal(np.sort(rows[1][rows[1] >= 0]), np.arange(103))
    np.testing.assert_array_equal(splits.include, np.r_[1 - np.eye(5), np.ones((1, 5))])


def test_neighbouring_seeds_share_no_folds_and_no_order_of_labels():
    """All assignments and orders of two seeds differ: those of the first are not those of the second, one further."""
    folds = np.concatenate([cross_validation(60, 3, seeds=4, seed=seed).fold for seed in (0, 1, 2)])
    assert len(np.unique(folds, axis=0)) == 12
    one, all_count, none = np.zeros(60, int), np.ones(60, bool), None
    orders = [draw(seed, n, one, 3, all_count, none)[1] for seed in (0, 1, 2) for n in range(4)]
    assert len(np.unique(orders, axis=0)) == 12


def test_groups_stay_together_and_strata_are_even():
    groups = RNG.integers(0, 40, 400)
    strata = groups % 2
    fold = cross_validation(400, 4, groups=groups, strata=strata).fold[0]
    for group in range(40):
        assert len(set(fold[groups == group])) == 1
    shares = [strata[fold == f].mean() for f in range(4)]
    np.testing.assert_allclose(shares, strata.mean(), atol=0.08)
    assert np.bincount(fold).min() > 80
    rare = np.arange(100) < 10
    assert [rare[cross_validation(100, 5, strata=rare).fold[0] == f].sum() for f in range(5)] == [2] * 5


def test_inner_fits_miss_two_folds_and_what_is_elsewhere_is_in_none():
    splits = cross_validation(40, 4, elsewhere=np.arange(40) < 8, nested=True)
    assert (splits.fold[0, :8] == 4).all() and (splits.fold[0, 8:] < 4).all()
    assert splits.include.shape == (4 + 6 + 1, 4)
    for pair, include in zip(splits.pairs.T, splits.include[4:-1], strict=True):
        np.testing.assert_array_equal(np.flatnonzero(include == 0), pair)
    one = held_out(np.arange(10) >= 7)
    assert one.n_folds == 1 and one.include.tolist() == [[1.0]] and (one.fold[0, 7:] == 1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 4, "folds": 5}, "5 folds of 4 examples"),
        ({"n": 40, "folds": 5, "groups": np.arange(40) // 20}, "5 folds of 2 groups"),
        ({"n": 40, "strata": [0]}, "1 strata of 40 examples"),
        ({"n": 40, "folds": 2, "nested": True}, "2 folds; there must be at least 3"),
    ],
)
def test_impossible_splits_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        cross_validation(**arguments)


def test_leaks_are_counted():
    """Texts 0 … 19 twice each: apart by chance, together by groups."""
    texts = [f"text {i}" for i in np.arange(40) % 20]
    splits = cross_validation(40, 4)
    fold = splits.fold[0]
    want = 2 * (fold[:20] != fold[20:]).sum()
    with pytest.warns(UserWarning, match=f"{want} of 40 examples are scored by a fit that saw the same text or row"):
        assert leaks(splits, texts) == want
    assert leaks(cross_validation(40, 4, groups=texts), texts) == 0
    with pytest.warns(UserWarning, match="1 of 4 .* such as example 3"):
        assert leaks(held_out(np.array([False, False, False, True])), ["a", "b", "c", "a"]) == 1
    assert leaks(held_out(np.array([False, False, True, True])), ["a", "a", "b", "b"]) == 0
    two = Splits(np.array([[1, 0, 0, 1, 0], [0, 0, 0, 0, 1]]), 1)  # the second seed has fewer
    with pytest.warns(UserWarning, match="2 of 5 .* such as example 0"):
        assert leaks(two, ["a", "a", "b", "b", "b"]) == 2
