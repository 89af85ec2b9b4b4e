"""Orthonormal columns: orthonormal whatever they are made from, differentiable, nested, uniform at the start, and all there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from interp_jax.patching.alignment import rotations

SHAPES = [(1, 1), (7, 3), (16, 16), (64, 20)]
columns = jax.jit(rotations.columns)  # operation by operation is slow to compile
random_free = jax.jit(rotations.random_free, static_argnums=(1, 2, 3))


def off(R):
    """The largest deviation of RᵀR from the identity."""
    R = np.asarray(R, np.float64)
    return np.abs(R.T @ R - np.eye(R.shape[1])).max()


def drawn(D, K, scale=1.0, dtype=jnp.float32):
    """Free numbers."""
    return scale * jax.random.normal(jax.random.key(D + K), (D, K), dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e3])
def test_columns_are_orthonormal_whatever_the_numbers_are(shape, scale):
    assert off(columns(drawn(*shape, scale))) < 1e-6
    with jax.enable_x64(True):
        assert off(columns(drawn(*shape, scale, jnp.float64))) < 1e-12


def test_numbers_that_would_break_other_ways_do_not_matter():
    """Columns that are nearly equal: nothing to orthogonalise, but reflections do not mind."""
    assert off(columns(jnp.ones((64, 20)) + 1e-6 * drawn(64, 20))) < 1e-5
    with jax.enable_x64(True):
        assert off(columns(1 + 1e-9 * drawn(64, 20, dtype=jnp.float64))) < 1e-12


def test_reflect_is_the_product_of_reflections():
    with jax.enable_x64(True):
        vectors = drawn(6, 5, dtype=jnp.float64)
        product = np.eye(6)
        for v in np.asarray(vectors).T:
            product = product @ (np.eye(6) - 2 * np.outer(v, v) / (v @ v))
        np.testing.assert_allclose(jax.jit(rotations.reflect)(vectors, jnp.eye(6)), product, atol=1e-14)


@pytest.mark.parametrize("K", [1, 2, 3, 5, 8, 13])
def test_inverse_of_a_triangle(K):
    with jax.enable_x64(True):
        upper = np.eye(K) + np.triu(np.random.default_rng(K).normal(size=(K, K)), 1)
        inverse = jax.jit(rotations.inverse_of_unit_triangle)(jnp.asarray(upper))
        np.testing.assert_allclose(inverse @ upper, np.eye(K), atol=1e-10)


@pytest.mark.parametrize("shape", [(5, 1), (6, 3), (5, 5)])
def test_gradients_are_those_of_finite_differences(shape):
    with jax.enable_x64(True):
        free, weights = drawn(*shape, 0.5, jnp.float64), drawn(*shape, dtype=jnp.float64)[::-1]
        value = jax.jit(lambda free: jnp.sum(jnp.sin(weights * columns(free))))
        check_grads(lambda free: value(jnp.asarray(free)), (free,), 1, rtol=1e-6)


def test_zero_is_the_start():
    start = rotations.random_columns(jax.random.key(0), 7, 7)
    np.testing.assert_allclose(columns(jnp.zeros((7, 3))), np.eye(7, 3), atol=1e-7)
    np.testing.assert_allclose(columns(jnp.zeros((7, 3)), start), start[:, :3], atol=1e-6)


def test_the_start_turns_all():
    start, free = rotations.random_columns(jax.random.key(0), 7, 7), drawn(7, 3)
    np.testing.assert_allclose(columns(free, start), start @ columns(free), atol=1e-6)
    assert off(columns(free, start)) < 1e-6


@pytest.mark.parametrize("k", [1, 3, 6])
def test_the_first_columns_do_not_depend_on_the_later_ones(k):
    key = jax.random.key(0)
    with jax.enable_x64(True):
        free, short = (random_free(key, 8, width, jnp.float64) for width in (8, k))
        np.testing.assert_array_equal(free[:, :k], short)
        np.testing.assert_allclose(columns(free)[:, :k], columns(short), atol=1e-14)


def test_numbers_above_the_diagonal_are_unused():
    grads = jax.jit(jax.grad(lambda free: jnp.sum(columns(free) ** 3)))(drawn(6, 4))
    assert (grads[np.triu_indices(6, 0, 4)] == 0).all() and (grads[np.tril_indices(6, -1, 4)] != 0).all()


@pytest.mark.parametrize("K", [1, 3, 7, 8])
def test_every_subspace_has_numbers_of_length_at_most_one(K):
    """Householder's triangularisation of a target, with its choice of sign, gives them."""
    with jax.enable_x64(True):
        target = np.linalg.qr(np.random.default_rng(K).normal(size=(8, K)))[0]
        rest, free = target.copy(), np.zeros((8, K))
        for j in range(K):
            v = rest[j:, j].copy()
            v[0] += np.copysign(np.linalg.norm(v), v[0])
            rest[j:] -= 2 * np.outer(v, v @ rest[j:]) / (v @ v)
            free[j:, j] = v / v[0]
        assert (np.linalg.norm(np.tril(free, -1), axis=0) <= 1 + 1e-12).all()
        assert rotations.principal_angles(target, columns(jnp.asarray(free))).max() < 1e-12


