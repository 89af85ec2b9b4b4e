"""The law of known features is the law that is asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.data.known_features import FREE, KnownFeatures, compensated, draw_known, firing, law_of, push_apart
from interp_jax.errors import InputError

TREES = KnownFeatures(
    n_features=64, d_model=16, p_first=0.5, p_last=0.1, roots=2, children=3, depth=2, correlation=0.3
)
draw = jax.jit(draw_known, static_argnums=(1, 2, 4))


def test_firing_magnitudes_and_activations():
    cfg = KnownFeatures(n_features=40, d_model=12, p_first=0.4, p_last=0.01, correlation=0.0, mean_last=2.0)
    law = law_of(cfg)
    found = draw(law, cfg, 20_000, 3, "train", 0)
    c = np.asarray(found.coefficients)
    p, rate = np.asarray(firing(cfg)), (c > 0).mean(0)
    assert p[0] == pytest.approx(0.4) and p[-1] == pytest.approx(0.01) and (np.diff(p) < 0).all()
    assert (np.abs(rate - p) < 5 * np.sqrt(p * (1 - p) / len(c))).all()
    sizes = c[:, 0][c[:, 0] > 0]
    rng = np.random.default_rng(0)
    want = np.abs(1 + 0.5 * rng.normal(size=100_000))
    assert abs(sizes.mean() - want.mean()) < 5 * want.std() / len(sizes) ** 0.5
    np.testing.assert_allclose(found.x, c @ np.asarray(law.directions), atol=1e-4)


def test_features_fire_together_as_the_copula_says():
    """The correlation of the normal variables behind two features is the product of their rows."""
    cfg = KnownFeatures(n_features=6, d_model=4, p_first=0.5, p_last=0.5, rank=2, correlation=0.8)
    law = law_of(cfg)
    fires = np.asarray(draw(law, cfg, 40_000, 0, "train", 0).coefficients) > 0
    together = (fires[:, :, None] & fires[:, None]).mean(0)
    rho = np.asarray(law.shared @ law.shared.T)
    want = 0.25 + np.arcsin(rho) / (2 * np.pi)  # both above the median of a bivariate normal
    off = ~np.eye(6, dtype=bool)
    assert np.abs(together - want)[off].max() < 0.015
    assert np.ptp(want[off]) > 0.1


def test_trees_are_obeyed():
    law = law_of(TREES)
    parent = np.asarray(law.parent)
    assert (parent[:2] == FREE).all() and (parent[26:] == FREE).all()
    assert (
        parent[2:8].tolist() == [0, 0, 0, 1, 1, 1] and parent[8:26].tolist() == np.repeat(np.arange(2, 8), 3).tolist()
    )
    fires = np.asarray(draw(law, TREES, 5_000, 1, "train", 0).coefficients) > 0
    children = np.arange(2, 26)
    assert not (fires[:, children] & ~fires[:, parent[children]]).any()
    for node in range(8):
        own = np.flatnonzero(parent == node)
        assert fires[:, own].sum(1).max() == 1
        share = fires[:, own].sum(0)
        assert share.min() > 0.5 * share.max()  # whoever fires is drawn at random


def test_an_only_child_fires_as_often_as_it_is_told():
    cfg = KnownFeatures(
        n_features=12,
        d_model=4,
        p_first=0.6,
        p_last=0.1,
        roots=4,
        children=1,
        depth=2,
        correlation=0.0,
        compensated=True,
    )
    rate = (np.asarray(draw(law_of(cfg), cfg, 40_000, 1, "train", 0).coefficients) > 0).mean(0)
    p = np.asarray(firing(cfg))
    assert (np.abs(rate - p) < 5 * np.sqrt(p * (1 - p) / 40_000)).all()


def test_siblings_fire_the_more_often_the_more_they_are():
    parent = jnp.array([FREE, 0, 0, 0, FREE])
    p = jnp.array([0.5, 0.05, 0.1, 0.45, 0.3])
    raised = [0.1 * (1 + 0.55 / 0.5), 0.2 * (1 + 0.5 / 0.5), 1.0]
    np.testing.assert_allclose(compensated(p, parent), [0.5, *raised, 0.3], rtol=1e-6)


@pytest.mark.parametrize(("of_trees", "low", "high"), [(True, 33, 36), (False, 12, 15)])
def test_the_published_benchmark_has_as_many_active_features_as_published(of_trees, low, high):
    """About 34; not compensated, it would have 13."""
    cfg = KnownFeatures(
        n_features=16_384, d_model=2, roots=128, children=4, depth=3, orthogonalised=0, compensated=of_trees
    )
    assert low < (draw(law_of(cfg), cfg, 256, 0, "train", 0).coefficients > 0).sum(1).mean() < high


def test_features_differ_in_how_far_their_magnitudes_do():
    cfg = KnownFeatures(n_features=4_000, d_model=2, deviation=0.1, spread=0.1, orthogonalised=0)
    found, want = law_of(cfg).deviation, np.abs(0.1 + 0.1 * np.random.default_rng(0).normal(size=100_000))
    assert abs(found.mean() - want.mean()) < 5 * want.std() / 4_000**0.5 and (found >= 0).all()


def test_directions_are_pushed_apart():
    d = jax.random.normal(jax.random.key(0), (60, 20))
    before, after = (np.asarray(push_apart(d, steps)) for steps in (0, 300))
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1, rtol=1e-5)
    square = lambda u: np.square(u @ u.T).sum()
    least = 60**2 / 20  # of any 60 unit vectors in 20 dimensions (Welch)
    assert square(after) - least < 0.2 * (square(before) - least)


def test_draws_are_a_function_of_seed_stream_and_step():
    law = law_of(TREES)
    same, again = (draw(law, TREES, 8, 1, "train", 5).x for _ in range(2))
    np.testing.assert_array_equal(same, again)
    for other in ((2, "train", 5), (1, "test", 5), (1, "train", 6)):
        assert not np.array_equal(draw(law, TREES, 8, *other).x, same)
    assert jnp.isfinite(same).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"p_last": 0.9}, "data.p_first, data.p_last"),
        ({"correlation": 1.0}, "data.correlation"),
        ({"roots": 60}, "trees of .* features are more than n_features = 64"),
        ({"d_model": 0}, "at least 1"),
    ],
)
def test_impossible_laws_are_named(change, words):
    with pytest.raises(InputError, match=words):
        KnownFeatures(**({"n_features": 64, "roots": 2} | change)).check()
