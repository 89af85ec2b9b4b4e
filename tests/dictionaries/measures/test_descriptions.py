"""Questions and scores: features that are sets of tokens are told perfectly by these, and shuffled answers are a guess."""

import itertools

import numpy as np
import pytest

from interp_jax.dictionaries.measures.descriptions import (
    Contexts,
    Examples,
    Question,
    detection,
    fuzzing,
    halves,
    quantiles,
    score,
    token_set,
    token_set_judge,
)
from interp_jax.errors import InputError

TOKENS = frozenset({3, 17, 40})


def examples(n=600, length=12, seed=0):
    """Of a feature that fires on three tokens, of a vocabulary of fifty."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 50, (n, length))
    return Examples(tokens, np.isin(tokens, list(TOKENS)) * rng.uniform(0.5, 2, tokens.shape))


@pytest.mark.parametrize("ask", [detection, fuzzing])
def test_a_feature_that_is_a_set_of_tokens_is_told_by_it(ask):
    rng = np.random.default_rng(1)
    described_by, scored_on = halves(examples(), rng)
    description = token_set(described_by)
    assert description == TOKENS
    question = ask(scored_on, 100, 5, rng)
    got = score(token_set_judge, description, question)
    assert got.balanced_accuracy == 1 and got.false_alarms == 0 and got.called.tolist() == [1] * 5
    other = score(token_set_judge, frozenset({5, 6, 7}), question)
    assert abs(other.balanced_accuracy - 0.5) < 0.1
    shuffled = [
        score(token_set_judge, description, question._replace(truth=rng.permutation(question.truth))).balanced_accuracy
        for _ in range(50)
    ]
    assert abs(np.mean(shuffled) - 0.5) < 0.03  # five standard deviations of the mean of fifty


def test_questions_are_half_and_half_and_of_all_quantiles():
    made, rng = examples(), np.random.default_rng(2)
    question = detection(made, 50, 5, rng)
    assert question.truth.sum() == 50 == (~question.truth).sum() and question.contexts.marked is None
    np.testing.assert_array_equal(np.bincount(question.quantile + 1), [50, 10, 10, 10, 10, 10])
    rows = {row.tobytes(): largest for row, largest in zip(made.tokens, made.activations.max(1), strict=True)}
    largest = np.array([rows[row.tobytes()] for row in question.contexts.tokens])
    assert (largest[~question.truth] == 0).all() and (largest[question.truth] > 0).all()
    bounds = [(largest[question.quantile == q].min(), largest[question.quantile == q].max()) for q in range(5)]
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(bounds))


def test_marks_are_on_what_fires_or_on_as_many_at_random():
    made, rng = examples(), np.random.default_rng(3)
    question = fuzzing(made, 200, 4, rng)
    right, wrong = (question.contexts.marked[truth] for truth in (question.truth, ~question.truth))
    fires = np.isin(question.contexts.tokens, list(TOKENS))
    np.testing.assert_array_equal(right, fires[question.truth])
    assert set(wrong.sum(1)) <= set(right.sum(1)) and abs(wrong.sum(1).mean() - right.sum(1).mean()) < 0.2
    assert not fires[~question.truth].any() and wrong.any(0).all()


def test_quantiles_are_ranks_among_contexts_that_fire():
    activations = np.zeros((9, 2))
    activations[[1, 3, 4, 6, 8, 0], [0, 1, 0, 0, 1, 1]] = [5, 1, 3, 2, 9, 4]
    got = quantiles(Examples(np.zeros((9, 2), int), activations), 3)
    np.testing.assert_array_equal(got, [1, 2, -1, 0, 1, -1, 0, -1, 2])


def test_scores_are_counted():
    """Of four right ones three are called, of two wrong ones one; one quantile has no context."""
    truth = np.array([1, 1, 1, 1, 0, 0], bool)
    question = Question(Contexts(np.zeros((6, 1), int), None), truth, np.array([0, 0, 2, 2, -1, -1]))
    got = score(lambda description, contexts: np.array([0.9, 0.4, 0.8, 0.6, 0.7, 0.1]), "words", question)
    assert got.balanced_accuracy == pytest.approx((3 / 4 + 1 / 2) / 2) and got.false_alarms == 0.5
    np.testing.assert_array_equal(got.called, [0.5, np.nan, 1])


def test_token_sets_have_the_mass_that_is_asked_for():
    tokens = np.array([[1, 2, 3, 4, 1]])
    of = lambda activations, mass: token_set(Examples(tokens, np.array([activations])), mass)
    assert of([3.0, 5, 1, 0, 1], 0.5) == {2} and of([3.0, 5, 1, 0, 1], 0.9) == {1, 2}
    assert of([3.0, 5, 1, 0, 1], 1.0) == {1, 2, 3} and of([0.0] * 5, 0.9) == frozenset()
    judged = token_set_judge({1, 2}, Contexts(tokens, np.array([[1, 0, 1, 1, 0]], bool)))
    np.testing.assert_allclose(judged, 1 / 3)


def test_features_without_silent_contexts_or_too_few_are_refused():
    tokens = np.zeros((4, 2), int)
    with pytest.raises(InputError, match="fires in 4 contexts and is silent in 0"):
        detection(Examples(tokens, np.ones((4, 2))), 4, 2, np.random.default_rng(0))
    with pytest.raises(InputError, match="fires in 1 contexts and is silent in 3; at least 2"):
        detection(Examples(tokens, np.eye(4, 2) * [1, 0]), 4, 2, np.random.default_rng(0))
    with pytest.raises(InputError, match="2 probabilities for 3 contexts".replace("2", r"\[2\]")):
        score(lambda d, c: np.ones(2), "", Question(Contexts(tokens[:3], None), np.ones(3, bool), np.zeros(3, int)))
