"""Head scores on patterns made by hand, where the answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.anatomy import heads

TOKENS = jnp.array([[5, 7, 5, 7, 9]])


def attending(targets):
    """A pattern [1, 1, 1, P, P] of a head that looks at targets[q] from every q."""
    return jax.nn.one_hot(jnp.array(targets), len(targets))[None, None, None]


def test_a_previous_token_head_scores_one_and_nothing_else():
    scores = heads.head_scores(attending([0, 0, 1, 2, 3]), TOKENS)
    assert float(scores.previous[0, 0]) == 1.0
    assert float(scores.duplicate[0, 0]) == 0.0


def test_duplicates_and_what_follows_them():
    """Queries 2 and 3 have earlier copies at 0 and 1; what follows those are 1 and 2."""
    np.testing.assert_array_equal(np.argwhere(heads.duplicate_targets(TOKENS)[0]), [[2, 0], [3, 1]])
    np.testing.assert_array_equal(np.argwhere(heads.induction_targets(TOKENS)[0]), [[2, 1], [3, 2]])
    assert float(heads.head_scores(attending([0, 0, 1, 0, 0]), TOKENS).induction[0, 0]) == 0.5
    assert float(heads.head_scores(attending([0, 0, 0, 1, 0]), TOKENS).duplicate[0, 0]) == 1.0


def test_all_targets_of_a_query_count_and_queries_without_one_do_not():
    tokens = jnp.array([[3, 3, 4, 3]])  # query 3 has copies at 0 and 1, query 1 one at 0
    pattern = jnp.zeros((1, 1, 1, 4, 4)).at[0, 0, 0, 3, :2].set(0.25).at[0, 0, 0, 1, 0].set(0.5)
    assert float(heads.head_scores(pattern, tokens).duplicate[0, 0]) == pytest.approx(0.5)


def test_a_repeated_segment_has_one_target_per_query_of_the_second_copy():
    targets = heads.repeat_targets(6, 3, 1)[0]
    np.testing.assert_array_equal(np.argwhere(targets), [[3, 1], [4, 2], [5, 3]])
    scores = heads.repeated_head_scores(attending([0, 1, 2, 1, 2, 0]), 3)
    assert float(scores.induction[0, 0]) == pytest.approx(2 / 3)


def test_heads_and_layers_stay_apart():
    pattern = jnp.zeros((2, 3, 4, 5, 5)).at[1, :, 2].set(attending([0, 0, 1, 2, 3])[0, 0, 0])
    expected = np.zeros((2, 4))
    expected[1, 2] = 1.0
    np.testing.assert_array_equal(heads.repeated_head_scores(pattern, 2).previous, expected)


def test_chance_level_is_that_of_the_uniform_pattern():
    """Mean over q = T .. 2T-1 of 1/(q+1)."""
    scores = heads.repeated_head_scores(heads.uniform_pattern(8), 4)
    expected = np.mean([1 / 5, 1 / 6, 1 / 7, 1 / 8])
    assert float(scores.induction[0, 0]) == pytest.approx(expected)
    assert float(scores.duplicate[0, 0]) == pytest.approx(expected)
    assert float(scores.previous[0, 0]) == pytest.approx(np.mean(1 / np.arange(2, 9)))
