"""What a planted model uses has its effect, what can only be read has none, and intervals cover."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig
from interp_jax.probes.erasure.eraser import Eraser, interchanged, stacked
from interp_jax.probes.erasure.labelled import (
    means,
    means_edit,
    transport,
    transport_edits,
    transported,
    without_means,
)
from interp_jax.probes.erasure.linear import least_change, projection, random_like
from interp_jax.probes.reliance import outlier_p, over_both, reliance, relied_on
from interp_jax.probes.removal import Measured, measured, measured_under
from tests.probes.planted_moments import moments_of, stacked_moments

D, B, L = 24, 40, 3
RNG = np.random.default_rng(0)
BASIS = np.linalg.qr(RNG.normal(size=(D, D)))[0]
USED, UNUSED = BASIS[:, :1].T, BASIS[:, 1:2].T
SIGN = np.sign(RNG.normal(size=B))
X = np.float32(SIGN[:, None] * (4 * USED + 4 * UNUSED) + RNG.normal(size=(B, D)))


def layer(x, scale):
    return taps.tap(x * scale, "blocks.resid_post"), None


def behaviour(params, data):
    """The used direction's number with the example's sign: both directions tell the sign alike."""
    x, sign = data
    x = taps.scan(layer, x, params)[0]
    return (x @ jnp.float32(USED[0])) * sign


ARGS = (jnp.array([1.0, 2.0, 0.5]), (jnp.array(X), jnp.float32(SIGN)))
TWO = stacked([projection(USED), projection(UNUSED)])
CLEAN = X @ USED[0] * SIGN


def test_what_is_used_is_told_from_what_is_only_there(compilations):
    controls = random_like(TWO, seed=0, n=39)
    with compilations() as names:
        found = measured(behaviour, ARGS, "blocks.resid_post", TWO, controls, np.array([1, 2]), batch=8)
        other = random_like(TWO, seed=1, n=39)
        again = measured(behaviour, ARGS, "blocks.resid_post", TWO, other, np.array([1, 0]), batch=8)
    np.testing.assert_array_equal(again.erased[0], found.erased[0])
    assert names.count("on_device") == 1
    np.testing.assert_allclose(found.clean, CLEAN, rtol=1e-5)
    np.testing.assert_allclose(found.erased[0], 0, atol=1e-5)
    np.testing.assert_allclose(found.erased[1], CLEAN, rtol=1e-4, atol=1e-5)
    v = np.asarray(controls.write)[5, 0, 0]
    np.testing.assert_allclose(found.control[5, 0], (X - np.outer(X @ v, v)) @ USED[0] * SIGN, rtol=1e-3, atol=1e-4)
    got = reliance(found)
    assert relied_on(got).tolist() == [True, False] and got.draws == 39
    np.testing.assert_allclose(got.effect.mean, [CLEAN.mean(), 0], atol=1e-5)
    assert got.p[0] == 1 / 40 and got.p[1] == 1.0 and got.excess.high[1] < got.excess.low[0]


def test_all_layers_and_a_mask():
    shape = lambda e: Eraser(*(np.stack([leaf] * L, 1) for leaf in e))
    controls = shape(random_like(TWO, 0, 2))
    controls = Eraser(*(np.swapaxes(leaf, 1, 2) for leaf in controls))
    where = (np.arange(B) < 10)[:, None]
    found = measured(behaviour, ARGS, "blocks.resid_post", shape(TWO), controls, where=where)
    np.testing.assert_allclose(found.erased[0, :10], 0, atol=1e-5)
    np.testing.assert_allclose(found.erased[0, 10:], CLEAN[10:], rtol=1e-5)


def test_an_interchange_carries_the_source_over():
    order = RNG.permutation(B)
    source = Eraser(np.stack([X[order]] * 2), *TWO[1:])
    assert source.centre.shape == interchanged(TWO, source.centre).centre.shape
    controls = random_like(source, 0, 2)
    found = measured(behaviour, ARGS, "blocks.resid_post", source, controls, np.array([0, 0]))
    np.testing.assert_allclose(found.erased[0], X[order] @ USED[0] * SIGN, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.erased[1], CLEAN, rtol=1e-4, atol=1e-5)


CFG = TransformerConfig(n_layers=2, d_model=16, n_heads=2, d_head=8, d_vocab=11, n_context=8)
PARAMS = jax.tree.map(lambda w: 2 * w, transformer.init(jax.random.key(0), CFG))
TOKENS = np.random.default_rng(5).integers(0, 11, (24, 8))
CLASS = TOKENS % 3


def margin(params, tokens):
    """The largest logit at the last position, of each window."""
    return transformer.apply(params, tokens, CFG)[:, -1].max(-1)


def in_transformer():
    """The stream after the first layer [B P D], and moments of its rows with classes of tokens, together and each by itself."""
    stream = lambda params, tokens: transformer.stream(params, tokens, CFG)
    _, acts = taps.record(stream, {"blocks.resid_post": (0,)})(PARAMS, TOKENS)
    x = np.asarray(acts["blocks.resid_post"][0], np.float64)
    rows, kind = x.reshape(-1, 16), CLASS.ravel()
    classes = [moments_of(rows[kind == c], np.zeros(((kind == c).sum(), 0))) for c in range(3)]
    return x, moments_of(rows, np.eye(3)[kind]), stacked_moments(classes)


def by_hand(x):
    """The margin of a stream after the first layer."""
    return transformer.unembed(PARAMS, transformer.blocks(PARAMS, jnp.float32(x), CFG, first_layer=1)[0], CFG)[
        :, -1
    ].max(-1)


def test_an_interchange_in_a_transformer_is_that_of_its_stream_by_hand():
    """At all positions, of another window; beside random subspaces of equal rank that are interchanged likewise."""
    x, moments, _ = in_transformer()
    eraser, order = least_change(moments), np.roll(np.arange(24), 7)
    source = stacked([interchanged(eraser, x[order])])
    controls = random_like(stacked([eraser]), 0, 3, moments.covariance[None])
    found = measured(margin, (PARAMS, TOKENS), "blocks.resid_post", source, controls, np.array([0]))
    np.testing.assert_allclose(found.erased[0], by_hand(x - (x - x[order]) @ eraser.read @ eraser.write), atol=1e-3)
    read, write = controls.read[1, 0], controls.write[1, 0]
    np.testing.assert_allclose(found.control[1, 0], by_hand(x - (x - x[order]) @ read @ write), atol=1e-3)
    assert np.abs(found.erased[0] - found.clean).max() > 0.1


@pytest.mark.parametrize("kind", ["means", "transport"])
def test_erasers_that_are_told_labels_are_measured_beside_shuffled_ones(kind):
    x, moments, classes = in_transformer()
    other = np.random.default_rng(6).permutation(CLASS.ravel()).reshape(CLASS.shape)
    by, edit = (means(moments), means_edit) if kind == "means" else (transport(classes), transport_edits)
    told = (lambda y: np.eye(3)[y]) if kind == "means" else (lambda y: y)
    edits = [edit(by, told(y), 0) for y in (CLASS, other)]
    found = measured_under(margin, (PARAMS, TOKENS), "blocks.resid_post", edits[:1], [edits[1:], edits[:1]], batch=2)
    np.testing.assert_array_equal(found.control[1], found.erased)
    for values, y in ((found.erased[0], CLASS), (found.control[0, 0], other)):
        rows = x.reshape(-1, 16)
        left = without_means(by, rows, np.eye(3)[y.ravel()]) if kind == "means" else transported(by, rows, y.ravel())
        np.testing.assert_allclose(values, by_hand(left.reshape(x.shape)), atol=2e-3)
    np.testing.assert_allclose(found.clean, by_hand(x), atol=1e-4)
    with pytest.raises(InputError, match=r"1 edits and \[2\] controls: each draw has a control for each edit"):
        measured_under(margin, (PARAMS, TOKENS), "blocks.resid_post", edits[:1], [edits])
    with pytest.raises(InputError, match="all are of one structure and shape"):
        measured_under(margin, (PARAMS, TOKENS), "blocks.resid_post", edits[:1], [[edit(by, told(CLASS[:2]), 0)]])


def test_intervals_cover_over_2000_seeds():
    """Examples, draws and both vary; the true excess is 0.3, of which an exact binomial test must not reject 95%."""
    rng, n_seeds = np.random.default_rng(1), 2000
    clean = np.zeros(30)
    hits, of_effects = 0, 0
    for _ in range(n_seeds):
        example = rng.normal(size=30)
        effect = 0.8 + example + rng.normal(size=30)
        control = 0.5 + 0.6 * rng.normal(size=(12, 1)) + 0.5 * example + 0.5 * rng.normal(size=(12, 30))
        got = reliance(Measured(clean, -effect[None], -control[:, None]))
        hits += got.excess.low[0] <= 0.3 <= got.excess.high[0]
        of_effects += got.effect.low[0] <= 0.8 <= got.effect.high[0]
    for count in (hits, of_effects):
        assert scipy.stats.binomtest(count, n_seeds, 0.95).pvalue > 1e-3, count / n_seeds


@pytest.mark.parametrize("draws", [2, 3, 10])
def test_intervals_of_few_draws_cover_too(draws):
    """At least as often as they say, where most of the variance is of draws and where least is."""
    rng, n_seeds = np.random.default_rng(3), 2000
    for spread in (0.1, 0.6, 2.0):
        example = rng.normal(size=(n_seeds, 30))
        effect = 0.8 + example + rng.normal(size=(n_seeds, 30))
        control = 0.5 + spread * rng.normal(size=(draws, n_seeds, 1)) + 0.5 * example
        control = control + 0.5 * rng.normal(size=(draws, n_seeds, 30))
        got = over_both(effect - control.mean(0), control.mean(-1), 0.95)
        hits = int(((got.low <= 0.3) & (0.3 <= got.high)).sum())
        assert scipy.stats.binomtest(hits, n_seeds, 0.95, "less").pvalue > 1e-3, (spread, hits / n_seeds)


@pytest.mark.parametrize("draws", [3, 10])
def test_a_subspace_like_any_other_is_no_outlier_more_often_than_it_is_said(draws):
    """Its interval is about itself: that it lies above 0 is no sign of use, where directions differ in what they cost."""
    rng, n_seeds = np.random.default_rng(4), 4000
    cost = rng.normal(size=(1 + draws, n_seeds, 1)) + 0.7 * rng.normal(size=(1 + draws, n_seeds, 30))
    examples, of_draws = cost[0] - cost[1:].mean(0), cost[1:].mean(-1)
    called = outlier_p(examples, of_draws) <= 0.05
    assert scipy.stats.binomtest(int(called.sum()), n_seeds, 0.05, "greater").pvalue > 1e-3, called.mean()
    assert called.mean() > 0.03
    assert (over_both(examples, of_draws, 0.9).low > 0).mean() > 0.1
    far = outlier_p(examples + 40, of_draws)
    assert np.median(far) < 1e-3 and np.allclose(outlier_p(-examples, of_draws), 1 - outlier_p(examples, of_draws))


def test_p_is_uniform_where_the_subspace_is_random_itself():
    rng = np.random.default_rng(2)
    p = []
    for _ in range(500):
        draws = rng.normal(size=(20, 1, 1)) + 0.3 * rng.normal(size=(20, 1, 25))
        p.append(reliance(Measured(np.zeros(25), draws[0], draws[1:])).p[0])
    assert scipy.stats.kstest(np.array(p) - rng.uniform(0, 0.05, 500), "uniform").pvalue > 1e-3
    assert np.mean(np.array(p) <= 0.05) < 0.09


def test_what_cannot_be_is_refused():
    controls = random_like(TWO, 0, 2)
    run = lambda *args, **more: measured(behaviour, ARGS, "blocks.resid_post", *args, **more)
    with pytest.raises(InputError, match="controls have read"):
        run(TWO, Eraser(*(leaf[:, :1] for leaf in controls)), np.array([0, 0]))
    with pytest.raises(InputError, match="2 subspaces, but layers of shape"):
        run(TWO, controls, np.array([0]))
    bad = TWO._replace(centre=np.where(np.arange(2)[:, None] == 1, np.nan, TWO.centre))
    with pytest.raises(InputError, match="the behaviour of subspace 1 is nan on example 0"):
        run(bad, controls, np.array([0, 0]))
    with pytest.raises(InputError, match="1 random subspace"):
        reliance(Measured(np.zeros(4), np.zeros((1, 4)), np.zeros((1, 1, 4))))
    with pytest.raises(InputError, match="level"):
        reliance(Measured(np.zeros(4), np.zeros((1, 4)), np.zeros((2, 1, 4))), 95.0)
    with pytest.raises(taps.TapError, match="did you mean 'blocks.resid_post'"):
        measured(behaviour, ARGS, "blocks.resid_pots", TWO, controls, np.array([0, 0]))
