"""Probes that keep positions go everywhere as others do: shapes of results, and what is padded counts for nothing."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.probes import attention_pooled, structural
from interp_jax.probes.everywhere import Examples, everywhere
from interp_jax.probes.splits import held_out

RNG = np.random.default_rng(0)
B, P, D = 240, 4, 5
FITTED = 160
SPLITS = held_out(np.arange(B) >= FITTED)


def probed(probe, x, y, hypers, most_steps=30, **static):
    probe = probe._replace(fit=partial(probe.fit, most_steps=most_steps, tolerance=1e-3, **static))
    return everywhere(probe, Examples(jnp.float32(x), y[None]), SPLITS, hypers, axes={"layer": range(2)})


def test_depths_find_the_layer_with_the_tree():
    """Squared lengths along one direction; words that are not there, -1, do not count."""
    x = RNG.normal(size=(2, B, P, D))
    y = np.square(x[1, :, :, 0] - x[1, :, :, 0].mean())
    y[::2, 3] = -1
    found = probed(structural.DEPTHS, x, np.float32(y), structural.Hypers(), rank=1)
    r2 = found.measure("r2")[:, 0, 0, 0]
    assert r2[1] > 0.9 and r2[0] < 0.3 and found.measure("r2", "shuffled")[1, 0, 0, 0] < 0.3
    scores, truth = np.asarray(found.scores)[1, 0, 0, 0, 0, FITTED:], y[FITTED:]
    assert scores.shape == (B - FITTED, P)
    scores, truth = scores[truth >= 0], truth[truth >= 0]
    want = 1 - np.square(scores - truth).sum() / np.square(truth - truth.mean()).sum()
    np.testing.assert_allclose(r2[1], want, atol=1e-3)


def test_attention_finds_the_position_at_the_layer_where_it_is_and_padding_counts_for_nothing():
    """The label is a sign at a marked position; what stands at positions that are zero, beyond a text's end, is not read."""
    x, own, at = RNG.normal(size=(2, B, P, D)), RNG.choice([-1, 1], (B, P)), RNG.integers(0, P - 1, B)
    x[1] += 6 * (at[:, None] == np.arange(P))[..., None] * np.eye(D)[0] + 3 * own[..., None] * np.eye(D)[1]
    x[:, ::2, -1] = 0
    found = probed(attention_pooled.PROBE, x, (own[np.arange(B), at] > 0).astype(float), attention_pooled.Hypers(0.1))
    accuracy = found.measure("accuracy")[:, 0, 0, 0]
    assert accuracy[1] > 0.9 and accuracy[0] < 0.65 and found.measure("accuracy", "shuffled")[1, 0, 0, 0] < 0.65
    assert found.scores.shape == (2, 1, 1, 3, 1, B) and found.params.queries.shape == (2, 1, 1, 1, D, 1)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf[1, 0, 0, 0]), found.params)
    short = attention_pooled.predict(params, jnp.float32(x[1, ::2, :-1]))
    np.testing.assert_allclose(short, attention_pooled.predict(params, jnp.float32(x[1, ::2])), atol=1e-5)


@pytest.mark.slow
def test_distances_find_the_layer_with_the_tree_and_its_measure_is_numpys():
    x = 0.1 * RNG.normal(size=(2, B, P, D))
    along = np.cumsum(RNG.choice([0.5, 1.0], size=(B, P)), 1)
    x[1, :, :, 0] += along
    y = np.square(along[:, :, None] - along[:, None])
    y[::2, 3], y[::2, :, 3] = -1, -1  # every other text is shorter
    found = probed(structural.DISTANCES, x, np.float32(y), structural.Hypers(), most_steps=500, rank=2)
    r2 = found.measure("r2")[:, 0, 0, 0]  # 500: some begin near a saddle, which takes a hundred steps to leave
    shuffled = found.measure("r2", "shuffled")[1, 0, 0, 0]  # what positions alone say is in any order of texts
    assert r2[1] > 0.9 and r2[0] < 0.4 and r2[1] > shuffled + 0.1, (r2, shuffled)
    scores, truth = np.asarray(found.scores)[1, 0, 0, 0, 0, FITTED:], y[FITTED:]
    assert scores.shape == (B - FITTED, P, P) and np.isnan(np.asarray(found.scores)[:, :, :, :, :, :FITTED]).all()
    scores, truth = scores[truth >= 0], truth[truth >= 0]
    np.testing.assert_allclose(
        r2[1], 1 - np.square(scores - truth).sum() / np.square(truth - truth.mean()).sum(), atol=1e-4
    )
