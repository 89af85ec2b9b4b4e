"""How often features fire, and how strongly: against NumPy's histogram."""

import jax
import numpy as np

from interp_jax.dictionaries.measures.activity import activity, add, log_edges


def test_histogram_and_firings_are_numpys():
    rng = np.random.default_rng(0)
    f = np.where(rng.random((300, 7)) < 0.3, rng.normal(size=(300, 7)) * 10 ** rng.uniform(-3, 3, (300, 7)), 0)
    f = f.astype(np.float32)
    f[:, 6] = 0
    edges = log_edges(0.01, 10, 4)
    f[:3, 0] = edges[3], -edges[3], edges[-1]  # an edge belongs to the bin above it
    found = jax.jit(add)(*(jax.jit(activity)(part, edges) for part in (f[:200], f[200:])))
    size, inner = np.abs(f), edges[1:-1]
    for i in range(7):
        there = size[:, i][f[:, i] != 0]
        expected = np.histogram(there, np.concatenate([[0], inner, [np.inf]]))[0]
        np.testing.assert_array_equal(found.histogram[i], expected)
        assert found.fired[i] == len(there) == expected.sum()


def test_edges_are_even_in_the_logarithm():
    edges = log_edges(0.01, 100, 10)
    assert len(edges) == 41 and edges[0] == np.float32(0.01) and edges[-1] == np.float32(100)
    np.testing.assert_allclose(np.diff(np.log10(edges)), 0.1, rtol=1e-4)
