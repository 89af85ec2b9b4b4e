"""Random parts of all layers as one grid are the same subspaces patched one after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.patching.exact import views
from interp_jax.patching.exact.grids import patch_grid
from interp_jax.patching.exact.nodes import each
from interp_jax.patching.exact.random_parts import patch_random_parts, random_bases, side_by_side
from tests.patching.exact.test_grids import METRIC, MODELS, B, P, model, prompts


def test_one_grid_is_a_loop_over_subspaces():
    cfg = MODELS["mlp"]
    with jax.enable_x64(True):
        given = model(cfg), cfg, prompts(cfg)
        got = patch_random_parts(*given, METRIC, "noising", n=3, seed=5)
        bases, grid = random_bases(cfg, 3, 5), each("blocks.attn.out", cfg, P, over=("layer",))
        for part, basis in enumerate(bases):
            want = patch_grid(*given, grid, METRIC, "noising", views.subspace(basis))
            assert np.abs(got.metric[:, part] - want.metric).max() < 1e-10
    assert got.metric.shape == (cfg.n_layers, 3, B) and [axis.name for axis in got.grid.axes] == ["layer", "part"]
    assert np.ptp(got.metric, axis=1).max() > 1e-3  # other parts do other things


def test_parts_are_random_as_wide_as_a_head_and_do_not_depend_on_how_many_there_are():
    cfg = MODELS["mlp"]
    bases = random_bases(cfg, 400, 0)
    assert bases.shape == (400, cfg.n_layers, cfg.d_model, cfg.d_head)
    np.testing.assert_allclose(np.einsum("...de,...df->...ef", bases, bases)[7, 1], np.eye(cfg.d_head), atol=1e-5)
    assert np.array_equal(random_bases(cfg, 2, 0), bases[:2]) and not np.allclose(random_bases(cfg, 2, 1), bases[:2])
    projections = np.einsum("nlde,nlfe->nldf", bases, bases).reshape(-1, cfg.d_model, cfg.d_model)
    expected = cfg.d_head / cfg.d_model * np.eye(cfg.d_model)  # no direction is preferred
    assert np.abs(projections.mean(0) - expected).max() < 5 * projections.std(0).max() / len(projections) ** 0.5


def test_a_part_that_is_everything_is_the_other_activation():
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0]
    x, source = jnp.asarray(np.random.default_rng(1).normal(size=(2, 5, 16)), jnp.float32)
    view = side_by_side(np.stack([basis, basis])[:, None])
    for where, expected in ((np.arange(32) < 16, source), (np.arange(32) >= 16, source), (np.zeros(32, bool), x)):
        np.testing.assert_allclose(view.exchange(x, source, jnp.asarray(where), 0), expected, atol=1e-5)


def test_no_parts_are_refused():
    cfg = MODELS["mlp"]
    with pytest.raises(InputError, match="0 random parts: there is nothing to patch"):
        patch_random_parts(model(cfg, np.float32), cfg, prompts(cfg), METRIC, n=0)
