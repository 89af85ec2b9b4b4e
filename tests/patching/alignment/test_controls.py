"""Evaluations are what they say, pair by pair, and controls are what a search must beat."""

import dataclasses
from functools import cache

import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import randomness
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.patching.alignment.config import AlignmentConfig, sweep
from interp_jax.patching.alignment.controls import evaluate, known_alignment, with_controls
from interp_jax.patching.alignment.rotations import random_basis
from interp_jax.patching.alignment.search import dealt, train_alignment
from tests.patching.alignment.relay import HELD, pairs, relay

SEARCH = AlignmentConfig(k=3, width=3, steps=200)
EVERYWHERE = {"layer": (0, 1), "place": (0, 1, 2), "seed": (0, 1)}
DIMENSIONS = 3


@cache
def subject():
    return relay(DIMENSIONS), pairs(512, DIMENSIONS, 0), pairs(256, DIMENSIONS, 1)


def test_a_result_comes_with_its_controls(compilations):
    model, train, held_out = subject()
    members = sweep(SEARCH, EVERYWHERE)
    with compilations() as programs:
        found = with_controls(model.params, model.cfg, train, held_out, members, model.answers)
    assert programs.count("on_device") <= 2  # three searches are one program, six evaluations another
    shares = np.unique(held_out.counterfactual, return_counts=True)[1] / 256
    assert found.chance == shares.max()
    same = (held_out.counterfactual == held_out.answer).mean()
    error = np.sqrt(0.25 * 0.75 / 256)
    true = np.array([(m.layer, m.place) in HELD for m in members])
    np.testing.assert_array_equal(found.learned.accuracy[true], 1.0)
    np.testing.assert_array_equal(found.whole.accuracy[true], 1.0)
    np.testing.assert_array_equal(found.untouched.accuracy, same)
    assert (found.random.accuracy[true] < 0.6).all()
    assert (found.shuffled.accuracy < found.chance + 4 * error).all()
    assert (found.random_model.accuracy < 0.5).all()
    assert (found.selectivity[true] > 0.4).all() and (found.selectivity[~true] < 4 * error).all()
    assert found.learned.losses.shape == found.whole.predicted.shape == (12, 256)
    random = found.alignment._replace(basis=jnp.stack([random_basis(m.seed, 16, 3) for m in members]))
    np.testing.assert_allclose(
        evaluate(model.params, model.cfg, random, held_out, model.answers).losses, found.random.losses, atol=1e-4
    )


def test_the_random_model_is_another_model_of_the_same_config():
    model, train, held_out = subject()
    members = sweep(SEARCH, EVERYWHERE)
    found = with_controls(model.params, model.cfg, train, held_out, members, seed=3)
    drawn = transformer.init(randomness.key(3, "random model"), model.cfg)
    np.testing.assert_array_equal(
        evaluate(drawn, model.cfg, found.random_alignment, held_out).losses, found.random_model.losses
    )
    assert np.isfinite(found.random_model.losses).all()
    assert not np.allclose(found.random_alignment.basis, found.alignment.basis)


def test_a_subspace_of_all_dimensions_needs_no_search():
    """Its random control says so: the accuracy of the whole vector is that of any basis of it."""
    model, train, held_out = subject()
    members = [dataclasses.replace(SEARCH, k=16, width=0, steps=1, place=1)]
    found = with_controls(model.params, model.cfg, train, held_out, members)
    for evaluation in (found.learned, found.random):
        np.testing.assert_array_equal(evaluation.predicted, found.whole.predicted)
        np.testing.assert_allclose(evaluation.losses, found.whole.losses, atol=1e-4)
    assert found.learned.accuracy == 1.0 and found.selectivity <= 0


