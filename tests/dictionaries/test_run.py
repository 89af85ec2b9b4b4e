"""Training: known features are recovered, members are masked as they say, dead features come back, what is not finite stops."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import parts
from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.chosen import is_sparse
from interp_jax.dictionaries.config import KINDS, Dictionary
from interp_jax.dictionaries.dead import resample
from interp_jax.dictionaries.judged import Batch, Situation
from interp_jax.dictionaries.parameters import initial
from interp_jax.dictionaries.run import dictionary_run, gradient
from interp_jax.errors import InputError
from interp_jax.parts import hyper, part
from interp_jax.train.optimizer import Optimizer
from interp_jax.train.population import population
from interp_jax.train.run import ALIVE, Span

N, D = 12, 8  # features and dimensions


@part
class Config:
    seed: int = hyper(0)
    steps: int = 400
    scale: float = hyper(1.0)
    dictionary: Dictionary = Dictionary(
        d_in=D,
        n_features=16,
        most=4,
        k=2,
        sparsity=0.05,
        products="sparse",
        first_threshold=0.1,
        bandwidth=0.2,
        dead_after=5_000,
    )
    optimizer: Optimizer = Optimizer(learning_rate=1e-2, clip_norm=1.0)


def directions():
    return np.linalg.qr(np.random.default_rng(0).normal(size=(D, D)))[0].astype(np.float32)


def draw(hypers, shared, seed, step):
    """Two of eight orthonormal features, of sizes around 1."""
    key = jax.random.fold_in(jax.random.key(7), step)
    chance, size = jax.random.uniform(key, (2, 256, D))
    fires = chance >= jax.lax.top_k(chance, 2)[0][:, 1:]
    x = hypers.scale * jnp.where(fires, 0.5 + size, 0.0) @ shared
    return Batch(x, x)


RUN = dictionary_run(draw, lambda hypers: (hypers.dictionary, hypers.optimizer, hypers.steps))


def with_dictionary(**changes):
    config = Config()
    return dataclasses.replace(config, dictionary=dataclasses.replace(config.dictionary, **changes))


def grown(config, steps=400):
    span = Span(np.int32(0), np.int32(steps))
    grow = jax.jit(lambda config: RUN.advance(RUN.init(config.seed, config), config, span, directions()))
    return grow(config)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "cross_layer"])
def test_every_kind_recovers_orthonormal_features(kind):
    state, metrics = grown(with_dictionary(kind=kind, sparsity=0.2, prefixes=(0.5, 1.0)), 2_000)
    W = np.asarray(state.params["W_dec"])
    cosines = np.abs(W / np.linalg.norm(W, axis=1, keepdims=True) @ directions().T)
    assert cosines.max(0).mean() > 0.95
    assert state.diverged_at == ALIVE and np.isfinite(metrics["loss"])


def test_batch_topk_is_as_sparse_outside_of_training_as_it_was_told():
    """Of two features that are there one is told; training goes on, and its threshold goes along."""
    config = with_dictionary(kind="batch_topk", k=1)
    state, _ = grown(config, 400)
    f = dictionary.encode(state.params, draw(config, directions(), 0, 10_000).x, config.dictionary)
    assert float((f > 0).sum(1).mean()) == pytest.approx(1, abs=0.07)


def test_a_population_trains_members_of_different_k_width_and_rate_in_one_program(compilations):
    """Each member is what it is alone; rows of the decoder stay unit."""
    configs = [with_dictionary(k=k, width=width) for k, width in ((1, 0), (2, 12), (3, 0))]
    span = Span(np.int32(0), np.int32(20))
    grow = population(
        lambda config, shared: RUN.advance(RUN.init(config.seed, config), config, span, shared), 1, jax.devices()[:1]
    )
    members = parts.stack(configs)
    with compilations() as names:
        state, metrics = grow(members, directions())
        grow(jax.tree.map(lambda x: x[::-1], members), directions())
    assert len([name for name in names if "on_device" in name or "lambda" in name]) <= 1
    for i, config in enumerate(configs):
        alone, said = grown(config, 20)
        np.testing.assert_allclose(state.params["W_dec"][i], alone.params["W_dec"], atol=1e-5)
        np.testing.assert_allclose(metrics["loss"][i], said["loss"], rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(state.params["W_dec"], axis=-1), 1, rtol=1e-5)
    assert metrics["l0"][0] <= 1 < metrics["l0"][2] <= 3


def test_a_stream_that_becomes_infinite_stops_the_member_alone():
    configs = [Config(), Config(scale=float("inf"))]
    span = Span(np.int32(0), np.int32(5))
    grow = population(
        lambda config, shared: RUN.advance(RUN.init(config.seed, config), config, span, shared), 1, jax.devices()[:1]
    )
    state, _ = grow(parts.stack(configs), directions())
    assert state.diverged_at.tolist() == [ALIVE, 0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def test_features_that_are_silent_are_counted_and_started_anew():
    config = with_dictionary(k=1, dead_after=300, auxiliary="none")
    state, metrics = grown(config, 3)
    silent = np.asarray(state.memory.silent)
    assert set(silent.tolist()) <= {0, 256, 512, 768} and metrics["dead"] > 0
    dead = jnp.asarray(silent >= 512)
    x = draw(config, directions(), 0, 0).x
    fresh = resample(jax.random.key(0), state.params, x, x, dead)
    unit = lambda v: v / np.linalg.norm(v, axis=-1, keepdims=True)
    towards = unit(np.asarray(x) - np.asarray(state.params["b_dec"]))
    cosines = np.abs(unit(np.asarray(fresh["W_dec"])) @ towards.T).max(1)
    assert np.allclose(cosines[np.asarray(dead)], 1, atol=1e-5)
    for name, old in state.params.items():
        alive = ~np.asarray(dead) if np.shape(old)[:1] == dead.shape else slice(None)
        np.testing.assert_array_equal(np.asarray(fresh[name])[alive], np.asarray(old)[alive])


def test_dead_features_are_started_anew_while_a_run_goes_on():
    """At its steps, with moments of 0 and counted from then; between them nothing is changed. In float64, in two programs."""
    config = with_dictionary(k=1, n_features=64, dead_after=512, auxiliary="none", resample_every=4)
    config.dictionary.check()
    never = dataclasses.replace(config, dictionary=dataclasses.replace(config.dictionary, resample_every=0))
    with jax.enable_x64(True):
        (three, four), (early, plain) = ([grown(one, steps)[0] for steps in (3, 4)] for one in (config, never))
    same = partial(np.testing.assert_allclose, rtol=0, atol=1e-12)
    jax.tree.map(same, three, early)
    dead = np.asarray(plain.memory.silent) >= 512
    assert 0 < dead.sum() < 64
    np.testing.assert_array_equal(four.memory.silent, np.where(dead, 0, plain.memory.silent))
    W, old = np.asarray(four.params["W_dec"]), np.asarray(plain.params["W_dec"])
    same(W[~dead], old[~dead])
    assert np.abs(W - old)[dead].max(1).min() > 1e-3
    (adam,) = [s for s in jax.tree.leaves(four.opt_state, is_leaf=lambda s: hasattr(s, "mu")) if hasattr(s, "mu")]
    assert (np.asarray(adam.mu["W_enc"])[dead] == 0).all() and (np.asarray(adam.nu["W_enc"])[~dead] != 0).any()
    with pytest.raises(InputError, match="resample_every"):
        dataclasses.replace(config.dictionary, kind="matching_pursuit").check()


def test_first_parameters():
    cfg = Dictionary(d_in=D, n_features=16)
    params = initial(jax.random.key(0), cfg, 0.3)
    np.testing.assert_array_equal(params["W_enc"], params["W_dec"])
    np.testing.assert_allclose(np.linalg.norm(params["W_dec"], axis=1), 0.3, rtol=1e-5)
    other = initial(jax.random.key(0), dataclasses.replace(cfg, d_out=3))
    assert other["W_enc"].shape == (16, D) and other["W_dec"].shape == (16, 3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["standard", "gated", "jumprelu", "p_anneal"])
def test_l0_is_what_its_control_is_told(kind):
    """Fewer than the true two features, whatever weight it begins with."""
    for target, sparsity in ((1.5, 1.0), (1.0, 0.01)):
        config = with_dictionary(kind=kind, control="l0", target=target, sparsity=sparsity)
        state, _ = grown(config, 4_000)
        span = Span(np.int32(4_000), np.int32(4_500))
        _, metrics = jax.jit(RUN.advance)(state, config, span, directions())
        assert abs(metrics["l0"] - target) < 0.1 * target, (target, sparsity, state.memory.log_factor)


def test_what_is_told_its_sparsity_is_not_controlled():
    for changes in ({"kind": "topk"}, {"kind": "jumprelu", "penalty": "target"}):
        with pytest.raises(InputError, match="dictionary.control: .* is as sparse as it is told"):
            with_dictionary(control="l0", **changes).dictionary.check()


@pytest.mark.parametrize("dead_after", [100, 10**9], ids=["with dead features", "with none"])
def test_a_step_is_the_same_with_either_products(dead_after):
    """The auxiliary loss, which has a gradient of its own beside sparse products, included."""
    x = jax.random.normal(jax.random.key(0), (64, D))
    silent = jnp.arange(16, dtype=jnp.int32) * 20
    found = {}
    for products in ("sparse", "dense"):
        cfg = dataclasses.replace(with_dictionary(auxiliary_weight=1.0).dictionary, products=products)
        situation = Situation(jnp.float32(1), silent >= dead_after)
        params = dictionary.init(jax.random.key(1), cfg)
        judged, grads = jax.jit(gradient, static_argnums=2)(params, Batch(x, x), cfg, situation)
        found[products] = {"loss": judged.loss, **grads}
    assert (found["dense"]["loss"] > 0) and set(found["sparse"]) == set(found["dense"])
    for name, want in found["dense"].items():
        np.testing.assert_allclose(found["sparse"][name], want, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("kind", ["standard", "topk"])
def test_a_run_warms_up_by_its_own_steps(kind):
    """Of eight steps the first four: what step t says is of t / 8, whatever span it falls into."""
    own = {"kind": kind, "sparsity": 0.8, "sparsity_warmup": 0.5, "most": 4, "k": 1, "auxiliary": "none"}
    config = dataclasses.replace(with_dictionary(**own), steps=8)
    state, advance = RUN.init(0, config), jax.jit(RUN.advance)
    for t, k in zip(range(6), (4, 3, 2, 2, 1, 1), strict=True):
        state, said = advance(state, config, Span(np.int32(t), np.int32(t + 1)), directions())
        if kind == "topk":
            assert k - 0.5 < said["l0"] <= k
        else:
            weight = 0.8 * min(1, t / 4)
            np.testing.assert_allclose(said["loss"], said["error"] + weight * said["penalty"], rtol=1e-5)


@pytest.mark.parametrize(("n_features", "products"), [(127, "dense"), (128, "sparse")])
def test_few_features_have_sparse_products_on_a_cpu(n_features, products):
    cfg = Dictionary(kind="topk", d_in=D, n_features=n_features, most=4, k=1)
    assert is_sparse(cfg) == (products == "sparse" and jax.default_backend() == "cpu")
    assert is_sparse(dataclasses.replace(cfg, products="sparse"))
