"""Scores of a probe: counted by hand."""

import jax.numpy as jnp
import numpy as np

from interp_jax.probes.linear import Linear, predict, scored


def test_scores_are_of_one_output_or_of_several():
    probe = Linear(jnp.array([[1.0, 2.0], [0.0, -1.0], [3.0, 0.0]]), jnp.array([0.0, 1.0, -1.0]))
    x = jnp.array([[1.0, 1.0], [2.0, 0.0]])
    np.testing.assert_allclose(predict(probe, x).T, [[3, 2], [0, 1], [2, 5]])
    np.testing.assert_allclose(predict(Linear(probe.weights[0], probe.bias[0]), x), [3, 2])


def test_scores_are_counts():
    """Of eight examples four are there; three are said, two of them rightly. And: nothing is said, nothing is there."""
    there = jnp.array([[1, 1, 1, 1, 0, 0, 0, 0], [1] * 8, [0] * 8], bool)
    said = jnp.array([[1, 1, 0, 0, 1, 0, 0, 0], [0] * 8, [0] * 8], bool)
    got = scored(said, there)
    np.testing.assert_allclose(got.accuracy, [5 / 8, 0, 1])
    np.testing.assert_allclose(got.precision, [2 / 3, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(got.recall, [1 / 2, 0, 0])
    np.testing.assert_allclose(got.f1, [4 / 7, 0, 0], rtol=1e-6)


def test_weights_are_repetitions():
    rng = np.random.default_rng(0)
    there, said, n = rng.random((3, 20)) < 0.4, rng.random((3, 20)) < 0.5, rng.integers(0, 4, 20)
    want = scored(jnp.array(np.repeat(said, n, 1)), jnp.array(np.repeat(there, n, 1)))
    got = scored(jnp.array(said), jnp.array(there), jnp.array(n, jnp.float32))
    np.testing.assert_allclose(got, want, rtol=1e-5)
