"""The largest entries are those that a stable sort finds, ties and all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from interp_jax.dictionaries.top_k import fastest_block, largest, running_count, top_k, tournament


def values(kind, shape, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "continuous":
        return rng.normal(size=shape).astype(np.float32)
    if kind == "ties":
        return rng.integers(-2, 3, shape).astype(np.float32)
    few = np.where(rng.random(shape) < 0.02, rng.normal(size=shape), 0.0).astype(np.float32)
    return np.where(rng.random(shape) < 0.01, -np.inf, few).astype(np.float32)


@pytest.mark.parametrize("kind", ["continuous", "ties", "mostly zero"])
@pytest.mark.parametrize(
    ("columns", "k", "block"), [(256, 5, 16), (256, 16, 16), (96, 6, 4), (40, 7, None), (64, 64, 1)]
)
def test_rows_as_the_reference_has_them(kind, columns, k, block):
    z = values(kind, (9, columns))
    got, want = jax.jit(top_k, static_argnums=(1, 2))(z, k, block), lax.top_k(z, k)
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_array_equal(got[1], want[1])


@pytest.mark.parametrize("kind", ["continuous", "ties", "mostly zero"])
@pytest.mark.parametrize(("columns", "k"), [(256, 16), (37, 37), (40, 7), (16, 1)])
def test_tournaments_as_the_reference_has_them(kind, columns, k):
    """Rows of nothing but -inf too, whose columns are all different."""
    z = np.r_[values(kind, (9, columns)), np.full((1, columns), -np.inf, np.float32)]
    for got, want in zip(jax.jit(tournament, static_argnums=1)(z, k), lax.top_k(z, k), strict=True):
        np.testing.assert_array_equal(got, want)


def test_what_is_not_a_number_is_found_first():
    z = np.array([[1, np.nan, 3, np.inf, -np.inf, 2, 0, 5]], np.float32)
    got, columns = tournament(jnp.array(z), 3)
    assert got.tolist() == [[np.inf, np.inf, 5]] and columns.tolist() == [[1, 3, 7]]


@pytest.mark.parametrize("kind", ["continuous", "ties", "mostly zero"])
@pytest.mark.parametrize("shape", [(8, 512), (5, 37), (4, 64)])
def test_the_largest_of_a_batch(kind, shape):
    """In rising order of their places; of equal ones the first; n traced, one program."""
    z, most = values(kind, shape), 24
    find = jax.jit(largest, static_argnums=2)
    for n in (0, 1, 7, 24):
        got = jax.tree.map(np.asarray, find(z, jnp.int32(n), most))
        order = np.argsort(-z.ravel(), kind="stable")[:n]
        places = np.sort(order)
        np.testing.assert_array_equal(got.row[:n] * shape[1] + got.column[:n], places)
        np.testing.assert_array_equal(got.values[:n], z.ravel()[places])
        assert (got.values[n:] == 0).all()


def test_blocks_are_used_only_where_they_leave_something_out():
    assert fastest_block(32, 16_384) > 1
    assert fastest_block(32, 256) == 1 and fastest_block(4, 1_001) == 1


@pytest.mark.parametrize("n", [1, 64, 4_096, 10_001])
def test_a_running_count_is_that_of_the_reference(n):
    there = np.random.default_rng(n).random(n) < 0.3
    np.testing.assert_array_equal(running_count(jnp.asarray(there)), np.cumsum(there))
