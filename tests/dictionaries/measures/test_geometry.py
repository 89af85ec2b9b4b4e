"""Geometry of rows: against all cosines at once in float64, SciPy's single linkage, and shapes whose dimension is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage

from interp_jax.dictionaries.measures.geometry import clusters, effective_dimension, histogram, nearest, plane
from interp_jax.errors import InputError

RNG = np.random.default_rng(0)
W = RNG.normal(size=(37, 5))
UNIT = W / np.linalg.norm(W, axis=1, keepdims=True)


@pytest.mark.parametrize("block", [8, 37, 100])
def test_neighbours_are_those_of_all_cosines(block):
    C = UNIT @ UNIT.T - 2 * np.eye(37)
    got = nearest(jnp.float32(W), block=block)
    np.testing.assert_array_equal(got.feature[:, 0], C.argmax(1))
    np.testing.assert_allclose(got.cosine[:, 0], C.max(1), atol=1e-6)
    other = RNG.normal(size=(11, 5))
    C = UNIT @ (other / np.linalg.norm(other, axis=1, keepdims=True)).T
    got = nearest(jnp.float32(W), others=jnp.float32(other), block=block)
    np.testing.assert_array_equal(got.feature[:, 0], C.argmax(1))
    np.testing.assert_allclose(got.cosine[:, 0], C.max(1), atol=1e-6)


def test_cosines_are_never_all_there_at_once():
    """Of 4,096 rows all cosines are 64 MiB; by blocks of 256 the program holds a sixteenth of that."""
    compiled = jax.jit(lambda W: nearest(W, block=256)).lower(jax.ShapeDtypeStruct((4_096, 8), jnp.float32)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 16 * 2**20


def test_opposite_rows_and_rows_of_zeros_are_near_to_nothing():
    got = nearest(jnp.array([[1.0, 0, 0], [-2, 0, 0], [0, 0, 0], [0, 3, 0], [0, 1, 1]]))
    np.testing.assert_allclose(got.cosine[:, 0], [0, 0, 0, 0.5**0.5, 0.5**0.5], atol=1e-6)


def test_several_neighbours_are_those_of_the_whole_matrix():
    """Among rows in use; ties by the first."""
    rng = np.random.default_rng(0)
    W = rng.normal(size=(20, 5))
    W[7], W[11], W[19] = 3 * W[2], W[2], 0
    used = np.arange(20) != 4
    found = nearest(jnp.float32(W), 3, used=jnp.asarray(used))
    unit = W / np.maximum(np.linalg.norm(W, axis=1), 1e-12)[:, None]
    C = unit @ unit.T
    C[:, 4] = -np.inf
    np.fill_diagonal(C, -np.inf)
    for i in np.flatnonzero(used):
        np.testing.assert_allclose(found.cosine[i], -np.sort(-C[i])[:3], atol=1e-6)
        np.testing.assert_allclose(C[i, np.asarray(found.feature[i])], found.cosine[i], atol=1e-6)
    assert list(found.feature[7][:2]) == [2, 11]
    assert not np.isin(4, found.feature)
    few = nearest(jnp.eye(4), 3, used=jnp.array([True, True, False, False]))
    assert few.feature[0].tolist() == [1, -1, -1] and few.cosine[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("least", [0.6, 0.9])
def test_clusters_are_single_linkage(least):
    got = clusters(jnp.float32(W), least, block=10)
    want = fcluster(linkage(UNIT, "single", "cosine"), 1 - least, "distance")
    same = lambda label: label[:, None] == label
    np.testing.assert_array_equal(same(got.of_row), same(want))
    np.testing.assert_array_equal(got.sizes, np.bincount(got.of_row))
    assert (np.diff(got.sizes) <= 0).all() and got.sizes.sum() == 37 and got.sizes[0] > 1


def test_planted_families_are_clusters():
    """Five families of rows that are near to a centre each, the centres orthogonal."""
    centre = np.repeat(np.eye(5, 8), [6, 5, 4, 3, 2], axis=0)
    order = RNG.permutation(20)
    got = clusters(jnp.float32(centre + 0.1 * RNG.normal(size=centre.shape))[order], 0.7)
    np.testing.assert_array_equal(got.sizes, [6, 5, 4, 3, 2])
    np.testing.assert_array_equal(got.of_row, centre.argmax(1)[order])
    with pytest.raises(InputError, match="least = 1.5"):
        clusters(jnp.float32(W), 1.5)


def test_the_plane_is_that_of_the_singular_vectors():
    got, centred = plane(jnp.float32(W)), UNIT - UNIT.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    want = u[:, :2] * s[:2]
    np.testing.assert_allclose(np.abs(got.points), np.abs(want), atol=1e-5)
    np.testing.assert_allclose(got.points @ got.points.T, want @ want.T, atol=1e-5)
    np.testing.assert_allclose(got.shares, s[:2] ** 2 / (s**2).sum(), atol=1e-6)


def test_dimensions_that_rows_fill():
    eye = jnp.eye(6)
    assert effective_dimension(eye) == pytest.approx(6) and effective_dimension(-3 * eye[:4]) == pytest.approx(4)
    assert effective_dimension(jnp.tile(eye[:1], (5, 1)) * 2) == pytest.approx(1)
    values = np.linalg.eigvalsh(UNIT.T @ UNIT)
    assert effective_dimension(jnp.float32(W)) == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-5)


def test_the_histogram_has_every_row():
    counts, edges = histogram(np.array([-1.0, 0.05, 0.05, 1.0 + 1e-7]), 20)
    assert counts.sum() == 4 and counts[[0, 10, 19]].tolist() == [1, 2, 1] and len(edges) == 21
