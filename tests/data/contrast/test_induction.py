"""Induction pairs repeat as they say, and a model built by hand answers them as it must."""

import jax
import numpy as np
import pytest

from interp_jax.data.contrast.induction import induction
from interp_jax.data.contrast.pairs import check_pairs
from interp_jax.errors import InputError
from interp_jax.models.induction_circuit import induction_circuit
from interp_jax.models.transformer import apply

CORRUPTIONS = ("key", "successor")


def columns(pairs):
    """The tokens of the clean and the corrupted side at A, B and END, each [B]."""
    rows = np.arange(len(pairs.clean))
    return [{n: np.asarray(side)[rows, c] for n, c in pairs.places.items()} for side in (pairs.clean, pairs.corrupted)]


@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize(("length", "bos"), [(6, None), (13, 0), (13, 7)])
def test_the_last_token_occurred_once_before_the_answer(length, corruption, bos):
    pairs = induction(3, 60, length, 21, corruption, bos)
    check_pairs(pairs, 21)
    assert pairs.clean.shape == (60, length) and pairs.positions.shape == (1, length)
    clean, corrupted = columns(pairs)
    answer, x = np.asarray(pairs.answers)[:, 0], np.asarray(pairs.others)[:, 0]
    np.testing.assert_array_equal(clean["A"], clean["END"])
    np.testing.assert_array_equal(clean["B"], answer)
    np.testing.assert_array_equal(pairs.places["B"], np.asarray(pairs.places["A"]) + 1)
    for row, b, token in zip(np.asarray(pairs.clean), answer, x, strict=True):
        assert (row == row[-1]).sum() == 2 and (row == b).sum() == 1 and token not in row
        assert 0 not in row[bos is not None :]
    for row, b, token in zip(np.asarray(pairs.corrupted), answer, x, strict=True):
        assert (row == token).sum() == 1
        assert (row == b).sum() == (corruption == "key")  # X takes its place, or stands beside it
    np.testing.assert_array_equal(corrupted["A" if corruption == "key" else "B"], x)
    assert ((np.asarray(pairs.clean) != pairs.corrupted).sum(axis=1) == 1).all()
    if bos is not None:
        for side in (pairs.clean, pairs.corrupted):
            assert (np.asarray(side)[:, 0] == bos).all() and (np.asarray(side)[:, 1:] != bos).all()


def test_rows_repeat_with_periods_of_their_own_and_all_occur():
    pairs = induction(0, 300, 12, 1000)
    clean = np.asarray(pairs.clean)
    periods = [next(p for p in range(1, 12) if (row[p:] == row[:-p]).all()) for row in clean]
    assert set(periods) == {7, 8, 9, 10}
    np.testing.assert_array_equal(np.asarray(pairs.places["A"]), 11 - np.asarray(periods))
    first = [row[:p].tolist() for row, p in zip(clean, periods, strict=True)]
    assert all(len(set(row)) == len(row) for row in first)


def test_all_tokens_are_drawn_alike():
    pairs = induction(0, 4000, 6, 9, bos=4)
    first = np.bincount(np.asarray(pairs.clean)[:, 1], minlength=9)
    assert first[0] == first[4] == 0
    assert abs(first[[1, 2, 3, 5, 6, 7, 8]] - 4000 / 7).max() < 5 * (4000 / 7 * 6 / 7) ** 0.5


def test_an_example_depends_on_the_seed_and_its_number_alone():
    few, many, other = induction(5, 3, 10, 30), induction(5, 40, 10, 30), induction(6, 3, 10, 30)
    for field in ("clean", "corrupted", "answers", "others", "places"):
        few_, many_ = getattr(few, field), getattr(many, field)
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[:3]), few_, many_)
    assert (few.clean != other.clean).any(axis=1).all()
    jitted = jax.jit(induction, static_argnums=(1, 2, 3))(5, 3, 10, 30)
    jax.tree.map(np.testing.assert_array_equal, jitted, few)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_the_circuit_built_by_hand_knows_the_answer_where_there_is_one(corruption):
    params, cfg = induction_circuit(d_vocab=16, n_context=12)
    pairs = induction(1, 50, 12, 16, corruption)
    rows = np.arange(50)

    def difference(tokens):
        logits = np.asarray(apply(params, tokens, cfg, pairs.positions))[:, -1]
        return logits[rows, pairs.answers[:, 0]] - logits[rows, pairs.others[:, 0]]

    clean, corrupted = difference(pairs.clean), difference(pairs.corrupted)
    np.testing.assert_allclose(clean, 50.0, rtol=1e-5)
    # Nothing to be found: the mean of all tokens, among which the answer and X occur once each.
    np.testing.assert_allclose(corrupted, 0.0 if corruption == "key" else -50.0, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((4, 10, 30, "keys"), "corruption = 'keys': did you mean 'key'"),
        ((0, 10, 30), "0 examples of 10 tokens: must be at least 1 of 5"),
        ((4, 4, 30), "4 examples of 4 tokens: must be at least 1 of 5"),
        ((4, 5, 30, "key", 0), "4 examples of 5 tokens: must be at least 1 of 6"),
        ((4, 12, 11), "length = 12 needs 11 different tokens, but d_vocab = 11 has 10 to draw from: at most 11"),
        (
            (4, 12, 11, "key", 3),
            "length = 12 needs 10 different tokens, but d_vocab = 11 has 9 to draw from: at most 11",
        ),
    ],
)
def test_impossible_requests_are_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        induction(0, *arguments)


def test_the_longest_that_fits_is_as_the_error_says():
    check_pairs(induction(0, 3, 11, 11), 11)
    check_pairs(induction(0, 3, 11, 11, "key", 3), 11)
