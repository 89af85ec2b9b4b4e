"""All grids of the comparison with peers do little more arithmetic than the least, whatever the batch and the memory."""

import jax
import numpy as np
import pytest

from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching import metrics
from interp_jax.patching.exact.nodes import each
from interp_jax.patching.exact.plan import plan_grid
from interp_jax.patching.paths.patch import every_head
from interp_jax.patching.paths.plan import plan_paths
from interp_jax.patching.paths.routes import route_of
from interp_jax.patching.prompts import prompts_of
from third_party.peers._patching_cones import cone, operations

GPT2 = TransformerConfig(
    n_layers=12, d_model=768, n_heads=12, d_head=64, d_mlp=3072, d_vocab=50257, n_context=1024, positions="learned"
)
GRIDS = {"residual pre": ("resid_pre", ("layer", "position")), "head outputs": ("attn.z", ("layer", "head"))}
GRIDS |= {f"head {c}": (f"attn.{c}", ("layer", "position", "head")) for c in "qkv"}


@pytest.mark.parametrize("batch", [1, 8])
def test_arithmetic_is_close_to_the_least(batch):
    params, devices = jax.eval_shape(lambda: transformer.init(jax.random.key(0), GPT2)), jax.devices()[:1]
    prompts = prompts_of(np.zeros((batch, 16), int), np.ones((batch, 16), int))
    metric = metrics.logit_difference(np.ones(batch, int), np.full(batch, 2))
    found = {}
    for name, (site, over) in GRIDS.items():
        grid = each(f"blocks.{site}", GPT2, 16, over=over)
        found[name] = plan_grid(params, GPT2, prompts, grid, metric, devices=devices).work
    for c in "qkv":
        for name, onward in ((f"paths to {c}", "all"), (f"direct paths to {c}", "direct")):
            words = {"receiver": c, "receivers": "each", "between": "nothing", "onward": onward}
            route = route_of(GPT2, words)
            found[name] = plan_paths(params, route, c, every_head(GPT2), prompts, metric, devices=devices).work
    for name, work in found.items():
        assert 1 < work.done / operations(name, cone(GPT2, 16), batch=1) < 1.2, name
