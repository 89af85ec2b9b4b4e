"""Agreement of effects whose statistics are known."""

import numpy as np
import pytest
from scipy import stats

from interp_jax.errors import InputError
from interp_jax.patching.attribution.agreement import agreement


def test_a_line_is_found():
    exact = np.random.default_rng(0).normal(size=(3, 4))
    found = agreement(0.5 * exact - 2.0, exact, k=3)
    np.testing.assert_allclose(found[:4], [0.5, -2.0, 1.0, 1.0], atol=1e-12)
    assert "slope 0.5, R² 1.000" in str(found)


def test_equals_the_textbook_with_noise_and_ties():
    rng = np.random.default_rng(1)
    exact = np.round(rng.normal(size=60), 1)
    estimate = np.round(exact + rng.normal(size=60), 1)
    found, line = agreement(estimate, exact), stats.linregress(exact, estimate)
    expected = [line.slope, line.intercept, line.rvalue**2, stats.spearmanr(exact, estimate).statistic]
    np.testing.assert_allclose(found[:4], expected, atol=1e-12)


def test_precision_and_recall_count_the_largest_by_size():
    found = agreement(np.array([9.0, -8.0, 1.0, 0.5]), np.array([0.0, -5.0, 4.0, 1.0]), k=2)
    np.testing.assert_allclose(found.precision, [0, 1 / 2, 2 / 3, 2 / 4])
    np.testing.assert_allclose(found.recall, [0, 1 / 2, 1, 1])


def test_nothing_is_said_of_effects_that_are_all_the_same():
    found = agreement(np.arange(3.0), np.zeros(3), k=1)
    assert np.isnan(found[:4]).all()
    found = agreement(np.zeros(3), np.arange(3.0), k=1)  # an estimator that sees nothing
    assert np.isnan(found.r_squared)


@pytest.mark.parametrize(
    ("estimate", "exact", "k", "words"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), 1, "(2, 3)"),
        (np.zeros(3), np.zeros(3), 4, "k = 4"),
        (np.zeros(1), np.zeros(1), 1, "2 nodes"),
        (np.array([0.0, np.nan]), np.zeros(2), 1, "node 1"),
    ],
)
def test_bad_input_is_named(estimate, exact, k, words):
    with pytest.raises(InputError, match=words.replace("(", r"\(").replace(")", r"\)")):
        agreement(estimate, exact, k)
