"""Probes that keep positions go everywhere as others do: shapes of results, and what is padded counts for nothing."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.probes import structural
from interp_jax.probes.everywhere import Examples, everywhere
from interp_jax.probes.splits import held_out

RNG = np.random.default_rng(0)
B, P, D = 240, 4, 5
FITTED = 160
SPLITS = held_out(np.arange(B) >= FITTED)


def probed(probe, x, y, hypers, **static):
    probe = probe._replace(fit=partial(probe.fit, most_steps=30, tolerance=1e-3, **static))
    return everywhere(probe, Examples(jnp.float32(x), y[None]), SPLITS, hypers, axes={"layer": range(2)})


@pytest.mark.slow
def test_distances_find_the_layer_with_the_tree_and_its_measure_is_numpys():
    x = 0.1 * RNG.normal(size=(2, B, P, D))
    along = np.cumsum(RNG.choice([0.5, 1.0], size=(B, P)), 1)
    x[1, :, :, 0] += along
    y = np.square(along[:, :, None] - along[:, None])
    y[::2, 3], y[::2, :, 3] = -1, -1  # every other text is shorter
    found = probed(structural.DISTANCES, x, np.float32(y), structural.Hypers(), rank=2)
    r2 = found.measure("r2")[:, 0, 0, 0]
    shuffled = found.measure("r2", "shuffled")[1, 0, 0, 0]  # what positions alone say is in any order of texts
    assert r2[1] > 0.9 and r2[0] < 0.4 and r2[1] > shuffled + 0.1, (r2, shuffled)
    scores, truth = np.asarray(found.scores)[1, 0, 0, 0, 0, FITTED:], y[FITTED:]
    assert scores.shape == (B - FITTED, P, P) and np.isnan(np.asarray(found.scores)[:, :, :, :, :, :FITTED]).all()
    scores, truth = scores[truth >= 0], truth[truth >= 0]
    np.testing.assert_allclose(
        r2[1], 1 - np.square(scores - truth).sum() / np.square(truth - truth.mean()).sum(), atol=1e-4
    )
