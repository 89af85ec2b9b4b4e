"""The order of a store's rows: all of them in every epoch, mixed within groups, and the same wherever one begins."""

import numpy as np
import pytest

from interp_jax.activations.order import Order, groups, permutation, row_numbers

SHARDS = (5, 7, 5, 3, 6)
TOTAL = sum(SHARDS)
SHARD_OF = np.repeat(np.arange(5), SHARDS)


def test_as_written_is_from_the_beginning_to_the_end_again_and_again():
    np.testing.assert_array_equal(row_numbers(Order(SHARDS), 20, 40), (20 + np.arange(40)) % TOTAL)


@pytest.mark.parametrize("across", [1, 2, 5, 9])
def test_every_epoch_has_every_row_once_and_groups_are_of_so_many_shards(across):
    order = Order(SHARDS, across, seed=3)
    for epoch in range(3):
        rows = row_numbers(order, epoch * TOTAL, TOTAL)
        assert sorted(rows) == list(range(TOTAL))
        begin = 0
        for group in groups(order, epoch):
            n = sum(SHARDS[i] for i in group)
            assert set(SHARD_OF[rows[begin : begin + n]]) == set(group) and len(group) <= across
            begin += n
        assert begin == TOTAL


def test_a_row_is_a_function_of_seed_and_position():
    order = Order(SHARDS, 2, seed=3)
    whole = row_numbers(order, 0, 200)
    for first, n in ((0, 1), (3, 60), (25, 27), (26, 26), (77, 100), (199, 1)):
        np.testing.assert_array_equal(row_numbers(Order(SHARDS, 2, seed=3), first, n), whole[first : first + n])
    assert (row_numbers(Order(SHARDS, 2, seed=4), 0, 200) != whole).any()
    assert (whole[:TOTAL] != whole[TOTAL : 2 * TOTAL]).any()


def test_orders_are_uniform():
    """Each of 4 places holds each of 4 things equally often: 3/4 of the usual sum is χ² with 9 degrees; p = .001 at 27.9."""
    counts = np.zeros((4, 4))
    for epoch in range(4_000):
        counts[np.arange(4), permutation(0, "store.rows", epoch, 0, 4)] += 1
    assert 3 / 4 * ((counts - 1_000) ** 2 / 1_000).sum() < 27.9
    assert not np.array_equal(permutation(0, "store.rows", 0, 0, 99), permutation(0, "store.rows", 0, 1, 99))
    assert permutation(-1, "store.rows", 0, 0, 5).tolist() == permutation(-1, "store.rows", 0, 0, 5).tolist()


def test_draws_are_those_of_philox():
    """They must never change: stores that were read half way are read on by other versions."""
    assert permutation(3, "store.rows", 2, 1, 10).tolist() == [7, 0, 3, 8, 2, 9, 1, 6, 5, 4]
