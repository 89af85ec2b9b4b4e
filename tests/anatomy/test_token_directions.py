"""Directions of circuits whose singular vectors are known, and their tokens."""

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax.anatomy import head_circuits
from interp_jax.anatomy.factored import Factored
from interp_jax.anatomy.token_directions import strongest_directions
from interp_jax.models.induction_circuit import induction_circuit


def circuit(*terms):
    """Σ s u vᵀ over 6 tokens, from (s, tokens of u, tokens of v), each token with its weight."""
    left, right = np.zeros((6, len(terms))), np.zeros((len(terms), 6))
    for k, (s, u, v) in enumerate(terms):
        for token, weight in u.items():
            left[token, k] = s * weight
        for token, weight in v.items():
            right[k, token] = weight
    return Factored(jnp.asarray(left, jnp.float32), jnp.asarray(right, jnp.float32))


def test_tokens_stand_at_the_ends_of_known_directions():
    known = circuit((2.0, {4: 1.0}, {5: -0.6, 0: 0.8}), (5.0, {0: -0.8, 1: 0.6}, {2: 0.8, 3: -0.6}))
    found = jax.jit(strongest_directions, static_argnums=(1, 2))(known, 2, 2)
    np.testing.assert_allclose(found.values, [5.0, 2.0], rtol=1e-6)
    # the largest number of u is -.8 and is made positive, and v's sign goes with it
    assert found.rows[:, 0].tolist() == [0, 4] and found.columns[:, 0].tolist() == [3, 0]
    np.testing.assert_allclose(found.row_weights[:, 0], [0.8, 1.0], rtol=1e-6)
    np.testing.assert_allclose(found.column_weights[:, 0], [0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(found.row_weights[:, 1], [0.0, 0.0], atol=1e-6)


def test_more_than_there_is_is_not_given():
    found = strongest_directions(circuit((1.0, {0: 1.0}, {1: 1.0})), 4, 9)
    assert found.values.shape == (1,) and found.rows.shape == (1, 6) and found.columns[0, 0] == 1


def test_a_copying_head_has_the_same_tokens_at_both_ends():
    """In the circuit built by hand OV of head 1.0 is 50 times the identity; those of other heads are 0."""
    params, cfg = induction_circuit(d_vocab=6, n_context=10)
    ov = head_circuits.ov_circuit(params, cfg, jnp.array([2, 0]))
    assert ov.shape == (2, 6, 6)
    found = strongest_directions(ov, 3, 6)
    np.testing.assert_allclose(found.values[0, :6], 50, rtol=1e-5)
    np.testing.assert_allclose(found.values[1], 0, atol=1e-5)
    np.testing.assert_allclose(found.row_weights[0], found.column_weights[0], atol=1e-5)
    clear = found.row_weights[0] > 0.05
    np.testing.assert_array_equal(np.where(clear, found.rows[0], -1), np.where(clear, found.columns[0], -1))
