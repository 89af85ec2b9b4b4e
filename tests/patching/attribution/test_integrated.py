"""Integrated gradients are complete, and equal to attribution where the gradient is the same all along: in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.patching import metrics
from interp_jax.patching.attribution.estimates import attribute
from interp_jax.patching.attribution.integrated import Integrated, quadrature
from interp_jax.patching.attribution.linearisation import linearise
from interp_jax.patching.prompts import DENOISING, DIRECTIONS, measure, roles
from tests.models.transformer_oracle import BASE, FAMILY
from tests.patching.attribution.naive_patching import contrast, noisy

METRIC = metrics.log_probability(np.array([1, 2, 3]))
LINEAR = dataclasses.replace(BASE, norm="none", positions="learned")


@pytest.mark.parametrize(
    ("name", "norm_eps", "steps", "error"),
    [
        ("mlp", 1.0, 20, 1e-10),
        # norms bend the path sharply where mixed embeddings are small
        pytest.param("mlp", 1e-5, 200, 1e-6, marks=pytest.mark.slow),
        pytest.param("encoder", 1.0, 20, 1e-10, marks=pytest.mark.slow),
    ],
)
def test_effects_of_the_embeddings_sum_to_the_difference_of_the_runs(name, norm_eps, steps, error):
    cfg = dataclasses.replace(FAMILY[name], norm_eps=norm_eps)
    with jax.enable_x64(True):
        params, prompts = contrast(cfg)
        sites = ("embed", "blocks.resid_pre")
        whole = attribute(params, cfg, prompts, METRIC, sites=sites, method=Integrated(steps))
        np.testing.assert_allclose(whole.effects["embed"].sum(-1), whole.clean - whole.corrupted, atol=error)
        assert (jnp.abs(whole.clean - whole.corrupted) > 1e-3).all()
        if not cfg.embed_norm:
            np.testing.assert_allclose(whole.effects["blocks.resid_pre"][0], whole.effects["embed"], atol=1e-10)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_effects_of_noise_sum_to_the_difference_of_the_runs(direction):
    """The same tokens on both sides: the path is that of the embeddings, from the noisy ones or to them."""
    cfg = dataclasses.replace(FAMILY["mlp"], norm_eps=1.0)
    with jax.enable_x64(True):
        params, prompts = contrast(cfg)
        prompts = noisy(cfg, prompts)
        whole = attribute(params, cfg, prompts, METRIC, direction, "embed", Integrated(20))
        rise = whole.clean - whole.corrupted
        effects = whole.effects["embed"] if direction == DENOISING else -whole.effects["embed"]
        np.testing.assert_allclose(effects.sum(-1), rise, atol=1e-10)
        assert (jnp.abs(rise) > 1e-3).all()
        moved = (prompts.noise != 0).any(-1)
        assert (effects[~moved] == 0).all() and (effects[:2][moved[:2]] != 0).all()


def test_equals_attribution_where_the_model_is_linear():
    with jax.enable_x64(True):
        params, prompts = contrast(LINEAR)
        for weight in ("W_Q", "b_Q"):
            params["blocks"]["attn"][weight] *= 0.0
        metric = metrics.logit_difference(np.array([1, 2, 3]), np.array([4, 5, 6]))
        first_order = attribute(params, LINEAR, prompts, metric)
        path = attribute(params, LINEAR, prompts, metric, method=Integrated(3))
        for site, nodes in path.effects.items():
            np.testing.assert_allclose(nodes, first_order.effects[site], atol=1e-12, err_msg=site)


def test_averages_the_gradients_of_runs_on_mixed_embeddings(compilations):
    """Against a loop over the points, at a site in the middle; the trapezoid of two is the mean of both runs' gradients."""
    cfg = FAMILY["mlp"]
    sites = ("blocks.attn.k", "blocks.mlp.post")
    with jax.enable_x64(True):
        params, prompts = contrast(cfg)
        start, end = (params["embed"]["W_E"][tokens] for tokens in (prompts.corrupted, prompts.clean))
        run = lambda: measure(params, roles(prompts, DENOISING)[0], cfg, prompts, METRIC)

        @jax.jit
        def at_point(point):
            mixed = taps.Edit("replace", (1 - point) * start + point * end)
            return linearise(lambda: taps.edit(run)({"embed": mixed}), sites)

        here, there = (at_point(float(p)) for p in (0, 1))
        with compilations() as names:
            found = attribute(params, cfg, prompts, METRIC, sites=sites, method=Integrated(2, "trapezoid"))
        assert names == ["estimate"]
        for site in sites:
            gradient = (here.gradients[site] + there.gradients[site]) / 2
            products = (there.activations[site] - here.activations[site]) * gradient
            expected = products.sum(-1) if site == "blocks.attn.k" else products
            np.testing.assert_allclose(found.effects[site], expected, atol=1e-12, err_msg=site)


@pytest.mark.parametrize(("rule", "steps", "degree"), [("gauss", 3, 5), ("trapezoid", 5, 1), ("riemann", 4, 0)])
def test_quadratures_are_exact_up_to_their_degree(rule, steps, degree):
    points, weights = quadrature(rule, steps)
    errors = [abs(weights @ points**n - 1 / (n + 1)) for n in range(degree + 2)]
    assert max(errors[:-1]) < 1e-14 and errors[-1] > 1e-4
    assert len(points) == steps and points.min() >= 0 and points.max() <= 1


@pytest.mark.parametrize(
    ("options", "words"),
    [({"rule": "gaus"}, "did you mean 'gauss'"), ({"steps": 0}, "at least 1"),
     ({"rule": "trapezoid", "steps": 1}, "at least 2")],
)  # fmt: skip
def test_bad_options_are_named_before_any_run(options, words):
    with pytest.raises(InputError, match=words):
        Integrated(**options)
