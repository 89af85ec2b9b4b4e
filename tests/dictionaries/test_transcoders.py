"""Transcoders, skip transcoders and crosscoders: losses and gradients of the oracle, with what they read and say told apart."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.judged import Batch
from interp_jax.dictionaries.parameters import lengths
from tests.dictionaries import oracle
from tests.dictionaries.cases import PLAIN, PROGRESS, SHAPE, B, made, named, situation
from tests.dictionaries.gradients import check_gradients

WIDE = SHAPE | {"d_out": 4}
TRANSCODERS = [Dictionary(kind=kind, **WIDE) for kind in PLAIN if kind != "matching_pursuit"]


def transcoder(case, seed=0):
    params, x = made(case, seed)
    return params, Batch(x, jnp.asarray(np.random.default_rng(9).normal(size=(B, case.d_out))))


@pytest.mark.parametrize("case", TRANSCODERS, ids=named)
def test_transcoders_read_one_thing_and_say_another(case):
    """Loss and gradients of the oracle, with nothing taken off what is read."""
    with jax.enable_x64(True):
        case = dataclasses.replace(case, bandwidth=1.5, first_threshold=0.4)
        params, batch = transcoder(case)
        judged = dictionary.loss(params, batch, case, situation())
        p, x, y = jax.tree.map(np.asarray, params), np.asarray(batch.x), np.asarray(batch.y)
        f, want = getattr(oracle, case.kind)(p, x, case, PROGRESS, y)
        np.testing.assert_allclose(judged.loss, want, rtol=1e-12)
        np.testing.assert_array_equal(judged.fired, (f != 0).sum(0))
        check_gradients(case, params, batch)


@pytest.mark.parametrize("kind", ["standard", "topk", "batch_topk", "jumprelu"])
def test_a_skip_transcoder_is_asked_for_what_the_map_leaves(kind):
    plain, case = (Dictionary(kind=kind, **WIDE, skip=skip) for skip in (False, True))
    with jax.enable_x64(True):
        params, batch = transcoder(case)
        W = params["W_skip"]
        without = {name: value for name, value in params.items() if name != "W_skip"}
        left = Batch(batch.x, batch.y - batch.x @ W.T)
        want = dictionary.loss(without, left, plain, situation())
        np.testing.assert_allclose(dictionary.loss(params, batch, case, situation()).loss, want.loss, rtol=1e-12)
        grads = jax.grad(lambda p: dictionary.loss(p, batch, case, situation()).loss)(params)
        said, f = dictionary.reconstruct(params, batch.x, case)
        np.testing.assert_allclose(said, dictionary.decode(params, f, case) + batch.x @ W.T, rtol=1e-12)
        if kind != "batch_topk":  # whose examples have no batch outside of training
            np.testing.assert_allclose(grads["W_skip"], 2 / B * (said - batch.y).T @ batch.x, rtol=1e-9)
    assert not dictionary.init(jax.random.key(0), case)["W_skip"].any()


def test_a_crosscoders_penalty_counts_each_piece():
    """Rows that write to one of two layers are as long as one that writes half as much to each, and no longer."""
    case = Dictionary(kind="standard", d_in=4, n_features=2, pieces=2, sparsity=1.0)
    params = dictionary.init(jax.random.key(0), case) | {"W_dec": jnp.array([[3.0, 4, 0, 0], [1.5, 2, 1.5, 2]])}
    np.testing.assert_allclose(lengths(params, case), [5, 5], rtol=1e-6)
    np.testing.assert_allclose(lengths(params, dataclasses.replace(case, pieces=1)), [5, 12.5**0.5], rtol=1e-6)
