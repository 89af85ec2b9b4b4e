"""The one entry of attribution: its two directions, what is compiled and when, methods of one's own, bad questions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.patching import metrics
from interp_jax.patching.attribution.estimates import attribute
from interp_jax.patching.attribution.gradients import gradient
from interp_jax.patching.attribution.integrated import Integrated
from interp_jax.patching.attribution.linearisation import linearise
from interp_jax.patching.attribution.relevance import Relevance
from interp_jax.patching.attribution.runs import Estimate
from interp_jax.patching.attribution.sites import attributable_sites, first_order, node_sites
from interp_jax.patching.attribution.star import softmax, star
from interp_jax.patching.prompts import DIRECTIONS, NOISING, prompts_of
from tests.models.transformer_oracle import BASE, FAMILY
from tests.patching.attribution.naive_patching import contrast, noisy

METRIC = metrics.logit_difference(np.array([1, 2, 3]), np.array([4, 5, 6]))
MLP = FAMILY["mlp"]
SITES = ("embed", "blocks.attn.k", "blocks.attn.z")
LINEAR = dataclasses.replace(BASE, norm="none", n_kv_heads=2, positions="learned")


def at_source(runs, sites):
    """A method of one's own: to first order, with the gradient of the source run."""
    (here, held), there = taps.record(runs.base, sites)(), linearise(runs.source, sites)
    effects = {s: first_order(s, there.activations[s] - held[s], there.gradients[s], runs.cfg) for s in sites}
    return Estimate(here, there.metric, effects)


@dataclasses.dataclass(frozen=True)
class Scaled:
    """Another, with an option."""

    factor: float

    def __call__(self, runs, sites):
        found = gradient(runs, sites)
        return found._replace(effects=jax.tree.map(lambda x: self.factor * x, found.effects))


def named(method):
    return getattr(method, "__name__", str(method))


