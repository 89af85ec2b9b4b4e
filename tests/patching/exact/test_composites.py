"""Several grids as one have the numbers of each by itself."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.patching import metrics
from interp_jax.patching.exact.composites import BLOCKS, PARTS, every_block, every_part, stack
from interp_jax.patching.exact.grids import patch_grid
from interp_jax.patching.exact.nodes import each
from interp_jax.patching.prompts import prompts_of
from tests.models.transformer_oracle import BASE, random_model

B, P = 2, 5
CFG = dataclasses.replace(BASE, n_layers=2, d_mlp=8, n_kv_heads=2, positions="rotary")
METRIC = metrics.logit_difference(np.array([1, 2]), np.array([3, 4]))


def run(grid):
    tokens = np.random.default_rng(0).integers(0, CFG.d_vocab, (2, B, P))
    return patch_grid(random_model(CFG)[0], CFG, prompts_of(*tokens), grid, METRIC).metric


@pytest.mark.parametrize("positions", [None, {"first": [0, 1], "last": [4, 3]}])
def test_blocks(positions):
    got = run(every_block(CFG, P, positions))
    for i, site in enumerate(BLOCKS):
        np.testing.assert_allclose(got[i], run(each(site, CFG, P, positions=positions)), atol=1e-5, err_msg=site)
    assert jnp.abs(got[0] - got[1]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("over", [("layer", "head"), ("layer", "position", "head")])
def test_parts_of_heads_that_share_keys(over):
    grid = every_part(CFG, P, over)
    got = run(grid)
    assert grid.axes[0].labels == ("z", "q", "k", "v", "pattern")
    assert grid.shape == (5, 2, 4) if len(over) == 2 else (5, 2, P, 4)
    for i, site in enumerate(PARTS):
        alone = run(each(site, CFG, P, over))
        np.testing.assert_allclose(got[i], alone if site[-1] not in "kv" else np.repeat(alone, 2, -2), atol=1e-5)


def test_without_mlps_there_are_two():
    assert every_block(dataclasses.replace(CFG, d_mlp=0), P).axes[0].labels == ("resid_pre", "attn.out")


def test_bad_input_is_named():
    with pytest.raises(InputError, match="'k' has axes .*'head 2'.*'head 4'"):
        stack({c: each(f"blocks.attn.{c}", CFG, P) for c in "qk"})
    with pytest.raises(InputError, match="no grids"):
        stack({})
