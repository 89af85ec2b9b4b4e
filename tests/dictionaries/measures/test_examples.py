"""Examples kept while a stream goes by in blocks, against NumPy on all of it at once; of equal ranks the first is kept."""

import jax
import numpy as np
import pytest

from interp_jax import randomness
from interp_jax.dictionaries.measures import examples

W, P, F, AT_ONCE, SPAN = 12, 9, 6, 4, (2, 3)


@pytest.fixture(scope="module")
def stream():
    """Sparse features, rounded so that many are equal; one never fires, one fires in two windows, one is negative."""
    rng = np.random.default_rng(0)
    f = np.where(rng.random((W, P, F)) < 0.4, np.round(rng.uniform(1, 4, (W, P, F))), 0)
    f[..., 3] = 0
    f[..., 4] = 0
    f[[2, 7], [0, 8], 4] = 2.0
    f[..., 5] *= -1
    return f.astype(np.float32)


def passed(stream, n, found):
    step = jax.jit(lambda kept, f, first: examples.merge(kept, found(f, first)))
    kept = examples.no_examples(stream.shape[2], n, SPAN)
    for first in range(0, W, AT_ONCE):
        kept = step(kept, stream[first : first + AT_ONCE], first)
    return kept


def oracle(stream, ranks, n):
    """(rank, window, position, value, around) of each feature, the highest rank first, by a plain search."""
    found = []
    for i in range(F):
        rows = []
        for w in range(W):
            p = int(ranks[w, :, i].argmax())
            if ranks[w, p, i] > 0:
                padded = np.pad(stream[w, :, i], SPAN)
                rows.append((ranks[w, p, i], w, p, stream[w, p, i], padded[p : p + sum(SPAN) + 1]))
        found.append(sorted(rows, key=lambda row: (-row[0], row[1]))[:n])
    return found


def same(kept, expected, n):
    for i, rows in enumerate(expected):
        for e in range(n):
            if e >= len(rows):
                assert kept.rank[i, e] == 0 and kept.window[i, e] == kept.position[i, e] == -1
                assert not kept.around[i, e].any()
                continue
            rank, window, position, value, around = rows[e]
            assert (kept.rank[i, e], kept.window[i, e], kept.position[i, e]) == (rank, window, position)
            assert kept.value[i, e] == value
            np.testing.assert_array_equal(kept.around[i, e], around)


def test_the_strongest_are_those_of_a_search(stream):
    kept = passed(stream, 5, lambda f, first: examples.strongest(f, first, SPAN))
    same(kept, oracle(stream, np.abs(stream), 5), 5)
    assert (kept.value[5, 0] < 0) and kept.rank[5, 0] == 4


def numbers(stream, seed):
    """The random ranks that `drawn` makes, block by block."""
    blocks = [
        randomness.uniform("counter", seed, "features.examples", first, (AT_ONCE, P, F))
        for first in range(0, W, AT_ONCE)
    ]
    return np.where(stream != 0, np.float32(1) - np.concatenate(blocks), 0)


def test_the_drawn_are_those_with_the_largest_numbers(stream):
    kept = passed(stream, 4, lambda f, first: examples.drawn(f, first, SPAN, 7))
    same(kept, oracle(stream, numbers(stream, 7), 4), 4)


def test_every_token_is_drawn_about_as_often():
    f = np.zeros((W, P, 400), np.float32)
    f[1, 2], f[5, 0], f[5, 7], f[9, 8] = 1, 2, 3, 4  # one of the four, by 400 features: two of them lie in one window
    kept = passed(f, 1, lambda f, first: examples.drawn(f, first, SPAN, 3))
    count = np.bincount(np.asarray(kept.value[:, 0]).astype(int), minlength=5)[1:]
    assert count.sum() == 400 and np.abs(count - 100).max() < 45, count  # five standard deviations


def test_quantiles_are_those_of_the_sorted_sample(stream):
    sample, n = passed(stream, 10, lambda f, first: examples.drawn(f, first, SPAN, 7)), 4
    at, there, bounds = jax.jit(examples.at_quantiles, static_argnums=1)(sample, n)
    for i in range(F):
        rows = [tuple(np.asarray(x[i, e]) for x in sample[1:4]) for e in range(10) if sample.rank[i, e] > 0]
        rows.sort(key=lambda row: (abs(row[2]), row[0], row[1]))
        m, seen = len(rows), set()
        for q in range(n):
            rank = int((q + 0.5) * m / n)
            assert bool(there[i, q]) == (m > 0 and rank not in seen)
            if m:
                seen.add(rank)
                assert (at.window[i, q], at.position[i, q], at.value[i, q]) == rows[rank]
                e = int(np.flatnonzero(np.asarray(sample.window[i]) == rows[rank][0])[0])
                np.testing.assert_array_equal(at.around[i, q], sample.around[i, e])
        ends = [abs(rows[min(q * m // n, m - 1)][2]) for q in range(n + 1)] if m else np.zeros(n + 1)
        np.testing.assert_array_equal(bounds[i], ends)
    assert there[4].sum() == 2 and not there[3].any()
