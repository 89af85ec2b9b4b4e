"""The effect of clamping: a closed form where the model is flat, and NumPy where positions are mixed after the change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.dictionaries.measures.clamped import Site, clamped, effect, random_direction

B, P, D = 2, 5, 7
COUNTS = jnp.arange(P)[None].repeat(B, 0) > 0


def keys(n, c):
    return jax.random.split(jax.random.key(3), n * c).reshape(n, c)


def flat_model(tokens):
    """Whatever it reads, all tokens are equally likely; the stream is the logits."""
    return taps.tap(jnp.zeros((*tokens.shape, D)), "stream")


def test_a_flat_prediction_moves_as_the_closed_form_says():
    tokens, levels = jnp.zeros((B, P), int), np.array([0.0, 1.0, 3.0], np.float32)
    rows = np.eye(D, dtype=np.float32)[[2, 2, 5]] * 2.0
    f = np.zeros((3, B, P), np.float32)
    site = Site("stream", None, (D,))
    clamp = jax.jit(lambda *x: clamped(flat_model, tokens, COUNTS, site, x, keys(3, 2), 2))
    found = clamp(f, rows, levels)
    e = np.exp(2.0 * levels.astype(np.float64))
    risen = e / (e + D - 1)
    np.testing.assert_allclose(found.kl, np.log((e + D - 1) / D) - 2.0 * levels / D, atol=1e-6)
    np.testing.assert_allclose(found.rise[:, 0], risen - 1 / D, atol=1e-6)
    np.testing.assert_allclose(found.fall[:, 0], (1 - risen) / (D - 1) - 1 / D, atol=1e-6)
    assert found.rise_ids[1:, 0].tolist() == [2, 5] and found.fall_ids[2].tolist() == [0, 1]
    largest = np.zeros((3, 2))
    for i, c in np.ndindex(3, 2):
        u = np.asarray(random_direction(keys(3, 2)[i, c], jnp.asarray(rows[i])), np.float64)
        np.testing.assert_allclose(np.linalg.norm(u), 2.0, rtol=1e-6)
        logits = levels[i] * u
        log_q = logits - np.log(np.exp(logits).sum())
        np.testing.assert_allclose(found.control[i, c], (1 / D * (np.log(1 / D) - log_q)).sum(), atol=1e-6)
        largest[i, c] = np.exp(log_q).max() - 1 / D
    np.testing.assert_allclose(found.control_rise, largest.mean(1), atol=1e-6)


def test_what_is_clamped_acts_through_what_follows_and_only_where_it_counts():
    rng = np.random.default_rng(0)
    E, U = rng.normal(size=(9, D)), rng.normal(size=(D, 9))
    mix = np.tril(np.ones((P, P))) / np.arange(1, P + 1)[:, None]
    model = lambda tokens: (
        jnp.tanh(jnp.asarray(mix, jnp.float32) @ taps.tap(jnp.asarray(E, jnp.float32)[tokens], "s")) @ U
    )
    tokens, row, level = rng.integers(0, 9, (B, P)), rng.normal(size=(1, D)), np.array([1.7])
    f = np.where(rng.random((1, B, P)) < 0.5, 0.9, 0)
    as_floats = [jnp.asarray(x, jnp.float32) for x in (f, row, level)]
    site = Site("s", None, (D,))
    found = jax.jit(lambda *x: clamped(model, jnp.asarray(tokens), COUNTS, site, x, keys(1, 1), 3))(*as_floats)

    def distribution(x):
        logits = np.tanh(mix @ x) @ U
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))

    there = np.asarray(COUNTS)
    change = np.where(there, level - f[0], 0)[..., None] * row
    before, after = distribution(E[tokens]), distribution(E[tokens] + change)
    kl = (np.exp(before) * (before - after)).sum(-1)
    moved = (np.exp(after) - np.exp(before))[there].mean(0)
    np.testing.assert_allclose(found.kl[0], kl[there].mean(), rtol=1e-4)
    np.testing.assert_array_equal(found.rise_ids[0], np.argsort(-moved)[:3])
    np.testing.assert_allclose(found.rise[0], np.sort(moved)[::-1][:3], atol=1e-5)
    np.testing.assert_allclose(found.fall[0], np.sort(moved)[:3], atol=1e-5)


def test_clamped_to_what_it_is_nothing_changes():
    tokens, site = jnp.zeros((B, P), int), Site("stream", None, (D,))
    features = jnp.full((1, B, P), 0.5), jnp.ones((1, D)), jnp.array([0.5])
    found = clamped(flat_model, tokens, COUNTS, site, features, keys(1, 1), 1)
    assert found.kl[0] == found.control[0, 0] == found.rise[0, 0] == 0


def test_positions_that_do_not_count_are_not_compared():
    before = jnp.zeros((1, 2, 3))
    after = before.at[0, 0, 1].set(5.0)
    same = effect(before, after, jnp.array([[False, True]]))
    assert same.kl == 0 and not same.change.any()
    assert effect(before, after, jnp.array([[False, False]])).kl == 0
    one = effect(before, after, jnp.array([[True, False]]))
    assert float(one.kl) == pytest.approx(np.log((np.exp(5) + 2) / 3) - 5 / 3)
