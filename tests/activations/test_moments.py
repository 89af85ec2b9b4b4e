"""Moments against NumPy in float64, however rows are cut; what rounds, how large it is, and what moments take."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.activations import moment_sums
from interp_jax.activations.moment_sums import add, begin, over_devices
from interp_jax.activations.moments import (
    Moments,
    class_means,
    cost,
    finish,
    merge,
    merged,
    streamed,
    within_scatter,
)
from interp_jax.errors import InputError

RNG = np.random.default_rng(0)
N, D, T = 240, 5, 2
X = RNG.normal(size=(N, D)) @ RNG.normal(size=(D, D)) + 10
Z = RNG.normal(size=(N, T)) + X[:, :T]
W = RNG.integers(0, 3, N).astype(float)


def by_hand(x, z, w):
    """In float64, from the definition."""
    n = w.sum()
    mean, target = w @ x / n, w @ z / n
    a, b = x - mean, z - target
    return Moments(np.asarray(n), mean, target, (w * a.T) @ a, (w * a.T) @ b, (w * b.T) @ b)


def same(got, want, rtol):
    for name, a, b in zip(Moments._fields, got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * np.abs(b).max(initial=0), err_msg=name)


@pytest.mark.parametrize("sizes", [(240,), (1, 239), (100, 7, 133), (60, 60, 60, 60)])
def test_any_cut_into_blocks_gives_the_same_in_float64(sizes, monkeypatch):
    monkeypatch.setattr(moment_sums, "PIECE", 32)
    ends = np.cumsum(sizes)
    blocks = [(X[e - n : e], Z[e - n : e], W[e - n : e]) for n, e in zip(sizes, ends, strict=True)]
    with jax.enable_x64(True):
        jax.clear_caches()
        same(streamed(blocks), by_hand(X, Z, W), 1e-12)
        same(merge([streamed([block]) for block in blocks]), by_hand(X, Z, W), 1e-12)


def test_merging_is_associative_to_rounding():
    parts = [by_hand(X[i::6], Z[i::6], W[i::6]) for i in range(6)]
    whole = by_hand(X, Z, W)
    for order in ([0, 1, 2, 3, 4, 5], [5, 2, 0, 3, 1, 4]):
        same(merge([parts[i] for i in order]), whole, 1e-12)
    same(merge([merge(parts[:1]), merge(parts[1:4]), merge(parts[4:])]), whole, 1e-12)
    nothing = Moments(*(np.zeros_like(x) for x in whole))
    same(merge([nothing, whole]), whole, 0)


def test_float32_sums_lose_what_one_piece_loses():
    """Means ten times the spread, 2^15 rows: naive float32 sums of squares would lose 1e-5."""
    x = (RNG.normal(size=(2**15, 16)) @ np.diag(np.geomspace(0.1, 3, 16)) + 30).astype(np.float32)
    got = streamed((x[i : i + 2**13], None, None) for i in range(0, len(x), 2**13))
    exact = np.asarray(x, np.float64)
    want = np.cov(exact, rowvar=False, bias=True)
    scale = np.sqrt(np.outer(np.diag(want), np.diag(want)))
    assert np.abs((got.covariance - want) / scale).max() < 1e-7
    np.testing.assert_allclose(got.mean, exact.mean(0), rtol=1e-9)
    assert got.count == len(x)


def test_compensation_keeps_what_float32_cannot_hold():
    high, low = jax.lax.fori_loop(
        0, 10_000, lambda i, held: moment_sums.compensated(*held, jnp.float32(0.1)), (jnp.float32(1e6), jnp.float32(0))
    )
    assert abs(float(high) + float(low) - (1e6 + 10_000 * float(np.float32(0.1)))) < 1e-6
    plain = jax.lax.fori_loop(0, 10_000, lambda i, s: s + jnp.float32(0.1), jnp.float32(1e6))
    assert abs(float(plain) - 1_001_000) > 1


def test_wide_products_are_cut_into_blocks(monkeypatch):
    monkeypatch.setattr(moment_sums, "BLOCK", 4)
    monkeypatch.setattr(moment_sums, "WHOLE", 5)
    x = np.float32(RNG.normal(size=(40, 21)))
    jax.clear_caches()
    same(streamed([(x, None, None)]), by_hand(x.astype(float), np.zeros((40, 0)), np.ones(40)), 1e-6)


def test_sites_folds_and_classes_are_leading_axes():
    x = np.float32(RNG.normal(size=(3, 1, 50, 4)))
    y = RNG.integers(0, 3, 50)
    z = np.float32(y[:, None] == np.arange(3))
    folds = np.float32(np.arange(50) % 2 == np.arange(2)[:, None])
    got = streamed([(x[..., :30, :], z[:30], folds[:, :30]), (x[..., 30:, :], z[30:], folds[:, 30:])])
    assert got.scatter.shape == (3, 2, 4, 4) and got.cross.shape == (3, 2, 4, 3)
    for i in range(3):
        for fold in range(2):
            want = by_hand(np.float64(x[i, 0]), np.float64(z), np.float64(folds[fold]))
            same(Moments(*(part[i, fold] for part in got)), want, 2e-6)
    both = merged(got, axis=1)
    same(Moments(*(part[1] for part in both)), by_hand(np.float64(x[1, 0]), np.float64(z), np.ones(50)), 2e-6)


def test_counts_of_classes_are_exact_in_float32():
    y = RNG.integers(0, 3, 5_000)
    z = np.float32(y[:, None] == np.arange(3))
    got = streamed((np.zeros((1_000, 1), np.float32), z[i : i + 1_000], None) for i in range(0, 5_000, 1_000))
    same(got, by_hand(np.zeros((5_000, 1)), z.astype(float), np.ones(5_000)), 1e-12)
    assert abs(np.linalg.eigvalsh(got.target_scatter)[0]) < 1e-9


def test_targets_that_are_classes_have_their_means_and_what_is_within():
    y = RNG.integers(0, 3, N)
    moments = by_hand(X, np.float64(y[:, None] == np.arange(4)), W)
    means = class_means(moments)
    for c in range(3):
        np.testing.assert_allclose(means[c], np.average(X[y == c], axis=0, weights=W[y == c]))
    np.testing.assert_allclose(means[3], moments.mean)
    per_class = [by_hand(X[y == c], Z[y == c], W[y == c]).scatter for c in range(3)]
    np.testing.assert_allclose(within_scatter(moments), sum(per_class), rtol=1e-9, atol=1e-9)


def test_rows_over_devices_are_those_of_one():
    begin_all, add_all = over_devices()
    x, z, w = np.float32(X), np.float32(Z), np.float32(W)
    sums = begin_all(x[:120], z[:120], w[:120])
    for part in (slice(0, 120), slice(120, 240)):
        sums = add_all(sums, x[part], z[part], w[part])
    assert sums.high.shape[0] == 4 and len(sums.high.sharding.device_set) == 4
    same(merged(finish(sums)), by_hand(np.float64(x), np.float64(z), W), 1e-6)
    assert "all-reduce" not in add_all.lower(sums, x[:120], z[:120], w[:120]).compile().as_text()


def test_rows_that_are_left_out_may_hold_anything_and_others_are_named():
    x = np.float32(X)
    x[7, 2] = np.nan
    w = np.ones(N, np.float32)
    with pytest.raises(InputError, match="row 7 of layer 3 is not finite"):
        streamed([(x[:5], None, w[:5]), (x[5:], None, w[5:])], name="layer 3")
    begin_all, add_all = over_devices()
    x[7, 2], x[130, 0] = 0, np.inf
    sums = begin_all(x[:120])
    for part in (slice(0, 120), slice(120, 240)):
        sums = add_all(sums, x[part])
    with pytest.raises(InputError, match=r"row 130 of activations \(leading axes \(0,\)\)"):
        finish(sums)
    w[130] = 0
    same(streamed([(x, None, w)]), by_hand(np.where(w[:, None] > 0, np.float64(x), 0), np.zeros((N, 0)), w), 1e-6)
    w[3] = -1
    with pytest.raises(InputError, match="row 3 of activations is not finite, or its weight is negative"):
        streamed([(x, None, w)])


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="5 rows of x, 4 of z, 5 of w"):
        begin(np.ones((5, 2), np.float32), np.ones((4, 1), np.float32))
    with pytest.raises(InputError, match="no block of activations"):
        streamed([])
    with pytest.raises(InputError, match="widths and targets"):
        merge([])
    with pytest.raises(InputError, match="axis 0 was to be merged"):
        merged(by_hand(X, Z, W))
    with pytest.raises(InputError, match="a sum over rows of activations is not finite"):
        streamed([(np.full((4, 2), 3e38, np.float32) * [[1], [-1], [1], [-1]], None, None)])


def test_a_million_tokens_of_26_layers_2304_wide_fit():
    """By plan; and at a width of 96 sums take what the plan says, and the program that adds no more than its share of rows."""
    plan = cost(2304, 2, sites=26, n_rows=1_000_000)
    assert plan.device < 1.2e9 and plan.rows < 2.1e9 and plan.host < 7e9
    small, block = cost(96, 2, sites=3), (np.zeros((3, 4096, 96), np.float32), np.zeros((4096, 2), np.float32))
    sums = jax.eval_shape(begin, *block)
    assert sum(v.size * v.dtype.itemsize for v in (sums.high, sums.low)) == small.device
    memory = jax.jit(add, donate_argnums=0).lower(sums, *block).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 1.5 * small.rows
    assert memory.alias_size_in_bytes >= small.device
    held = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), sums)._replace(
        bad=np.full(3, moment_sums.SOUND)
    )
    tracemalloc.start()
    finish(held)
    assert tracemalloc.get_traced_memory()[1] < small.host
    tracemalloc.stop()
