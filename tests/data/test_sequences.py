"""Sequences repeat as they say, and are a function of (seed, step)."""

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax.data.sequences import induction_batch, repeated, repeated_random


def test_the_second_copy_equals_the_first_and_holds_no_end_token():
    tokens = np.asarray(repeated_random(3, 5, batch=50, period=16, d_vocab=8))
    np.testing.assert_array_equal(tokens[:, :16], tokens[:, 16:])
    assert set(tokens.ravel()) == set(range(1, 8))
    np.testing.assert_array_equal(repeated(jnp.array([[1, 2]]), 3), [[1, 2, 1, 2, 1, 2]])


def test_draws_depend_on_seed_and_step_alone():
    draw = jax.jit(lambda seed, step: induction_batch(seed, step, 4, 32, 100))
    a, b, c, again = draw(0, 0), draw(0, 1), draw(1, 0), draw(0, 0)
    np.testing.assert_array_equal(a, again)
    assert (a != b).any() and (a != c).any()


def test_every_row_repeats_with_a_period_of_its_own_and_all_periods_occur():
    tokens = np.asarray(induction_batch(0, 0, batch=400, length=32, d_vocab=100_000))
    periods = [next(p for p in range(1, 33) if (row[p:] == row[:-p]).all()) for row in tokens]
    assert set(periods) == set(range(4, 17))
