"""Curves over positions, on losses whose answer is known."""

import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.anatomy import text_curves


def test_the_score_is_late_minus_early():
    losses = jnp.tile(jnp.arange(100.0)[None], (3, 1))  # l[p] = p: early 20..29, late 90..99
    assert float(text_curves.in_context_score(losses)) == pytest.approx(94.5 - 24.5)
    assert float(text_curves.in_context_score(-losses)) == pytest.approx(-70)


@pytest.mark.parametrize("n", [5, 8, 33, 256])
def test_places_never_overlap(n):
    early, late = text_curves.places(n)
    assert 0 <= early.start < early.stop <= late.start < late.stop == n


def test_most_improved_come_first_one_per_window_and_name_the_predicted_token():
    before = jnp.array([[3.0, 2.0, 5.0], [1.0, 4.0, 4.0], [1.0, 1.0, 1.0]])
    after = jnp.array([[1.0, 2.5, 4.0], [1.0, 0.5, 2.0], [0.9, 1.0, 1.0]])
    best = text_curves.most_improved(before, after, 2)
    np.testing.assert_array_equal(best.window, [1, 0])
    np.testing.assert_array_equal(best.position, [2, 1])
    np.testing.assert_array_equal(best.before - best.after, [3.5, 2.0])