def check_equal(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for site, nodes in found.items():
        np.testing.assert_allclose(nodes, expected[site], err_msg=site, **tolerance)


@pytest.mark.parametrize("method", [gradient, softmax, star, Integrated(3), Relevance()], ids=named)
def test_noising_is_denoising_of_the_prompts_exchanged(method):
    with jax.enable_x64(True):
        params, prompts = contrast(MLP)
        exchanged = prompts._replace(clean=prompts.corrupted, corrupted=prompts.clean)
        forth = attribute(params, MLP, prompts, METRIC, sites=SITES, method=method)
        back = attribute(params, MLP, prompts, METRIC, NOISING, SITES, method)
        other = attribute(params, MLP, exchanged, METRIC, sites=SITES, method=method)
        np.testing.assert_allclose([back.clean, back.corrupted], [forth.clean, forth.corrupted], rtol=1e-12)
        np.testing.assert_allclose([other.corrupted, other.clean], [forth.clean, forth.corrupted], rtol=1e-12)
        assert (jnp.abs(forth.clean - forth.corrupted) > 1e-3).all()
        assert (forth.direction, back.direction) == DIRECTIONS
        check_equal(back.effects, other.effects, rtol=1e-12)
        assert not np.allclose(back.effects["blocks.attn.z"], forth.effects["blocks.attn.z"])


def test_all_sites_and_both_directions_are_one_program(compilations):
    """Noising and denoising have the same two runs, and a run put into itself does nothing; in float64."""
    with jax.enable_x64(True):
        params, prompts = contrast(MLP)
        ask = lambda prompts, *direction: attribute(
            params, MLP, prompts, METRIC, *direction, sites=attributable_sites(MLP)
        )
        with compilations() as names:
            first = ask(prompts)
            back = ask(prompts, NOISING)
            none = ask(prompts._replace(clean=prompts.corrupted))
    assert names == ["estimate"]
    np.testing.assert_allclose(first.corrupted, back.corrupted, rtol=1e-12)
    np.testing.assert_allclose(first.clean, back.clean, rtol=1e-12)
    assert all(np.abs(nodes).max() < 1e-12 for nodes in jax.tree.leaves(none.effects))


def test_equal_methods_are_one_program(compilations):
    """Instances made anew with equal options; other options are another program."""
    params, prompts = contrast(LINEAR, jnp.float32)
    ask = lambda method: attribute(params, LINEAR, prompts, METRIC, sites="blocks.attn.v", method=method)
    for make in (lambda: Integrated(2, "trapezoid"), lambda: Relevance("half"), lambda: Scaled(2.0)):
        with compilations() as names:
            first, second = ask(make()), ask(make())
        assert names == ["estimate"]
        np.testing.assert_array_equal(first.effects["blocks.attn.v"], second.effects["blocks.attn.v"])
    with compilations() as names:
        other = ask(Scaled(-2.0))
    assert names == ["estimate"]
    np.testing.assert_array_equal(other.effects["blocks.attn.v"], -second.effects["blocks.attn.v"])


def test_a_method_of_ones_own_sees_both_runs(compilations):
    """With the source's gradient, effects are those of the other direction by the usual one, their sign turned."""
    with jax.enable_x64(True):
        params, prompts = contrast(MLP)
        with compilations() as names:
            found = [attribute(params, MLP, prompts, METRIC, direction, SITES, at_source) for direction in DIRECTIONS]
        assert names == ["estimate"]
        usual = [attribute(params, MLP, prompts, METRIC, direction, SITES) for direction in DIRECTIONS]
        for mine, same, other in zip(found, usual, usual[::-1], strict=True):
            check_equal(mine.effects, {site: -nodes for site, nodes in other.effects.items()}, atol=1e-12)
            np.testing.assert_allclose([mine.clean, mine.corrupted], [same.clean, same.corrupted], rtol=1e-12)
            assert not np.allclose(mine.effects["embed"], same.effects["embed"])


def test_a_method_of_ones_own_has_options():
    with jax.enable_x64(True):
        params, prompts = contrast(MLP)
        found = attribute(params, MLP, prompts, METRIC, NOISING, method=Scaled(-2.5))
        usual = attribute(params, MLP, prompts, METRIC, NOISING)
        assert set(found.effects) == set(node_sites(MLP))
        check_equal(found.effects, {site: -2.5 * nodes for site, nodes in usual.effects.items()}, rtol=1e-12)


@pytest.mark.parametrize(
    ("method", "direction"),
    [(Relevance("half"), "noising"), pytest.param(star, "denoising", marks=pytest.mark.slow)],
    ids=named,
)
def test_noise_is_in_the_activations_of_every_method(method, direction):
    """The same as tokens whose embeddings are the noisy ones: a table with a row for every place of either run."""
    with jax.enable_x64(True):
        params, prompts = contrast(BASE)
        prompts = noisy(BASE, prompts)
        found = attribute(params, BASE, prompts, METRIC, direction, SITES, method)
        rows = params["embed"]["W_E"][prompts.clean].reshape(21, -1)
        table = jnp.concatenate([rows, rows + prompts.noise.reshape(21, -1)])
        params["embed"]["W_E"], clean = table, jnp.arange(21).reshape(3, 7)
        renamed = prompts._replace(clean=clean, corrupted=clean + 21, noise=None)
        expected = attribute(params, BASE, renamed, METRIC, direction, SITES, method)
        check_equal(found.effects, expected.effects, atol=1e-12)
        np.testing.assert_allclose([found.clean, found.corrupted], [expected.clean, expected.corrupted], rtol=1e-12)
        assert (jnp.abs(found.clean - found.corrupted) > 1e-3).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompts": prompts_of(np.zeros((3, 7), int), np.full((3, 7), 11))}, "token 11 in row 0, column 0"),
        ({"direction": "denoise"}, "did you mean 'denoising'"),
        ({"sites": ("blocks.attn.zz",)}, "did you mean 'blocks.attn.z'"),
        ({"sites": ("logits",)}, "cannot attribute"),
        ({"sites": "pos_embed"}, "cannot attribute to 'pos_embed'"),
        ({"sites": ("blocks.mlp.post",)}, "cannot attribute"),
        ({"metric": metrics.rank(np.array([1, 2, 3]))}, "no gradient"),
        ({"metric": metrics.loss(np.array([1, 2, 11]))}, "token 11 of example 2"),
        ({"metric": metrics.logit_difference(np.array([1]), np.array([2]))}, "of 1 examples, the prompts are 3"),
    ],
)
def test_bad_input_is_named(change, words):
    params, prompts = contrast(LINEAR, jnp.float32)
    with pytest.raises(InputError, match=words):
        attribute(params, LINEAR, **{"prompts": prompts, "metric": METRIC} | change)


def rooted(logits, _):
    return jnp.sqrt(jnp.abs(logits[:, 0]) * jnp.array([1.0, 0.0, 1.0, 1.0])[: len(logits)])


def halved(logits, _):
    return logits[:, 0] * jnp.array([1.0, jnp.nan, 1.0, 1.0])[: len(logits)]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (halved, "metric 'mine' is nan on example 1"),
        (rooted, "effects at 'blocks.attn.z' are not finite on example 1"),
    ],
)
def test_what_is_not_finite_names_its_example(function, words):
    """A metric, or its gradient alone: that of a root at 0."""
    params, prompts = contrast(LINEAR, jnp.float32)
    with pytest.raises(InputError, match=words):
        attribute(params, LINEAR, prompts, metrics.custom("mine", function), sites="blocks.attn.z")
