"""Rows that are sums of known parts are taken apart into these; rows at random are not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.data.planted_dictionaries import composed, orthonormal
from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.measures.meta import Meta, meta_dictionaries
from interp_jax.dictionaries.measures.recovery import cosines
from interp_jax.errors import InputError
from interp_jax.train.optimizer import Optimizer

N_PARTS, MOST, D = 16, 3, 24
META = Meta(
    steps=500,
    batch_size=128,
    dictionary=Dictionary(kind="batch_topk", d_in=D, n_features=D, most=2, k=2, dead_after=5_000),
    optimizer=Optimizer(learning_rate=1e-2, decay="cosine"),
)


def test_composed_features_are_taken_apart():
    key = jax.random.key(0)
    rows, of = composed(key, 256, N_PARTS, MOST, D)
    assert set(of.sum(1).tolist()) == {1, 2, 3}
    np.testing.assert_allclose(jnp.linalg.norm(rows, axis=1), 1, atol=1e-5)
    members = [dataclasses.replace(META, seed=seed) for seed in range(2)]
    got = meta_dictionaries(7 * rows, members)  # lengths say nothing
    for i in range(2):
        C = cosines(got.params["W_dec"][i], orthonormal(key, N_PARTS, D))
        assert C.max(0).min() > 0.98
        taken_apart = (got.f[i][:, np.asarray(C.argmax(0))] > 0) == of
        assert taken_apart.mean() > 0.98
    assert (got.fidelity.explained_variance > 0.97).all()
    np.testing.assert_allclose(got.fidelity.l0, of.sum(1).mean(), atol=0.1)
    params = jax.tree.map(lambda x: jnp.array(x[0]), got.params)
    said, _ = dictionary.reconstruct(params, rows, META.dictionary)
    rows, said = np.asarray(rows, np.float64), np.asarray(said, np.float64)
    want = 1 - np.square(rows - said).sum() / np.square(rows - rows.mean(0)).sum()
    np.testing.assert_allclose(got.fidelity.explained_variance[0], want, atol=1e-5)
    noise = meta_dictionaries(jax.random.normal(key, rows.shape), members)  # the same program
    assert (noise.fidelity.explained_variance < 0.6).all()


def test_members_are_one_program_of_the_rows_width():
    rows = jnp.ones((4, D + 1))
    with pytest.raises(InputError, match="d_in = 24: rows have width 25"):
        meta_dictionaries(rows, [META])
    with pytest.raises(InputError, match="equal static fields"):
        meta_dictionaries(rows, [META, dataclasses.replace(META, steps=5)])
