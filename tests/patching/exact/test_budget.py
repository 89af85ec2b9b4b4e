"""A long grid is computed in the memory that it is given, and its arithmetic is counted as by hand."""

import jax
import numpy as np
import pytest

from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching import metrics
from interp_jax.patching.exact import packing
from interp_jax.patching.exact.cone import Shared
from interp_jax.patching.exact.grids import program
from interp_jax.patching.exact.nodes import each
from interp_jax.patching.exact.plan import plan_grid, steps
from interp_jax.patching.exact.recordings import record_base
from interp_jax.patching.prompts import DENOISING, prompts_of, roles

METRIC = metrics.logit_difference(np.array([1]), np.array([2]))


def model(n_positions, **shape):
    cfg = TransformerConfig(
        **shape, d_vocab=50, n_context=n_positions, positions="learned", tied=True, biases="layers"
    )
    tokens = np.random.default_rng(0).integers(0, cfg.d_vocab, (2, 1, n_positions))
    return transformer.init(jax.random.key(0), cfg), cfg, prompts_of(*tokens)


@pytest.mark.slow
def test_a_long_grid_takes_the_memory_that_it_is_given():
    """12 layers × 1,024 positions: what the compiled program needs beside its arguments, not what 12,288 runs would."""
    params, cfg, prompts = model(1024, n_layers=12, d_model=32, n_heads=2, d_head=16, d_mlp=64)
    memory = 2.0**26
    plan = plan_grid(params, cfg, prompts, each("blocks.resid_pre", cfg, 1024), METRIC, memory=memory)
    assert plan.layout.cell[plan.layout.cell >= 0].size == 12 * 1024
    base = record_base(params, roles(prompts, DENOISING)[0], cfg, prompts)
    shared = Shared(params, base, prompts.positions, prompts.at, {"stream": base.streams}, METRIC)
    order = packing.balance(plan.layout, cfg.n_layers, len(plan.devices))
    compiled = program(plan.kind, plan.devices).lower(steps(plan, order), shared).compile()
    assert memory / 4 < compiled.memory_analysis().temp_size_in_bytes <= memory
    # a lane of two cells holds its scores at least: all lanes at once would need a hundred times as much
    at_once = 12 * 512 * cfg.n_heads * plan.layout.rows * (plan.layout.rows + 1024) * 4
    assert at_once > 100 * memory


def test_arithmetic_is_that_of_the_cells_cones():
    """Two layers, three positions, by hand: multiplications and additions of products, attention and two logits."""
    params, cfg, prompts = model(3, n_layers=2, d_model=8, n_heads=2, d_head=4, d_mlp=16)
    found = plan_grid(params, cfg, prompts, each("blocks.resid_pre", cfg, 3), METRIC).work
    row, look, logits = 2 * (4 * 8 * 8 + 2 * 8 * 16), 2 * 2 * 8, 2 * 8 * 2
    rows, seen = 3 + 2 + 1, (1 + 2 + 3) + (2 + 3) + 3  # of the cells that begin at each position
    assert found.cone == (2 + 1) * (rows * row + seen * look) + 6 * logits
    lanes, width = 2, 3 + 1  # a lane of both ends, one of the middle, each of four rows that look at 4 + 3 columns
    keys = 2 * 2 * 8 * 8
    full, last = width * (row + 7 * look), width * keys + 2 * (row - keys + 7 * look)
    assert found.done == lanes * (full + 2 * last) + 2 * lanes * 2 * logits
