"""Attribution is exact where the model is linear, and elsewhere the derivative of what patching does: in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.patching import metrics
from interp_jax.patching.attribution.estimates import attribute
from interp_jax.patching.attribution.sites import attributable_sites, node_axes
from interp_jax.patching.prompts import DIRECTIONS, measure, prompts_of, roles
from tests.models.transformer_oracle import BASE, FAMILY
from tests.patching.attribution.naive_patching import contrast, exact_effects, noisy

METRIC = metrics.logit_difference(np.array([1, 2, 3]), np.array([4, 5, 6]))
LINEAR = dataclasses.replace(BASE, norm="none", n_kv_heads=2, positions="relative")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_equals_exact_patching_where_the_model_is_linear(direction):
    """No norm, no MLP, and patterns that no query changes, but different ones in every head."""
    with jax.enable_x64(True):
        params, prompts = contrast(LINEAR)
        for weight in ("W_Q", "b_Q"):
            params["blocks"]["attn"][weight] *= 0.0
        estimate = attribute(params, LINEAR, prompts, METRIC, direction)
        run = jax.jit(exact_effects, static_argnums=(1, 4, 5))
        for site in ("blocks.resid_pre", "blocks.attn.v", "blocks.attn.z"):
            exact = run(params, LINEAR, prompts, METRIC, site, direction)
            np.testing.assert_allclose(estimate.effects[site], exact, atol=1e-10, err_msg=site)
        assert jnp.abs(estimate.effects["blocks.attn.v"]).max() > 0.1
        first = estimate.effects["blocks.resid_pre"][0].sum(-1)  # the whole stream is the whole run
        whole = (
            estimate.clean - estimate.corrupted if direction == "denoising" else estimate.corrupted - estimate.clean
        )
        np.testing.assert_allclose(first, whole, atol=1e-10)


SLOW = ("gated, windowed, scaled rotary", "sandwich, capped, local layers", "encoder")


@pytest.mark.parametrize("name", ["mlp", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_is_the_derivative_of_a_partial_patch(name):
    """Of every site: a random share of each node's difference is put in, times a small factor of either sign."""
    with jax.enable_x64(True):
        check_derivatives(FAMILY[name], *contrast(FAMILY[name]), "denoising")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_is_the_derivative_where_noise_corrupts(direction):
    with jax.enable_x64(True):
        params, prompts = contrast(FAMILY["mlp"])
        check_derivatives(FAMILY["mlp"], params, noisy(FAMILY["mlp"], prompts), direction)


def check_derivatives(cfg, params, prompts, direction):
    sites = tuple(attributable_sites(cfg))
    base, source = roles(prompts, direction)
    run = lambda params, given: measure(params, given, cfg, prompts, METRIC)
    there, acts = taps.record(run, sites)(params, source)
    estimate = attribute(params, cfg, prompts, METRIC, direction, sites)
    rng = np.random.default_rng(0)
    shares = {s: rng.normal(size=effects.shape) for s, effects in estimate.effects.items()}

    @jax.jit
    def patched(shares):
        wide = {s: x if x.ndim == acts[s].ndim else x[..., None] for s, x in shares.items()}
        return taps.edit(run)({s: taps.Edit("replace", acts[s], x) for s, x in wide.items()}, params, base)

    none, scale = {s: np.zeros_like(x) for s, x in shares.items()}, float(jnp.abs(there).max())
    for site in sites:
        one = lambda factor, site=site: patched(none | {site: factor * shares[site]})
        slope = (8 * (one(1e-4) - one(-1e-4)) - (one(2e-4) - one(-2e-4))) / 12e-4
        axes = node_axes(site, cfg)
        expected = jnp.moveaxis(shares[site] * estimate.effects[site], axes.index("B"), 0).reshape(3, -1).sum(1)
        np.testing.assert_allclose(slope, expected, atol=1e-6 * scale, rtol=1e-6, err_msg=site)


def test_nodes_have_the_axes_that_are_named():
    cfg = FAMILY["sandwich, capped, local layers"]
    params, prompts = contrast(cfg, jnp.float32)
    traced = jax.eval_shape(
        lambda p: attribute(p, cfg, prompts, METRIC, sites=attributable_sites(cfg)).effects, params
    )
    sizes = {"L": 2, "B": 3, "P": 7, "H": 4, "G": 2, "M": 16, "Q": 7, "K": 7}
    for site, nodes in traced.items():
        assert nodes.shape == tuple(sizes[axis] for axis in node_axes(site, cfg)), site
    assert node_axes("blocks.attn.k", cfg) == ("L", "B", "P", "G")
    assert node_axes("blocks.mlp.post", cfg) == ("L", "B", "P", "M")
    assert node_axes("blocks.attn.pattern", cfg) == ("L", "B", "H", "Q", "K")
    assert node_axes("embed", cfg) == ("B", "P")


def test_neighbouring_nodes_add_up():
    """Keys and what they are turned into are one node; the heads' results are the output of attention, without its bias."""
    cfg = FAMILY["relu, rms, rotary"]
    with jax.enable_x64(True):
        params, prompts = contrast(cfg)
        effects = attribute(params, cfg, prompts, METRIC, sites=attributable_sites(cfg)).effects
        for one, other in (("q", "rot_q"), ("k", "rot_k"), ("z", "result")):
            np.testing.assert_allclose(effects[f"blocks.attn.{one}"], effects[f"blocks.attn.{other}"], atol=1e-12)
        np.testing.assert_allclose(effects["blocks.attn.z"].sum(-1), effects["blocks.attn.out"], atol=1e-12)
        np.testing.assert_allclose(effects["blocks.mlp.post"].sum(-1), effects["blocks.mlp.out"], atol=1e-12)
        np.testing.assert_allclose(effects["embed"], effects["blocks.resid_pre"][0], atol=1e-12)


def test_padding_on_the_left_changes_nothing():
    cfg = FAMILY["mlp"]
    with jax.enable_x64(True):
        params, prompts = contrast(cfg)
        alone = attribute(params, cfg, prompts, METRIC)
        pad = lambda tokens, filler: np.pad(np.asarray(tokens), ((0, 0), (2, 0)), constant_values=filler)
        positions = np.tile(np.arange(-2, 7), (3, 1))
        positions[:, :2] = -1
        wider = prompts_of(pad(prompts.clean, 9), pad(prompts.corrupted, 3), positions, prompts.at + 2)
        padded = attribute(params, cfg, wider, METRIC)
        np.testing.assert_allclose(padded.corrupted, alone.corrupted, atol=1e-12)
        for site, nodes in padded.effects.items():
            np.testing.assert_allclose(nodes[:, :, 2:], alone.effects[site], atol=1e-12, err_msg=site)
            np.testing.assert_array_equal(nodes[:, :, :2], 0.0, err_msg=site)
