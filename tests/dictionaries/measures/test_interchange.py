"""Attributes that are moved: apart, entangled, and by half of their features."""

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax.data.planted_dictionaries import attribute_reader, attributes
from interp_jax.dictionaries.measures.interchange import Interchanged, Valued, by_variance, interchange, variances

A, V, N = 2, 3, 600


def planted(entangled):
    common, *each = jax.random.split(jax.random.key(3), 3)
    made = [attributes(jnp.stack([common, key]), N, A, V, entangled, noise=0.05) for key in each]
    base, source = (Valued(one.x, one.f, one.labels) for one, _ in made)
    W_dec, directions = made[0][0].W_dec, made[0][1]
    return base, source, W_dec, lambda x: attribute_reader(directions, x)


def test_features_of_their_own_are_moved_one_by_one():
    base, source, W_dec, read = planted(False)
    np.testing.assert_array_equal(read(base.x), base.values)
    chosen = by_variance(base, W_dec, V, V, most=4)
    np.testing.assert_array_equal(chosen, np.kron(np.eye(A), np.ones(V)))
    got = interchange(read, base, source, W_dec, chosen)
    np.testing.assert_allclose((got.cause, got.isolation, got.disentangle), 1, atol=0.01)
    one = by_variance(base, W_dec, V, 1, most=4)  # k is traced: a smaller one masks
    assert one.sum() == A and (~chosen & one).sum() == 0
    assert (interchange(read, base, source, W_dec, one).cause < 0.9).all()


def test_features_of_combinations_move_all_or_nothing():
    base, source, W_dec, read = planted(True)
    everything = jnp.ones((A, V**A), bool)
    for masks, want in ((everything, (1, 0)), (~everything, (0, 1))):
        got = interchange(read, base, source, W_dec, masks)
        np.testing.assert_allclose((got.cause, got.isolation), np.outer(want, np.ones(A)), atol=0.01)
        np.testing.assert_allclose(got.disentangle, 0.5, atol=0.01)


def test_scores_are_shares_of_pairs_that_differ():
    """By loops; attribute 1 never differs, so nothing can be said of it, nor of isolation from it."""
    base, source, W_dec, read = planted(False)
    source = source._replace(values=source.values.at[1].set(base.values[1]))
    masks = jnp.array(np.random.default_rng(0).random((A, A * V)) < 0.5)
    got = interchange(read, base, source, W_dec, masks)
    differ = np.flatnonzero(base.values[0] != source.values[0])
    x = np.asarray(base.x) + np.where(masks[0], np.asarray(source.f - base.f), 0) @ np.asarray(W_dec)
    said = np.asarray(read(jnp.array(x)))[0]
    np.testing.assert_allclose(got.cause[0], np.mean([said[n] == source.values[0, n] for n in differ]), atol=1e-6)
    assert np.isnan(got.cause[1]) and np.isnan(got.isolation[0]) and isinstance(got, Interchanged)


def test_variances_of_means():
    rng = np.random.default_rng(0)
    f, values = rng.normal(size=(50, 4)), rng.integers(0, 3, (2, 50))
    data = Valued(jnp.zeros((50, 1)), jnp.float32(f), jnp.array(values))
    means = [np.stack([f[v == u].mean(0) for u in range(3)])[v] for v in values]
    np.testing.assert_allclose(variances(data, 3), [m.var(0) for m in means], atol=1e-5)
