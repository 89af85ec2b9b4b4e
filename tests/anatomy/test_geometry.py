"""Dimensionality of regular polytopes, which is known exactly."""

import numpy as np
import pytest

from interp_jax.anatomy.geometry import (
    POLYTOPES,
    dimensions_per_feature,
    feature_dimensionality,
    gram,
    interference,
    represented,
)


def polygon(n):
    angle = 2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def antiprism():
    height = 1 / np.sqrt(3)  # the height at which all directions are covered alike: 8 h² = 8 (1 − h²) / 2
    flat = np.sqrt(1 - height**2)
    turned = [np.pi / 2 * np.arange(4), np.pi / 2 * np.arange(4) + np.pi / 4]
    return np.concatenate(
        [
            np.stack([flat * np.cos(a), flat * np.sin(a), np.full(4, h)], 1)
            for a, h in zip(turned, (height, -height), strict=True)
        ]
    )


SHAPES = {
    "alone": np.eye(3),
    "antipodal pair": np.array([[1.0], [-1.0]]),
    "triangle": polygon(3),
    "pentagon": polygon(5),
    "tetrahedron": np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3),
    "square antiprism": antiprism(),
}


@pytest.mark.parametrize("shape", POLYTOPES)
@pytest.mark.parametrize("size", [1.0, 0.7])
def test_polytopes(shape, size):
    W = (size * SHAPES[shape]).astype(np.float32)
    np.testing.assert_allclose(feature_dimensionality(W), POLYTOPES[shape], rtol=1e-5)
    np.testing.assert_allclose(dimensions_per_feature(W), W.shape[1] / len(W) / size**2, rtol=1e-5)


def test_dimensionalities_add_up_to_the_rank():
    """For a tight frame Σ D_i = m; polytopes in orthogonal subspaces each fill their own."""
    W = np.zeros((9, 5), np.float32)
    W[:5, :2], W[5:, 2:] = polygon(5), SHAPES["tetrahedron"]
    np.testing.assert_allclose(np.asarray(feature_dimensionality(W)).sum(), 5.0, rtol=1e-5)


def test_features_of_zero_norm_have_no_dimension():
    W = np.array([[1.0, 0.0], [0.0, 0.0]], np.float32)
    np.testing.assert_array_equal(feature_dimensionality(W), [1, 0])
    np.testing.assert_array_equal(interference(W), [0, 0])
    np.testing.assert_array_equal(represented(W), [True, False])


def test_population_axes_and_definition():
    W = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)
    unit = W / np.linalg.norm(W, axis=-1, keepdims=True)
    overlap = np.einsum("rid,rjd->rij", unit, W) ** 2
    np.testing.assert_allclose(feature_dimensionality(W), (W**2).sum(-1) / overlap.sum(-1), rtol=1e-4)
    np.testing.assert_allclose(interference(W), overlap.sum(-1) - (W**2).sum(-1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(gram(W)[2], W[2] @ W[2].T, rtol=1e-5, atol=1e-6)
