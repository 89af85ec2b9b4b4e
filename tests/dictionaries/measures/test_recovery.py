"""What is recovered: known permutations, duplicates, detectors with known errors; and the assignment by trying all."""

import itertools

import jax.numpy as jnp
import numpy as np

from interp_jax.dictionaries.measures.recovery import (
    Detections,
    cosines,
    detect,
    detected,
    found_directions,
)

RNG = np.random.default_rng(0)


def test_true_features_in_any_order_sign_and_length_are_all_found():
    directions = jnp.float32(RNG.normal(size=(12, 6)))
    order = RNG.permutation(12)
    W = directions[order] * RNG.choice([-3, 0.1, 2], (12, 1)).astype(np.float32)
    np.testing.assert_array_equal(cosines(W, directions).argmax(1), order)
    np.testing.assert_allclose(found_directions(cosines(W, directions)), (1, 1, 1), atol=1e-6)


def test_a_feature_that_is_there_twice_is_counted_once():
    """Four features, of which two are the same: one of the pair takes what is left, which is orthogonal to it."""
    W, directions = jnp.eye(4)[jnp.array([0, 1, 2, 2])], jnp.eye(4)
    np.testing.assert_allclose(found_directions(cosines(W, directions)), (3 / 4, 3 / 4, 3 / 4), atol=1e-6)


def test_the_assignment_is_the_best_of_all():
    C = RNG.uniform(size=(4, 6))
    best = max(np.mean([C[i, j] for i, j in enumerate(order)]) for order in itertools.permutations(range(6), 4))
    assert abs(found_directions(C).mcc - best) < 1e-12


def test_detectors_are_scored_on_their_matches():
    """Feature 0 is right; 1 fires on half of its match's examples; 2 fires twice as often; 3 never does."""
    coefficients = np.zeros((8, 3), np.float32)
    coefficients[:4, 0] = coefficients[:4, 1] = coefficients[:4, 2] = 1.5
    f = np.zeros((8, 4), np.float32)
    f[:4, 0], f[:2, 1], f[:, 2] = 2, -2, 1
    counts = detect(jnp.array(f), jnp.array(coefficients), jnp.array([0, 1, 2, 0]))
    got = detected(counts)
    np.testing.assert_allclose(got, (np.mean([1, 1, 0.5, 0]), np.mean([1, 0.5, 1, 0]), np.mean([1, 2 / 3, 2 / 3, 0])))
    twice = Detections(*(np.stack([x, x]) for x in counts))
    np.testing.assert_allclose(detected(twice, np.array([0, 1])).f1, (got.f1, 1))