def test_an_evaluation_pair_by_pair():
    """The known plane of layer 0, interchanged by hand: after it, the answer is the source's class."""
    model, _, held_out = subject()
    held_out = held_out._replace(counterfactual=np.roll(held_out.counterfactual, 1))  # so that some are wrong
    member = dataclasses.replace(SEARCH, layer=0, place=1)
    known = known_alignment(jnp.asarray(model.truth.planes[1], jnp.float32), [member])
    seen = evaluate(model.params, model.cfg, known, held_out)
    tokens = held_out.base.copy()
    tokens[:, 1] = held_out.source[:, 1]  # position 2 hears of position 1 alone, and position 3 of position 2
    logits = np.asarray(transformer.apply(model.params, tokens, model.cfg)[:, -1], np.float64)
    rows = np.arange(256)
    np.testing.assert_array_equal(seen.predicted[0], logits.argmax(1))
    np.testing.assert_array_equal(seen.correct[0], logits.argmax(1) == held_out.counterfactual)
    losses = np.log(np.exp(logits).sum(1)) - logits[rows, held_out.counterfactual]
    np.testing.assert_allclose(seen.losses[0], losses, atol=1e-4)
    differences = logits[rows, held_out.counterfactual] - logits[rows, held_out.answer]
    np.testing.assert_allclose(seen.differences[0], differences, atol=1e-4)
    assert seen.accuracy[0] == seen.correct[0].mean() and 0 < seen.accuracy[0] < 1


def test_predictions_are_made_among_the_candidates():
    model, _, held_out = subject()
    known = known_alignment(jnp.asarray(model.truth.planes[1], jnp.float32), [dataclasses.replace(SEARCH, place=1)])
    some = np.stack([held_out.counterfactual, np.zeros(256, int)], 1)
    nothing = evaluate(model.params, model.cfg, known._replace(mask=0 * known.mask), held_out, some)
    assert set(np.unique(nothing.predicted)) <= {0, *model.answers.tolist()}
    wrong = np.asarray(held_out.answer != held_out.counterfactual)
    assert evaluate(model.params, model.cfg, known, held_out, some).accuracy[0] == 1.0
    np.testing.assert_array_equal(np.asarray(nothing.differences[0] < -1.0), wrong)


def test_labels_are_dealt_out_anew():
    labels = jnp.arange(50) // 5
    a, b, c = (dealt(labels, seed, stream) for seed, stream in ((0, "labels"), (1, "labels"), (0, "held-out labels")))
    for other in (a, b, c):
        np.testing.assert_array_equal(np.sort(other), labels)
    assert not (a == b).all() and not (a == c).all()


def test_known_subspaces_are_made_orthonormal():
    member = dataclasses.replace(SEARCH, k=2)
    basis = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
    known = known_alignment(basis, [member, member])
    assert known.basis.shape == (2, 16, 2) and known.basis.dtype == jnp.float32
    projector = known.subspace(1) @ known.subspace(1).T
    np.testing.assert_allclose(projector @ basis, basis, atol=1e-5)
    np.testing.assert_allclose(known.subspace(0).T @ known.subspace(0), np.eye(2), atol=1e-6)
    with pytest.raises(InputError, match="columns depend on each other"):
        known_alignment(np.ones((16, 2), np.float32), [member])
    with pytest.raises(InputError, match="columns depend on each other"):
        known_alignment(np.ones((1, 2), np.float32), [member])


def test_impossible_evaluations():
    model, train, held_out = subject()
    member = dataclasses.replace(SEARCH, place=1)
    arguments = (model.params, model.cfg)
    narrow = known_alignment(np.eye(15, 2, dtype=np.float32), [member])
    with pytest.raises(InputError, match="the basis has width 15, 'blocks.resid_post' 16"):
        evaluate(*arguments, narrow, held_out)
    known = known_alignment(np.eye(16, 2, dtype=np.float32), [member])
    with pytest.raises(InputError, match="alignment.place = 1: it goes from 0 to 0"):
        evaluate(*arguments, known, held_out._replace(where=held_out.where[:1]))
    for candidates, message in (
        (model.answers[1:], "the counterfactual answer 20 of pair"),
        (np.array([*model.answers, 24]), "candidate 24 of pair 0: ids go from 0 to 23"),
        (np.zeros((3, 2), int), "candidates are [3, 2]: give [C], or [N C] for 256 pairs"),
    ):
        with pytest.raises(InputError) as error:
            evaluate(*arguments, known, held_out, candidates)
        assert str(error.value).startswith(message)
    with pytest.raises(InputError, match="counterfactual of pair 0 is 24"):
        train_alignment(*arguments, train._replace(counterfactual=np.full(512, 24)), [member])
