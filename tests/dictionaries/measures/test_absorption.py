"""Absorption of dictionaries whose features are written down: none, all, and half of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.data.known_features import KnownFeatures, draw_known, law_of
from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.measures.absorption import absorption, has_child, recalls
from interp_jax.dictionaries.measures.recovery import cosines

LAW = KnownFeatures(n_features=8, d_model=16, exponent=0.0, p_first=0.4, p_last=0.4, roots=2, children=3, depth=1, rank=1,
                    correlation=0.0, deviation=0.0, orthogonalised=3_000)  # fmt: skip


def measured(absorbing):
    """Of a dictionary with a feature for each true one; children's rows of `absorbing` parents hold the parent too, and the
    parents' encoders are silenced by them."""
    law = law_of(LAW)
    d = np.asarray(law.directions)
    W_enc, W_dec = d.copy(), d.copy()
    for child, parent in enumerate(np.asarray(law.parent)):
        if parent in absorbing:
            W_dec[child] += d[parent]
            W_enc[parent] -= d[child]
    cfg = Dictionary(kind="standard", d_in=16, n_features=8)
    params = dictionary.init(jax.random.key(0), cfg)
    params |= {"W_enc": jnp.array(W_enc), "W_dec": jnp.array(W_dec), "b_enc": jnp.full(8, -0.4)}
    examples = draw_known(law, LAW, 4_096, 0, "test", 0)
    C = np.asarray(cosines(d, d))  # each stands for its own
    counts = recalls(dictionary.encode(params, examples.x, cfg), examples.coefficients, law.parent, jnp.arange(8))
    return absorption(counts, C.max(0)), counts


@pytest.mark.parametrize(("absorbing", "want"), [((), 0.0), ((0, 1), 1.0), ((1,), 0.5)])
def test_what_is_planted_is_found(absorbing, want):
    found, _ = measured(absorbing)
    np.testing.assert_allclose(found, (1, 1 - want, want), atol=0.01)


def test_counts_are_those_of_the_examples():
    law = law_of(LAW)
    there = np.asarray(draw_known(law, LAW, 512, 0, "test", 0).coefficients != 0)
    children = {p: [c for c in range(8) if law.parent[c] == p] for p in range(8)}
    want = np.stack([there[:, children[p]].any(1) for p in range(8)], axis=1)
    np.testing.assert_array_equal(has_child(jnp.array(there), law.parent), want)
    _, counts = measured(())
    np.testing.assert_array_equal(counts.with_child[2:], 0)


def test_without_children_there_is_nothing_to_say():
    there = jnp.ones((4, 3))
    counts = recalls(there, there, jnp.full(3, -1), jnp.arange(3))
    assert all(np.isnan(x) for x in absorption(counts, np.ones(3)))
