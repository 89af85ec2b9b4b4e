"""k-sparse probes: the planted columns are chosen, best first; k of a mask is k; refit against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from interp_jax.probes import k_sparse

RNG = np.random.default_rng(0)
Y = RNG.random(300) < 0.4
X = RNG.normal(size=(300, 40))
X[:, 7] += 2 * Y
X[:, 21] -= 1.7 * Y
W = np.where(np.arange(300) < 250, RNG.integers(1, 3, 300), 0).astype(float)  # the last 50 are held out


def test_the_planted_columns_come_first_and_the_refit_is_the_minimum():
    fits = jax.jit(jax.vmap(lambda k: k_sparse.fit(jax.random.key(0), *map(jnp.float32, (X, Y, W)),
                                                   k_sparse.Hypers(k, 0.5), most=4)))  # fmt: skip
    got = fits(jnp.array([1, 2, 4]))
    difference = np.average(X[Y], 0, W[Y]) - np.average(X[~Y], 0, W[~Y])
    np.testing.assert_array_equal(got.columns, 3 * [np.argsort(-np.abs(difference))[:4].tolist()])
    assert got.columns[0, :2].tolist() == [7, 21] and got.convergence.converged.all()
    np.testing.assert_array_equal(got.weights != 0, [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]])

    def loss(v, rows=X[:, [7, 21]]):
        z = rows @ v[:2] + v[2]
        return (W * (np.logaddexp(0, z) - Y * z)).sum() + 0.25 * (v[:2] ** 2).sum()

    want = scipy.optimize.minimize(loss, np.zeros(3), options={"gtol": 1e-8}).x
    np.testing.assert_allclose(np.r_[got.weights[1, :2], got.bias[1]], want, atol=2e-3)
    one = jax.tree.map(lambda part: part[1], got)
    np.testing.assert_allclose(k_sparse.predict(one, jnp.float32(X)), X[:, [7, 21]] @ want[:2] + want[2], atol=1e-2)
    accuracy = [((k_sparse.predict(jax.tree.map(lambda a, i=i: a[i], got), jnp.float32(X[250:])) > 0) == Y[250:]).mean()
                for i in range(2)]  # fmt: skip
    assert accuracy[1] > accuracy[0] > 0.8


def test_held_out_examples_do_not_matter_and_one_class_differs_in_nothing():
    other = X.copy()
    other[250:] = 100 * RNG.normal(size=(50, 40))
    a, b = (k_sparse.mean_difference(*map(jnp.float32, (x, Y, W))) for x in (X, other))
    np.testing.assert_array_equal(a, b)
    assert (k_sparse.mean_difference(jnp.float32(X), jnp.zeros(300), jnp.float32(W)) == 0).all()
