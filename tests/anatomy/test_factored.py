"""Factored matrices against NumPy on the dense ones, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.anatomy import factored
from interp_jax.anatomy.factored import Factored


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def random_matrix(*shape, rank):
    rng = np.random.default_rng(sum(shape) + rank)
    *batch, rows, columns = shape
    return Factored(
        jnp.asarray(rng.normal(size=(*batch, rows, rank))), jnp.asarray(rng.normal(size=(*batch, rank, columns)))
    )


def numbers(matrix):
    return np.asarray(matrix.left) @ np.asarray(matrix.right)


def assert_equal(got, expected):
    np.testing.assert_allclose(got, expected, atol=1e-12 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize(("rows", "columns", "rank"), [(9, 7, 3), (4, 8, 5)])
def test_svd_is_that_of_the_dense_matrix(rows, columns, rank):
    """The second is wider than its factor is long: its rank is that of its rows."""
    matrix = random_matrix(2, 3, rows, columns, rank=rank)
    U, S, Vh = jax.jit(factored.svd)(matrix)
    n = min(rank, rows)
    assert_equal(S, np.linalg.svd(numbers(matrix), compute_uv=False)[..., :n])
    assert_equal((U * S[..., None, :]) @ Vh, numbers(matrix))
    assert_equal(U.mT @ U, np.broadcast_to(np.eye(n), (2, 3, n, n)))
    assert_equal(Vh @ Vh.mT, np.broadcast_to(np.eye(n), (2, 3, n, n)))


def test_eigenvalues_are_those_of_the_dense_matrix_but_for_zeros():
    matrix = random_matrix(2, 8, 8, rank=3)
    got = np.sort_complex(np.asarray(jax.jit(factored.eigenvalues)(matrix)))
    for batch in range(2):
        everything = np.linalg.eigvals(numbers(matrix)[batch])
        largest = everything[np.argsort(-np.abs(everything))]
        assert np.abs(largest[3:]).max() < 1e-12
        assert_equal(got[batch], np.sort_complex(largest[:3]))


def test_norm_trace_and_corner():
    matrix = random_matrix(2, 8, 8, rank=3)
    assert_equal(factored.norm(matrix), np.linalg.norm(numbers(matrix), axis=(-2, -1)))
    assert_equal(factored.trace(matrix), np.trace(numbers(matrix), axis1=-2, axis2=-1))
    assert_equal(factored.corner(matrix, 2), numbers(matrix)[:, :2, :2])
    assert_equal(factored.dense(matrix), numbers(matrix))


def test_products_stay_factored_and_keep_the_smaller_rank():
    a, b = random_matrix(2, 6, 5, rank=2), random_matrix(2, 5, 7, rank=4)
    for product in (a @ b, (b.T @ a.T).T):
        assert product.left.shape[-1] == 2
        assert_equal(numbers(product), numbers(a) @ numbers(b))
    x, y = np.random.default_rng(0).normal(size=(3, 6)), np.random.default_rng(1).normal(size=(5, 4))
    for left, right in ((x, y), (jnp.asarray(x), jnp.asarray(y))):
        product = left @ a @ right
        assert isinstance(product, Factored) and product.shape == (2, 3, 4)
        assert_equal(numbers(product), x @ numbers(a) @ y)
    assert_equal(numbers(a[1]), numbers(a)[1])


def test_a_batch_by_vmap_is_the_batch():
    matrix = random_matrix(4, 6, 6, rank=2)
    assert_equal(jax.vmap(factored.norm)(matrix), np.asarray(factored.norm(matrix)))
    doubled = jax.vmap(lambda m: m @ m)(matrix)
    assert_equal(numbers(doubled), numbers(matrix) @ numbers(matrix))


def test_positive_share():
    values = jnp.array([[1.0, 2.0], [-1.0, -3.0], [3j, -3j], [0.0, 0.0], [3.0, -1.0]], complex)
    np.testing.assert_allclose(factored.positive_share(values), [1, -1, 0, 0, 0.5])