def test_random_columns_are_uniform():
    """But for signs: moments of their elements and of the projector, over 4000 draws, within four standard errors."""
    D, K, n = 5, 2, 4000
    R = jax.jit(jax.vmap(lambda key: rotations.random_columns(key, D, K)))(jax.random.split(jax.random.key(0), n))
    R = np.asarray(R, np.float64)
    projector = np.einsum("nik,njk->nij", R, R)
    assert np.abs(projector.mean(0) - K / D * np.eye(D)).max() < 4 * projector.std(0).max() / n**0.5
    fourth = R**4
    assert np.abs(fourth.mean(0) - 3 / (D * (D + 2))).max() < 4 * fourth.std(0).max() / n**0.5
    crossed = R[:, :1] ** 2 * R[:, 1:] ** 2
    assert np.abs(crossed.mean(0) - 1 / (D * (D + 2))).max() < 4 * crossed.std(0).max() / n**0.5


def test_batched_columns_are_the_single_ones_and_call_no_library():
    free = jnp.stack([drawn(7, 3, scale) for scale in (0.1, 1.0, 5.0)])
    batched = jax.jit(jax.vmap(rotations.columns))(free)
    for i in range(3):
        np.testing.assert_allclose(batched[i], columns(free[i]), atol=1e-6)
    loss = lambda free: jnp.sum(rotations.columns(free) ** 3)
    assert "custom_call" not in jax.jit(jax.vmap(jax.grad(loss))).lower(free).as_text()


def test_principal_angles():
    angles = np.array([1.2, 1e-9, 0.0])
    a = np.eye(6, 3)
    b = np.zeros((6, 3))
    b[:3, :3], b[3:, :3] = np.diag(np.cos(angles)), np.diag(np.sin(angles))
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    np.testing.assert_allclose(rotations.principal_angles(a, b @ turn), [1.2, 1e-9, 0.0], atol=1e-13)
    np.testing.assert_allclose(rotations.principal_angles(a[:, :1], b), [1.2], atol=1e-12)


def test_shared_dimensions_are_the_squared_cosines_of_the_angles_and_k_n_over_d_by_chance():
    rng = np.random.default_rng(1)
    spans = lambda K: np.linalg.qr(rng.normal(size=(9, K)))[0]
    a, b = spans(2), spans(4)
    cosines = np.cos(rotations.principal_angles(a, b))
    assert rotations.shared_dimensions(a, b) == pytest.approx((cosines**2).sum(), abs=1e-12)
    assert rotations.shared_dimensions(a, np.eye(9)) == pytest.approx(2, abs=1e-12)
    drawn = np.array([rotations.shared_dimensions(a, spans(4)) for _ in range(400)])
    assert abs(drawn.mean() - 2 * 4 / 9) < 4 * drawn.std() / 20
