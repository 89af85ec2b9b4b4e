"""Metrics by their definitions, in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.patching import metrics

LOGITS = np.random.default_rng(0).normal(size=(3, 7))
ANSWERS, OTHERS = np.array([[1, 2], [3, -1], [0, 6]]), np.array([[0], [5], [4]])
P = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
TOTAL = np.array([P[i, [a for a in row if a >= 0]].sum() for i, row in enumerate(ANSWERS)])
MEAN = np.array([LOGITS[i, [a for a in row if a >= 0]].mean() for i, row in enumerate(ANSWERS)])
REFERENCE = np.random.default_rng(1).normal(size=(3, 7))
Q = np.exp(REFERENCE) / np.exp(REFERENCE).sum(1, keepdims=True)


def rows(logits, data):
    return logits[:, 0] * data


EXPECTED = {
    "logit difference": (metrics.logit_difference(ANSWERS, OTHERS), MEAN - LOGITS[range(3), OTHERS[:, 0]]),
    "probability": (metrics.probability(ANSWERS), TOTAL),
    "probability difference": (metrics.probability_difference(ANSWERS, OTHERS), TOTAL - P[range(3), OTHERS[:, 0]]),
    "log probability": (metrics.log_probability(ANSWERS), np.log(TOTAL)),
    "loss": (metrics.loss(ANSWERS), -np.log(TOTAL)),
    "KL divergence": (metrics.kl(REFERENCE), (Q * (np.log(Q) - np.log(P))).sum(1)),
    "rank": (metrics.rank(ANSWERS), (LOGITS > LOGITS[range(3), ANSWERS[:, 0]][:, None]).sum(1)),
    "rows": (metrics.custom("rows", rows, jnp.arange(3.0)), LOGITS[:, 0] * np.arange(3)),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_by_definition(name):
    metric, want = EXPECTED[name]
    assert metric.name == name
    assert np.allclose(metric.of(jnp.asarray(LOGITS, jnp.float32)), want, atol=1e-5)
    some = jax.tree.map(lambda x: x[1:2], metric)
    assert np.allclose(some.of(jnp.asarray(LOGITS[1:2], jnp.float32)), want[1:2], atol=1e-5)


def test_gradients_are_finite_with_sets_of_unequal_size():
    for metric, _ in EXPECTED.values():
        gradient = jax.grad(lambda x, metric=metric: metric.of(x).sum())(jnp.asarray(LOGITS, jnp.float32))
        assert np.isfinite(gradient).all()


def test_normalised_divides_means():
    clean, corrupted = jnp.array([2.0, 4.0]), jnp.array([0.0, 0.0])
    values = jnp.array([[0.0, 0.0], [2.0, 4.0], [0.0, 3.0]])
    assert np.allclose(metrics.normalised(values, corrupted, clean), [0, 1, 0.5])
    with pytest.raises(InputError, match="no effect to restore"):
        metrics.normalised(values, clean, clean)


@pytest.mark.parametrize("bad", [np.array([1, 7, 2]), np.array([1, -2, 2]), np.array([1, -1, 2])])
def test_a_token_that_is_none(bad):
    for metric in (metrics.probability(bad), metrics.rank(bad)):
        with pytest.raises(InputError, match="of example 1: ids go from 0 to 6"):
            metrics.check_tokens(metric, 7)


def test_other_numbers_of_examples():
    with pytest.raises(InputError, match="given for 3 examples, others for 2"):
        metrics.logit_difference(np.arange(3), np.arange(2))
