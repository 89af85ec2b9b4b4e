"""Products of few features equal the dense ones, and so do their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.dictionaries import sparse
from interp_jax.dictionaries.encoders import norms, pre_activations, unit_rows, without_parallel
from interp_jax.dictionaries.sparse import Entries

B, D, F, K = 6, 5, 11, 3


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    x, W = rng.normal(size=(B, D)), rng.normal(size=(F, D))
    feature = np.stack([rng.permutation(F)[:K] for _ in range(B)], 1)
    values = rng.normal(size=(K, B)) * (rng.random((K, B)) < 0.8)
    row = rng.permutation(np.repeat(np.arange(B), K)).reshape(K, B)
    return x, W, values, feature, row


@pytest.mark.parametrize("rows", [False, True])
def test_decoding_and_its_gradient(rows):
    with jax.enable_x64(True):
        _, W, values, feature, row = map(jnp.asarray, arrays())
        row = row if rows else None
        g = jnp.asarray(np.random.default_rng(1).normal(size=(B, D)))
        few = lambda values, W: (sparse.decode(Entries(values, feature, row), W) * g).sum()
        all_of_them = lambda values, W: ((sparse.dense(Entries(values, feature, row), F) @ W) * g).sum()
        for got, want in zip(*(jax.grad(f, (0, 1))(values, W) for f in (few, all_of_them)), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-12)
        np.testing.assert_allclose(few(values, W), all_of_them(values, W), atol=1e-12)


@pytest.mark.parametrize("rows", [False, True])
def test_chosen_entries_have_the_gradient_of_the_whole_product(rows):
    with jax.enable_x64(True):
        x, W, values, feature, row = map(jnp.asarray, arrays())
        row = row if rows else None
        b_dec, b_enc, weight = x[0] * 0.3, W[:, 0] * 0.2, values + 1.0
        where = jnp.arange(B)[None] if row is None else row

        def chosen(x, b_dec, W, b_enc):
            z = jax.lax.stop_gradient(pre_activations(x, b_dec, W, b_enc))
            entries = sparse.attach(z[where, feature], feature, row, x, b_dec, W, b_enc)
            return (entries.values * weight).sum()

        def whole(x, b_dec, W, b_enc):
            return ((((x - b_dec) @ W.T + b_enc)[where, feature]) * weight).sum()

        arguments = (x, b_dec, W, b_enc)
        for got, want in zip(*(jax.grad(f, (0, 1, 2, 3))(*arguments) for f in (chosen, whole)), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-12)


def test_the_encoders_gradient():
    with jax.enable_x64(True):
        x, W, *_ = map(jnp.asarray, arrays())
        arguments = (x, x[1], W, W[:, 1])
        ours = lambda *a: jnp.sin(pre_activations(*a)).sum()
        plain = lambda x, b_dec, W, b: jnp.sin((x - b_dec) @ W.T + b).sum()
        for got, want in zip(*(jax.grad(f, (0, 1, 2, 3))(*arguments) for f in (ours, plain)), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-12)


def test_counts_and_rows():
    _, W, values, feature, row = arrays()
    matrix = np.zeros((B, F))
    for j in range(K):
        for b in range(B):
            matrix[row[j, b], feature[j, b]] += values[j, b]
    entries = Entries(jnp.asarray(values), jnp.asarray(feature), jnp.asarray(row))
    np.testing.assert_allclose(sparse.dense(entries, F), matrix, atol=1e-6)
    counts = [((feature == f) & (values != 0)).sum() for f in range(F)]
    np.testing.assert_array_equal(sparse.fired(entries, F), counts)
    unit = unit_rows(jnp.asarray(W))
    np.testing.assert_allclose(norms(unit), 1, rtol=1e-6)
    left = without_parallel(jnp.asarray(W) + 1.0, unit)
    np.testing.assert_allclose((left * unit).sum(1), 0, atol=1e-5)


@pytest.mark.parametrize("n", [6, 48, 192], ids=["at once", "in three pieces", "in pieces of 64"])
def test_entries_are_added_to_their_features(n):
    rng = np.random.default_rng(n)
    x, values, feature = rng.normal(size=(n, D)), rng.normal(size=(K, n)), rng.integers(0, F, (K, n))
    want = np.zeros((F, D))
    np.add.at(want, feature, values[:, :, None] * x)
    with jax.enable_x64(True):
        got = sparse.scatter(jnp.asarray(values), jnp.asarray(feature), None, jnp.asarray(x), (F, D))
    np.testing.assert_allclose(got, want, atol=1e-12)
