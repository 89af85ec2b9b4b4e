"""The exact softmax against the model's own, one patched query or key at a time, and GradDrop where effects cancel."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching import metrics
from interp_jax.patching.attribution.estimates import attribute
from interp_jax.patching.attribution.linearisation import linearise
from interp_jax.patching.attribution.softmax import leave_one_out
from interp_jax.patching.attribution.star import softmax, star
from interp_jax.patching.prompts import DENOISING, measure, prompts_of, roles
from tests.models.transformer_oracle import BASE, FAMILY
from tests.patching.attribution.naive_patching import contrast, exact_effects

METRIC = metrics.logit_difference(np.array([1, 2, 3]), np.array([4, 5, 6]))
HEADS = ("blocks.attn.q", "blocks.attn.k", "blocks.attn.v")
ONE_LAYER = {
    "grouped, windowed rotary": dataclasses.replace(
        BASE, n_layers=1, norm="none", n_kv_heads=2, positions="rotary", window=3, rotary_gain=1.3
    ),
    "relative, capped": dataclasses.replace(
        BASE, n_layers=1, norm="none", n_kv_heads=1, positions="relative", attention_cap=1.5
    ),
}


@pytest.mark.parametrize("name", ONE_LAYER)
def test_equals_exact_patching_where_all_but_the_softmax_is_linear(name):
    cfg = ONE_LAYER[name]
    with jax.enable_x64(True):
        params, prompts = contrast(cfg)

        @jax.jit
        def exact(prompts):
            return [exact_effects(params, cfg, prompts, METRIC, site) for site in HEADS[:2]]

        padded = np.array([[-1, -1, 0, 1, 2, 3, 4], range(7), [-1, *range(6)]])
        for positions in (np.tile(np.arange(7), (3, 1)), padded):
            placed = prompts_of(prompts.clean, prompts.corrupted, positions, prompts.at)
            estimate = attribute(params, cfg, placed, METRIC, sites=HEADS, method=softmax).effects
            first_order = attribute(params, cfg, placed, METRIC, sites=HEADS).effects
            for site, truth in zip(HEADS, exact(placed), strict=False):
                np.testing.assert_allclose(estimate[site], truth, atol=1e-11, err_msg=site)
                assert jnp.abs(first_order[site] - truth).max() > 1e-2
            np.testing.assert_allclose(estimate["blocks.attn.v"], first_order["blocks.attn.v"], atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gated, windowed, scaled rotary", "sandwich, capped, local layers", "encoder"])
def test_equals_the_models_own_change_of_pattern(name):
    """Σ (pattern' - pattern) · ∂metric/∂pattern at the layer, with the pattern that the patched model makes."""
    cfg = FAMILY[name]
    with jax.enable_x64(True):
        params, prompts = contrast(cfg)
        base, source = roles(prompts, DENOISING)
        run = lambda given: measure(params, given, cfg, prompts, METRIC)
        here = linearise(lambda: run(base), ("blocks.attn.pattern",))
        before, slope = (part["blocks.attn.pattern"] for part in (here.activations, here.gradients))
        estimate = attribute(params, cfg, prompts, METRIC, sites=HEADS, method=softmax)
        acts = taps.record(run, HEADS)(source)[1]
        for site in HEADS[:2]:
            n_heads = acts[site].shape[3]
            nodes = jnp.eye(7 * n_heads, dtype=bool).reshape(-1, 1, 7, n_heads, 1)

            @jax.jit
            def change(layer, where, site=site):
                edits = {site: taps.Edit("replace", acts[site][layer], where, layer)}
                edited = lambda: taps.edit(run)(edits, base)
                after = taps.record(edited, ("blocks.attn.pattern",))()[1]["blocks.attn.pattern"]
                return ((after - before) * slope)[layer].sum((1, 2, 3))

            grid = [jax.lax.map(lambda where, layer=layer: change(layer, where), nodes) for layer in range(2)]
            expected = np.moveaxis(np.stack(grid), 1, 2).reshape(2, 3, 7, n_heads)
            np.testing.assert_allclose(estimate.effects[site], expected, atol=1e-10, err_msg=site)


def test_repairs_a_saturated_softmax():
    """Token 0 asks for token 2, token 1 for token 3, a thousand times louder than for all else."""
    with jax.enable_x64(True):
        cfg = TransformerConfig(
            n_layers=1, d_model=6, n_heads=1, d_head=4, d_vocab=6, norm="none", positions="none", biases="none"
        )
        W_Q, W_K = np.zeros((1, 1, 6, 4)), np.zeros((1, 1, 6, 4))
        W_Q[0, 0, 0, 0] = W_Q[0, 0, 1, 1] = 2000.0  # scores are halved: 1 / sqrt(4)
        W_K[0, 0, 2, 0] = W_K[0, 0, 3, 1] = 1.0
        W_V, W_O = np.zeros((1, 1, 6, 4)), np.zeros((1, 1, 4, 6))
        W_V[0, 0, 2, 0], W_V[0, 0, 3, 0], W_O[0, 0, 0, 4] = 1.0, -1.0, 1.0
        attn = {"W_Q": W_Q, "W_K": W_K, "W_V": W_V, "W_O": W_O}
        tables = {"embed": {"W_E": np.eye(6)}, "unembed": {"W_U": np.eye(6)}, "ln_final": {}}
        params = jax.tree.map(jnp.asarray, tables | {"blocks": {"ln1": {}, "attn": attn}})
        metric = metrics.logit_difference(np.array([4]), np.array([5]))
        asked = (params, cfg, prompts_of([[2, 3, 1]], [[2, 3, 0]]), metric)
        truth = exact_effects(*asked, "blocks.attn.q")
        assert truth[0, 0, 2, 0] == -2.0
        assert jnp.abs(attribute(*asked).effects["blocks.attn.q"]).max() < 1e-100
        repaired = attribute(*asked, method=softmax).effects["blocks.attn.q"]
        np.testing.assert_allclose(repaired, truth, atol=1e-12)
        # each key in turn: both asked for, and none
        asked = (params, cfg, prompts_of([[2, 3, 0]], [[3, 2, 0]]), metric)
        truth = exact_effects(*asked, "blocks.attn.k")
        np.testing.assert_allclose(truth[0, 0, :, 0], [-1.0, -1.0, 0.0], atol=1e-12)
        assert jnp.abs(attribute(*asked).effects["blocks.attn.k"]).max() < 1e-100
        repaired = attribute(*asked, method=softmax).effects["blocks.attn.k"]
        np.testing.assert_allclose(repaired, truth, atol=1e-12)


@pytest.mark.parametrize("spread", [1.0, 300.0, 3000.0])
def test_others_are_not_lost_beside_the_largest(spread):
    """Float32 against sums over the others alone in float64, where the largest drowns them."""
    rng = np.random.default_rng(0)
    scores, gain = spread * rng.normal(size=(40, 6)), rng.normal(size=(40, 6))
    scores[0, 1:] = scores[0, 0]  # equals
    scores, gain = np.float32(scores), np.float32(gain)
    others, mean = leave_one_out(jnp.asarray(scores), jnp.asarray(gain))
    for j in range(6):
        s, g = (np.delete(x, j, axis=1).astype(np.float64) for x in (scores, gain))
        top = s.max(1, keepdims=True)
        weight = np.exp(s - top)
        np.testing.assert_allclose(others[:, j], top[:, 0] + np.log(weight.sum(1)), rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(mean[:, j], (weight * g).sum(1) / weight.sum(1), atol=2e-4)


def test_a_single_key_has_no_effect():
    others, mean = leave_one_out(jnp.zeros((2, 1)), jnp.ones((2, 1)))
    assert jnp.isfinite(others).all() and (mean == 0).all()


def cancelling():
    """Layer 0 copies the token's number into the stream, which is read out; layer 1 takes it away again from what is read."""
    cfg = TransformerConfig(
        n_layers=2, d_model=3, n_heads=1, d_head=1, d_vocab=3, norm="none", positions="none", biases="none"
    )
    W_V, W_O = np.zeros((2, 1, 3, 1)), np.zeros((2, 1, 1, 3))
    W_V[0, 0, 0, 0], W_O[0, 0, 0, 1] = 1.0, 1.0
    W_V[1, 0, 1, 0], W_O[1, 0, 0, 1] = 1.0, -1.0
    zeros = np.zeros((2, 1, 3, 1))
    attn = {"W_Q": zeros, "W_K": zeros, "W_V": W_V, "W_O": W_O}
    W_E = np.zeros((3, 3))
    W_E[:, 0] = [0.0, 1.0, 2.0]
    params = {"embed": {"W_E": W_E}, "blocks": {"ln1": {}, "attn": attn}, "ln_final": {}}
    return jax.tree.map(jnp.asarray, params | {"unembed": {"W_U": np.eye(3)}}), cfg


def test_dropped_gradients_show_what_cancels():
    with jax.enable_x64(True):
        params, cfg = cancelling()
        metric = metrics.logit_difference(np.array([1]), np.array([2]))
        asked = (params, cfg, prompts_of([[2]], [[1]]), metric)
        signed, sizes = attribute(*asked), attribute(*asked, method=star)
        np.testing.assert_allclose(signed.effects["blocks.attn.z"].ravel(), [0.0, -1.0], atol=1e-14)
        # with layer 1 dropped the first head's 1 is seen, with layer 0 the second's: each in one of L - 1 = 1 terms
        np.testing.assert_allclose(sizes.effects["blocks.attn.z"].ravel(), [1.0, 1.0], atol=1e-14)
        np.testing.assert_allclose([sizes.clean, sizes.corrupted], [signed.clean, signed.corrupted])


def test_sizes_are_the_mean_over_dropped_layers_by_one_program(compilations):
    """Against models that lack a layer's gradient because its output is a constant, recorded before."""
    cfg = dataclasses.replace(BASE, d_mlp=5, n_layers=3, n_kv_heads=2, positions="rotary")
    sites = ("blocks.attn.k", "blocks.attn.z", "blocks.mlp.post", "blocks.resid_post")
    with jax.enable_x64(True):
        params, prompts = contrast(cfg)
        with compilations() as names:
            sizes = attribute(params, cfg, prompts, METRIC, sites=sites, method=star)
        assert names == ["estimate"]
        base, source = roles(prompts, DENOISING)
        run = lambda given: measure(params, given, cfg, prompts, METRIC)
        writes = ("blocks.attn.out", "blocks.mlp.out")
        acts = taps.record(run, (*sites, *writes))(base)[1]
        taken = taps.record(run, sites)(source)[1]

        @jax.jit
        def without(layer):
            edits = {site: taps.Edit("replace", acts[site][layer], layer=layer) for site in writes}
            return linearise(lambda: taps.edit(run)(edits, base), sites).gradients

        gradients = [without(layer) for layer in range(3)]
        for site in sites[1:]:
            products = [jnp.abs(((taken[site] - acts[site]) * g[site]).sum(-1)) for g in gradients]
            if site == "blocks.mlp.post":
                products = [jnp.abs((taken[site] - acts[site]) * g[site]) for g in gradients]
            np.testing.assert_allclose(sizes.effects[site], sum(products) / 2, atol=1e-12, err_msg=site)
        assert sizes.effects["blocks.attn.k"].shape == (3, 3, 7, 2)
        assert (sizes.effects["blocks.attn.k"][2, :2, -1].sum(-1) > 0).all()


def test_one_layer_leaves_nothing_to_drop():
    cfg = ONE_LAYER["relative, capped"]
    params, prompts = contrast(cfg, jnp.float32)
    with pytest.raises(InputError, match="at least 2"):
        attribute(params, cfg, prompts, METRIC, method=star)
