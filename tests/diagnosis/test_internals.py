"""Erasers, gradients inside a model, features, spectra and weights' features, each against an independent computation."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from interp_jax import taps
from interp_jax.activations.moments import Moments
from interp_jax.diagnosis import local_influence
from interp_jax.diagnosis.declared import Declared, declare
from interp_jax.diagnosis.diagnosers import (
    amnesic_reliance,
    dictionary_features,
    interchange_accuracy,
    patched_gradients,
    quantum_entropy,
    spectral_signature,
    variable_geometry,
)
from interp_jax.diagnosis.diagnosers_io import SHIPPED, load_diagnoser
from interp_jax.diagnosis.examination import Examinees, heeds_variables, made_of
from interp_jax.diagnosis.family import source_of
from interp_jax.diagnosis.family_io import load_family
from interp_jax.diagnosis.gradients import STREAM, gradient_at
from interp_jax.diagnosis.odds import odds, strongest
from interp_jax.diagnosis.pools import pools_of
from interp_jax.diagnosis.profiles import distance
from interp_jax.diagnosis.student import Student, model_config
from interp_jax.diagnosis.twins import twins
from interp_jax.diagnosis.variables import rest_of_all
from interp_jax.diagnosis.view import AccessError, View, guarded
from interp_jax.diagnosis.weight_features import features, participation, profiles
from interp_jax.diagnosis.within import dealt, largest, relative, unexplained
from interp_jax.dictionaries import dictionary
from interp_jax.models import transformer
from interp_jax.probes.erasure.linear import least_change

FAMILY = load_family("leak")
CFG = model_config(FAMILY, Student(d_model=8, n_heads=2, d_mlp=8))


@cache
def sample():
    params = jax.tree.map(lambda leaf: 2 * leaf, transformer.init(jax.random.key(0), CFG))
    x = np.asarray(pools_of(FAMILY).id_held.x)[::40]
    return params, x, declare(FAMILY, "f", x)


def view(tier=2, params=None):
    return View(sample()[0] if params is None else params, CFG, 11, sample()[1], tier, "mine")


def test_odds_are_differences_of_logits():
    logits = np.random.default_rng(0).normal(size=(20, 4))
    labels = np.arange(20) % 4
    rest = np.stack([np.delete(row, label) for row, label in zip(logits, labels, strict=True)])
    own = logits[np.arange(20), labels]
    np.testing.assert_allclose(odds(jnp.asarray(logits), labels), own - rest.mean(1), atol=1e-5)
    np.testing.assert_allclose(strongest(jnp.asarray(logits), labels), own - rest.max(1), atol=1e-5)


def test_the_gradient_before_a_layer_is_that_of_an_added_zero():
    params, x, declared = sample()
    labels = jnp.asarray(declared.labels)
    answers = lambda params, x: transformer.apply(params, x, CFG)[:, -1, :11]

    def told(more):
        edit = taps.Edit("add", more, None, 1)
        return odds(taps.edit(answers)({STREAM: [edit]}, params, jnp.asarray(x)), labels).sum()

    expected = jax.grad(told)(jnp.zeros((len(x), 5, 8)))
    stream, got = gradient_at(view(), 1, lambda logits: odds(logits, labels))
    np.testing.assert_allclose(got, expected, atol=2e-4, rtol=2e-3)
    np.testing.assert_allclose(stream, taps.record(answers, {STREAM: (1,)})(params, x)[1][STREAM][0], atol=1e-6)
    with pytest.raises(AccessError, match="tier 1"):
        gradient_at(view(1), 1, lambda logits: logits[:, 0])


def test_what_is_erased_is_leace():
    rng = np.random.default_rng(0)
    v = rng.integers(0, 3, 300)
    z = (v[:, None] == np.arange(2)).astype(float)
    x = rng.normal(size=(300, 2, 5)) @ rng.normal(size=(5, 5))
    x[:, 0] += z @ rng.normal(size=(2, 5))
    wide = np.broadcast_to(z[:, None], (300, 2, 2))
    (read, write), where = amnesic_reliance.eraser(jnp.asarray(x, jnp.float32), jnp.asarray(wide, jnp.float32))
    assert where.tolist() == [True, False]  # the second position says nothing of it
    for p in range(2):
        about = x[:, p] - x[:, p].mean(0)
        left = about - about @ np.asarray(read[p], np.float64) @ np.asarray(write[p], np.float64)
        assert np.abs(left.T @ (z - z.mean(0))).max() / 300 < 2e-3
    centred = x[:, 0] - x[:, 0].mean(0)
    zc = z - z.mean(0)
    means = x[:, 0].mean(0), z.mean(0)
    moments = Moments(np.asarray(300.0), *means, centred.T @ centred, centred.T @ zc, zc.T @ zc)
    exact = least_change(moments)
    np.testing.assert_allclose(read[0] @ write[0], exact.read @ exact.write, atol=0.02)


def test_eigenvalues_come_out_of_products():
    rng = np.random.default_rng(0)
    a, b = (np.stack([m @ m.T for m in rng.normal(size=(2, 6, 9))]) for _ in range(2))
    M = np.asarray(relative(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)))
    expected = np.stack([scipy.linalg.eigh(x, y, eigvals_only=True) for x, y in zip(a, b, strict=True)])
    np.testing.assert_allclose(np.trace(M, axis1=1, axis2=2), expected.sum(1), rtol=1e-3)
    np.testing.assert_allclose(largest(jnp.asarray(M)), expected[:, -1], rtol=1e-3)
    share = quantum_entropy.ALPHA * expected / expected[:, -1:]
    Q = np.exp(share) / np.exp(share).sum(1, keepdims=True)
    np.testing.assert_allclose(quantum_entropy.weighted(jnp.asarray(M)), (Q * expected).sum(1), rtol=1e-3)
    alone = np.linalg.eigvalsh(a)
    np.testing.assert_allclose(
        spectral_signature.concentration(jnp.asarray(a, jnp.float32)), alone[:, -1] / alone.sum(1), rtol=1e-3
    )


def test_what_the_rule_accounts_for_does_not_count():
    params, x, declared = sample()
    got = np.asarray(unexplained(view(1), declared))
    record = taps.record(lambda p, x: transformer.apply(p, x, CFG)[:, -1], ["blocks.resid_post"])
    there = np.asarray(record(params, jnp.asarray(x))[1]["blocks.resid_post"][1, :, -1], np.float64)
    Q = rest_of_all(declared)
    left = there - Q @ (Q.T @ there)
    expected = left.T @ left / np.square(there - there.mean(0)).sum()
    np.testing.assert_allclose(got[1], expected, atol=1e-5)
    assert 0 < np.trace(got[1]) < 1


def test_variables_are_dealt_out_among_examples_of_one_label():
    declared = sample()[2]
    other = dealt(declared)
    assert (other.variables["a + b"] == declared.variables["a + b"]).all()  # is the label
    assert (other.variables["a"] != declared.variables["a"]).any()
    for label in range(11):
        own = np.asarray(declared.labels) == label
        for name, values in declared.variables.items():
            assert sorted(other.variables[name][own]) == sorted(np.asarray(values)[own])


def test_a_diagnosers_digest_is_of_all_that_it_is_made_of():
    names = {one.__name__.rpartition(".")[2] for one in made_of(patched_gradients)}
    assert names >= {"patched_gradients", "integrated_gradients", "profiles", "view", "answering"}
    assert load_diagnoser("patched_gradients").source not in ("", source_of(patched_gradients))


def test_twins_have_the_same_shapes_and_other_weights_and_no_more_access():
    seen = view(1)
    with guarded():
        first, second = twins(seen, jax.random.key(0), 2)
        first.record(["blocks.resid_post"])
    assert jax.tree.map(jnp.shape, first.weights) == jax.tree.map(jnp.shape, sample()[0])
    assert not np.allclose(first.weights["embed"]["W_E"], second.weights["embed"]["W_E"])
    np.testing.assert_array_equal(first.tokens, sample()[1])
    with pytest.raises(AccessError):
        first.logits_of_tokens(first.tokens)


def test_a_dictionary_finds_planted_features_and_shares_are_those_of_regressions():
    rng = np.random.default_rng(0)
    true = rng.normal(size=(10, 8))
    true /= np.linalg.norm(true, axis=1, keepdims=True)
    active = (rng.random((3000, 10)) < 0.2) * rng.uniform(1, 2, (3000, 10))
    x = jnp.asarray(active @ true, jnp.float32)
    params, cfg = dictionary_features.trained(x, jax.random.key(0))
    said, _ = dictionary.reconstruct(params, x, cfg)
    assert float(jnp.square(x - said).sum() / jnp.square(x - x.mean(0)).sum()) < 0.1
    f, weight = rng.normal(size=(50, 3, 4)), rng.random((3, 4))
    Q, _ = np.linalg.qr(rng.normal(size=(50, 6)) - 0)
    Q = np.linalg.qr(Q - Q.mean(0))[0]
    about = f - f.mean(0)
    r2 = 1 - np.square(about - np.einsum("nz,mz,mpf->npf", Q, Q, about)).sum(0) / np.square(about).sum(0)
    got = dictionary_features.explained(*(jnp.asarray(a, jnp.float32) for a in (f, weight, Q)))
    assert float(got) == pytest.approx((weight * r2).sum() / weight.sum(), abs=1e-4)


def test_weights_features_do_not_depend_on_the_order_of_heads_and_neurons():
    a, b = (np.random.default_rng(i).normal(size=s) for i, s in enumerate([(8, 3), (3, 5)]))
    squares = np.linalg.svd(a @ b, compute_uv=False)[:3] ** 2
    assert float(participation(jnp.asarray(a), jnp.asarray(b))) == pytest.approx(
        squares.sum() ** 2 / (3 * (squares**2).sum()), rel=1e-4
    )
    params, declared = sample()[0], sample()[2]
    heads, neurons = np.array([1, 0]), np.random.default_rng(0).permutation(8)
    attn = {k: v[:, heads] if v.ndim > 2 else v for k, v in params["blocks"]["attn"].items()}
    mlp = dict(params["blocks"]["mlp"])
    mlp |= {"W_in": mlp["W_in"][:, :, neurons], "b_in": mlp["b_in"][:, neurons], "W_out": mlp["W_out"][:, neurons]}
    moved = {**params, "blocks": {**params["blocks"], "attn": attn, "mlp": mlp}}
    before, after = features(view(1), declared), features(view(1, moved), declared)
    np.testing.assert_allclose(before, after, rtol=1e-3, atol=1e-4)
    attended, carried = profiles(view(1))
    np.testing.assert_allclose(attended.sum(1), 1, rtol=1e-5)
    assert np.abs(np.asarray(carried[:, -1])).max() < 1e-5  # "=" never varies


def test_numbers_on_a_line_or_a_circle_are_regular_and_names_are_not():
    rng, values = np.random.default_rng(0), np.arange(11)
    angle = 2 * np.pi * 3 * values / 11
    circle = np.linalg.qr(rng.normal(size=(6, 6)))[0][:, :2] @ np.stack([np.cos(angle), np.sin(angle)])
    names = rng.normal(size=(200, 11, 6))
    got = variable_geometry.regularity(jnp.asarray(np.stack([circle.T, *names]), jnp.float32), values)
    assert float(got[0]) > 0.999 and abs(float(got[1:].mean())) < 0.04  # adjusted: about 0 by chance
    G = names[0] - names[0].mean(0)
    G = G @ G.T
    pairs = [(u, v) for u in range(11) for v in range(u)]
    fitted = {d: np.mean([G[u, v] for u, v in pairs if u - v == d]) for d in range(1, 11)}
    left = sum((G[u, v] - fitted[u - v]) ** 2 for u, v in pairs) / (55 - 10)
    whole = np.var([G[u, v] for u, v in pairs], ddof=1)
    assert float(got[1]) == pytest.approx(1 - left / whole, abs=1e-4)
    shown = rng.integers(0, 11, 300)
    x = np.stack([circle.T[shown], rng.normal(size=(300, 6))])  # the second site says nothing, and hardly counts
    said = variable_geometry.of_variable(jnp.asarray(x, jnp.float32), shown)
    relabelled = variable_geometry.of_variable(jnp.asarray(x, jnp.float32), rng.permutation(11)[shown])
    assert float(said) > 0.9 > 0.5 > float(relabelled)


def test_a_profile_is_compared_with_the_rules():
    declared, a = sample()[2], np.array([0.3, 0.1, 0.2, 0.4, 9.0])  # "=" never varies
    b = np.asarray(declared.influence, float).mean(0)[:4]
    expected = 0.5 * np.abs(a[:4] / a[:4].sum() - b / b.sum()).sum()
    assert float(distance(jnp.asarray(a, jnp.float32), view(1), declared)) == pytest.approx(expected, abs=1e-5)
    assert float(distance(jnp.asarray([*b, 9.0], jnp.float32), view(1), declared)) == pytest.approx(0, abs=1e-6)


def test_a_diagnoser_that_heeds_variables_is_found_without_a_run():
    params, x, declared = sample()
    sitting = Examinees("leak", CFG, 11, jax.tree.map(lambda leaf: leaf[None], params), np.arange(1), x, (declared,))
    heeds = {name for name in SHIPPED if heeds_variables(load_diagnoser(name), sitting)}
    assert heeds >= {"variable_probes", "amnesic_reliance", "interchange_accuracy", "variable_geometry", "mahalanobis"}
    assert not heeds & {"loss", "weight_norm", "attention", "gradient_input", "local_patching", "resample_patching"}


def test_effects_are_weighed_where_the_rule_sees_a_change_and_where_it_sees_none():
    rng, declared = np.random.default_rng(0), sample()[2]
    effect = rng.random(declared.influence.shape)
    influence = np.where(rng.random(effect.shape) < 0.4, 0, rng.random(effect.shape))
    labels = np.arange(len(effect)) % 4
    influence[labels == 3] = 0.5  # everywhere: this label has nothing to compare
    own = declared.replace(labels=labels, influence=influence.astype(np.float32))
    said = []
    for label in range(3):
        e, i = effect[labels == label][:, :4], influence[labels == label][:, :4]
        still, moved = e[i == 0].mean(), (e * i).sum() / i.sum()
        said.append((still - moved) / (still + moved))
    excess = lambda effect, declared: float(
        local_influence.excess(jnp.asarray(effect, jnp.float32), view(1), declared)
    )
    assert excess(effect, own) == pytest.approx(np.mean(said), abs=1e-5)
    assert (
        excess(own.influence * (labels < 3)[:, None], own) == -1
        and excess(effect, own.replace(influence=np.ones_like(influence))) == 0
    )
    where = local_influence.by_position(jnp.asarray(effect, jnp.float32), own)
    np.testing.assert_allclose(where, (effect * (influence == 0)).mean(0) / effect.mean(0).sum(), rtol=1e-4)


class Planted(View):
    """A stream that holds a, b and h, each in directions of its own, and an answer read off it: a + b, or h."""

    def __init__(self, stream, answer):
        self.stream, self.answer = stream, answer
        super().__init__({}, CFG, 5, sample()[1][:1], 2)

    def record(self, sites, index=None):
        return None, {STREAM: self.stream[None]}

    def swapped(self, index, swaps, sites=()):
        (swap,) = swaps
        x, (read, write) = self.stream[index], swap.subspace
        return self.answer(x + jnp.einsum("npd,pdk,pke->npe", self.stream[swap.source] - x, read, write))


def test_exchanging_a_variable_moves_the_answer_of_who_computes_with_it():
    a, b = (one.ravel() for one in np.meshgrid(np.arange(5), np.arange(5)))
    a, b = np.tile(a, 8), np.tile(b, 8)
    label = (a + b) % 5
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(15, 15)))[0]
    codes = np.concatenate([v[:, None] == np.arange(5) for v in (a, b, label)], axis=1)
    stream = jnp.asarray(codes @ rotation, jnp.float32)[:, None]
    sums = jnp.asarray((np.add.outer(np.arange(5), np.arange(5)) % 5)[..., None] == np.arange(5), jnp.float32)

    def parts(x):
        return jnp.split(5 * x[:, 0] @ rotation.T, 3, axis=1)

    learned = lambda x: jnp.einsum("ni,nj,ijc->nc", *parts(x)[:2], sums)
    declared = Declared(label, {"a": a, "b": b}, {"a": 5, "b": 5}, np.zeros((200, 1)))
    score = lambda answer: float(interchange_accuracy.score(Planted(stream, answer), declared, jax.random.key(0)))
    assert score(learned) < -0.6 and score(lambda x: parts(x)[2]) > -0.1
    U = interchange_accuracy.orthonormal(jnp.asarray(np.random.default_rng(1).normal(size=(1, 15, 4)), jnp.float32))
    np.testing.assert_allclose(U[0].T @ U[0], np.eye(4), atol=1e-4)
