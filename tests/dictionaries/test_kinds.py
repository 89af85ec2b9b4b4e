"""Every kind's features and loss equal the oracle's, its gradient equals differences of the oracle's loss."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import BY_K, KINDS, Dictionary
from interp_jax.dictionaries.judged import Batch, Situation, k_now, penalty_weight
from interp_jax.dictionaries.kinds.jumprelu import jump, step
from interp_jax.dictionaries.parameters import lengths
from interp_jax.errors import InputError
from tests.dictionaries import oracle

B, D, F = 7, 5, 12
SHAPE = {"d_in": D, "n_features": F, "most": 4, "k": 3, "prefixes": (0.25, 0.5, 1.0), "sparsity": 0.3, "target": 2.0}
PLAIN = [kind for kind in KINDS if kind != "cross_layer"]  # which has a file of tests of its own
CASES = [Dictionary(kind=kind, **SHAPE) for kind in PLAIN]
CASES += [Dictionary(kind="jumprelu", penalty=penalty, **SHAPE) for penalty in ("tanh", "target")]
CASES += [Dictionary(kind="jumprelu", thresholds="linear", **SHAPE)]
CASES += [Dictionary(kind=kind, pieces=5, **SHAPE) for kind in ("standard", "p_anneal", "gated")]
CASES += [Dictionary(kind="jumprelu", penalty="tanh", pieces=5, **SHAPE)]
CASES += [dataclasses.replace(case, products="sparse") for case in CASES if case.kind in BY_K[:-1]]
PROGRESS = 0.6


def named(case):
    return "-".join((case.kind, case.penalty, case.products, case.thresholds, str(case.pieces)))


def made(case, seed=0):
    """Random parameters and examples, in float64 within the context."""
    params = dictionary.init(jax.random.key(seed), case)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    leaves = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), jax.tree.unflatten(tree, leaves))
    params |= (
        {"threshold": jnp.abs(params["threshold"])} if case.thresholds == "linear" and case.kind == "jumprelu" else {}
    )
    if dictionary.has_unit_rows(case):
        params["W_dec"] = params["W_dec"] / jnp.linalg.norm(params["W_dec"], axis=1, keepdims=True)
    x = jnp.asarray(np.random.default_rng(seed).normal(size=(B, D)))
    return params, x


def situation(n_dead=0):
    return Situation(jnp.asarray(PROGRESS), jnp.arange(F) < n_dead)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_loss_and_features_of_the_oracle(case):
    with jax.enable_x64(True):
        params, x = made(case)
        judged = dictionary.loss(params, Batch(x, x), case, situation())
        f, want = getattr(oracle, case.kind)(jax.tree.map(np.asarray, params), np.asarray(x), case, PROGRESS)
        np.testing.assert_allclose(judged.loss, want, rtol=1e-12)
        np.testing.assert_array_equal(judged.fired, (f != 0).sum(0))
        if case.kind not in ("batch_topk", "matryoshka"):  # whose examples have no batch outside of training
            np.testing.assert_allclose(dictionary.encode(params, x, case), f, atol=1e-12)
        np.testing.assert_allclose(dictionary.decode(params, jnp.asarray(f), case), oracle.say(params, f), atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_gradients_are_differences_of_the_oracles_loss(case):
    """In random directions; the parts that are frozen on purpose (gated's decoder, p_anneal's scale) are added by hand."""
    with jax.enable_x64(True):
        case = dataclasses.replace(case, bandwidth=1.5, first_threshold=0.4)
        params, x = made(case)
        check_gradients(case, params, Batch(x, x))


def check_gradients(case, params, batch):
    """Of the whole loss: in random directions; of thresholds, which have no derivative, the estimate written out."""
    grads = jax.grad(lambda p: dictionary.loss(p, batch, case, situation()).loss)(params)
    at, rng, h = jax.tree.map(np.asarray, params), np.random.default_rng(3), 1e-6
    x, y = np.asarray(batch.x), np.asarray(batch.y)
    value = lambda p: frozen_value(case, p, at, x, y)
    thresholds = {"threshold", "log_threshold"} if case.kind == "jumprelu" else set()
    for name in params.keys() - thresholds:
        way = rng.normal(size=np.shape(params[name]))
        up, down = (value(at | {name: at[name] + sign * h * way}) for sign in (1, -1))
        np.testing.assert_allclose(
            (grads[name] * way).sum(), (up - down) / (2 * h), rtol=1e-5, atol=1e-7, err_msg=name
        )
    for name in params.keys() & thresholds:
        want, near = by_thresholds(case, at, x, y)
        assert near.any() and np.abs(want).max() > 1e-3
        np.testing.assert_allclose(grads[name], want, rtol=1e-9)


def by_thresholds(case, p, x, y):
    """The derivative by JumpReLU's thresholds as the paper estimates it, and which entries are near theirs."""
    logs = case.thresholds == "log"
    z, threshold = oracle.read(p, x), np.exp(p["log_threshold"]) if logs else p["threshold"]
    near = np.abs(z - threshold) < case.bandwidth / 2
    f, size, target = np.where(z > threshold, z, 0), oracle.lengths(p, case.pieces), case.target
    by_f = 2 / B * (oracle.say(p, f) - y) @ p["W_dec"].T
    off = (z > threshold).sum(1).mean() / target - 1
    if case.penalty == "tanh":
        by_f += case.sparsity / B * case.tanh_scale * size / np.cosh(case.tanh_scale * f * size) ** 2
    by_step = case.sparsity / B * {"step": 1.0, "target": 2 * off / target, "tanh": 0.0}[case.penalty]
    found = -((threshold * by_f + by_step) * near).sum(0) / case.bandwidth
    return found * (threshold if logs else 1), near


def frozen_value(case, p, at, x, y):
    """The oracle's loss as a function of the parameters that have a gradient, the others being held where they are."""
    if case.kind == "p_anneal":
        sizes = oracle.relu(oracle.read(at, x)) * oracle.lengths(at, case.pieces)
        power = 1 + (case.last_power - 1) * (PROGRESS - case.anneal_start) / (1 - case.anneal_start)
        scale = sizes.sum() / np.where(sizes > 1e-6, sizes**power, 0).sum()
        f = oracle.relu(oracle.read(p, x))
        powers = (f * oracle.lengths(p, case.pieces)) ** power
        return oracle.error(y, oracle.say(p, f)) + case.sparsity * scale * powers.sum(1).mean()
    if case.kind == "gated":
        _, whole = oracle.gated(p, x, case, PROGRESS, y)
        gate = oracle.relu(oracle.read(p, x))
        free, held = (oracle.error(y, oracle.say(w, gate)) for w in (p, p | {k: at[k] for k in ("W_dec", "b_dec")}))
        return whole - free + held
    return getattr(oracle, case.kind)(p, x, case, PROGRESS, y)[1]


def test_thresholds_follow_the_kernels_closed_form():
    """A rectangle of width ε around each threshold, for every example that falls into it."""
    with jax.enable_x64(True):
        z = jnp.asarray(np.random.default_rng(0).normal(size=(50, 4)))
        threshold, bandwidth, g = jnp.array([0.1, 0.5, 1.0, 0.3]), jnp.asarray(0.4), jnp.sin(z)
        inside = np.abs(z - threshold) < 0.2
        for function, height in ((jump, threshold), (step, 1.0)):
            dz, dt = jax.grad(lambda z, t, f=function: (f(z, t, bandwidth) * g).sum(), (0, 1))(z, threshold)
            np.testing.assert_allclose(dt, -(g * height * inside / 0.4).sum(0), rtol=1e-12)
            np.testing.assert_allclose(dz, np.where(z > threshold, g, 0) if function is jump else 0 * z)


def test_penalty_and_k_are_warmed_up_step_by_step():
    """Over the first half of ten steps: the weight from 0, k from `most`; a tenth of a step before the end not yet."""
    cfg = Dictionary(n_features=F, most=12, k=3, sparsity=0.3, sparsity_warmup=0.5)
    at = lambda t, cfg=cfg: Situation(jnp.float32(t / 10), jnp.zeros(F, bool), factor=2.0)
    weights, ks = zip(*((penalty_weight(cfg, at(t)), int(k_now(cfg, at(t)))) for t in range(7)), strict=True)
    np.testing.assert_allclose(weights, 0.6 * np.array([0, 0.2, 0.4, 0.6, 0.8, 1, 1]), rtol=1e-6)
    assert ks == (12, 10, 8, 7, 5, 3, 3) and int(k_now(cfg, at(4.9))) == 3 < int(k_now(cfg, at(4.6)))
    without = dataclasses.replace(cfg, sparsity_warmup=0.0)
    assert int(k_now(without, at(0))) == 3 and penalty_weight(without, at(0)) == np.float32(0.6)


@pytest.mark.parametrize("kind", ["topk", "batch_topk", "standard", "jumprelu"])
def test_losses_are_of_the_k_and_the_weight_of_their_step(kind):
    """All features being positive, as many are active as k says; of the others the loss is the error and so much penalty."""
    case = Dictionary(kind=kind, **(SHAPE | {"most": 12}), sparsity_warmup=0.5)
    params, x = dictionary.init(jax.random.key(0), case), jax.random.normal(jax.random.key(1), (B, D))
    params |= {"b_enc": params["b_enc"] + 9}
    for t, k, weight in ((0, 12, 0.0), (2, 8, 0.12), (5, 3, 0.3), (9, 3, 0.3)):
        judged = dictionary.loss(params, Batch(x, x), case, Situation(jnp.float32(t / 10), jnp.zeros(F, bool)))
        if kind in BY_K:
            assert judged.fired.sum() == B * k
        else:
            penalty = judged.terms["penalty"]
            np.testing.assert_allclose(judged.loss, judged.terms["error"] + weight * penalty, rtol=1e-6)
            assert penalty > 1e-2 * judged.terms["error"]


@pytest.mark.parametrize("kind", BY_K)
def test_k_and_width_are_masks(kind):
    """A member with fewer features and a smaller k has the loss of a dictionary that is smaller."""
    with jax.enable_x64(True):
        large = Dictionary(kind=kind, **(SHAPE | {"prefixes": (1.0,), "auxiliary": "none"}), width=8)
        small = dataclasses.replace(large, n_features=8, width=0, most=3)
        params, x = made(large)
        fewer = {name: p[:8] if p.shape[:1] == (F,) else p for name, p in params.items()}
        here = Situation(jnp.asarray(1.0), jnp.zeros(F, bool))
        there = Situation(jnp.asarray(1.0), jnp.zeros(8, bool))
        got, want = (
            dictionary.loss(p, Batch(x, x), c, s) for p, c, s in ((params, large, here), (fewer, small, there))
        )
        np.testing.assert_allclose(got.loss, want.loss, rtol=1e-12)
        np.testing.assert_array_equal(got.fired[:8], want.fired)
        assert not got.fired[8:].any()


@pytest.mark.parametrize("n_dead", [0, 1, 4])
@pytest.mark.parametrize("auxiliary", ["openai", "saelens"])
def test_dead_features_reconstruct_what_is_left(auxiliary, n_dead):
    """With one dead feature fewer than the two that may be taken, and with more of them; none is too many nor rectified."""
    with jax.enable_x64(True):
        case = Dictionary(kind="topk", auxiliary=auxiliary, auxiliary_weight=0.5, **SHAPE)
        params, x = made(case)
        judged = dictionary.loss(params, Batch(x, x), case, situation(n_dead))
        p, x = jax.tree.map(np.asarray, params), np.asarray(x)
        f, error = oracle.topk(p, x, case, PROGRESS)
        want = 0.5 * oracle.auxiliary(p, x, x - oracle.say(p, f), np.arange(F) < n_dead, auxiliary)
        np.testing.assert_allclose(judged.terms["auxiliary"], want, rtol=1e-12)
        np.testing.assert_allclose(judged.loss, error + want, rtol=1e-12)
        assert (want > 0) == (n_dead > 0) and (n_dead == 0 or (oracle.read(p, x)[:, :n_dead] < 0).any())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "topkk"}, "dictionary.kind: unknown 'topkk'; did you mean 'topk'"),
        ({"k": 13}, "dictionary.k: 13 of 12 features"),
        ({"k": 5}, "dictionary.most: 4 is less than k = 5"),
        ({"most": 13}, "dictionary.most: 13 is more than n_features = 12"),
        ({"width": 13}, "dictionary.width: 13"),
        ({"kind": "matryoshka", "prefixes": (0.5, 0.25, 1.0)}, "dictionary.prefixes"),
        ({"kind": "jumprelu", "bandwidth": 0.0}, "dictionary.bandwidth: 0.0 is not positive"),
        ({"penalty": "stepp"}, "dictionary.penalty"),
        ({"thresholds": "logs"}, "dictionary.thresholds: unknown 'logs'; did you mean 'log'"),
        ({"skip": True}, "dictionary.skip: only a transcoder"),
        ({"pieces": 2}, "dictionary.pieces: 2 does not divide 5"),
        ({"kind": "matching_pursuit", "d_out": 5}, "dictionary.d_out, centred: matching pursuit"),
        ({"k": 2.5}, "dictionary.k = 2.5: must be a whole number"),
        ({"k": True}, "dictionary.k = True: must be a whole number"),
        ({"dead_after": 1e6}, "dictionary.dead_after = 1000000.0: must be a whole number"),
        ({"dead_after": 0}, "dictionary.dead_after: 0 examples; it must be at least 1"),
        ({"sparsity": -0.1}, "dictionary.sparsity: -0.1 is negative"),
        ({"sparsity": float("nan")}, "dictionary.sparsity: nan is negative"),
        ({"auxiliary_weight": -1.0}, "dictionary.auxiliary_weight: -1.0 is negative"),
        ({"sparsity_warmup": 1.5}, "dictionary.sparsity_warmup: 1.5 is no share of the steps"),
        ({"sparsity_warmup": -0.1}, "dictionary.sparsity_warmup: -0.1 is no share"),
        ({"kind": "p_anneal", "anneal_start": 2.0}, "dictionary.anneal_start: 2.0 is no share"),
        (
            {"kind": "standard", "auxiliary": "saelens"},
            "dictionary.auxiliary = 'saelens': 'standard' has none; topk, batch",
        ),
        ({"kind": "matching_pursuit", "auxiliary": "saelens"}, "dictionary.auxiliary = 'saelens'"),
        (
            {"kind": "topk", "penalty": "tanh"},
            "dictionary.penalty = 'tanh': 'topk' has none; jumprelu, cross_layer have",
        ),
        ({"kind": "topk", "thresholds": "linear"}, "dictionary.thresholds = 'linear': 'topk' has none"),
        ({"kind": "gated", "products": "sparse"}, "dictionary.products = 'sparse': 'gated' has none"),
    ],
)
def test_impossible_values_are_named(change, words):
    with pytest.raises(InputError, match=words):
        Dictionary(**(SHAPE | change)).check()


def test_whole_numbers_of_other_libraries_are_whole_and_what_is_harmless_is_allowed():
    Dictionary(**(SHAPE | {"k": np.int64(2), "dead_after": np.int32(5), "width": np.array(8)})).check()
    Dictionary(kind="standard", **SHAPE, auxiliary="none", products="dense").check()


# --- transcoders and crosscoders


WIDE = SHAPE | {"d_out": 4}
TRANSCODERS = [Dictionary(kind=kind, **WIDE) for kind in PLAIN if kind != "matching_pursuit"]


def transcoder(case, seed=0):
    params, x = made(case, seed)
    return params, Batch(x, jnp.asarray(np.random.default_rng(9).normal(size=(B, case.d_out))))


@pytest.mark.parametrize("case", TRANSCODERS, ids=named)
def test_transcoders_read_one_thing_and_say_another(case):
    """Loss and gradients of the oracle, with nothing taken off what is read."""
    with jax.enable_x64(True):
        case = dataclasses.replace(case, bandwidth=1.5, first_threshold=0.4)
        params, batch = transcoder(case)
        judged = dictionary.loss(params, batch, case, situation())
        p, x, y = jax.tree.map(np.asarray, params), np.asarray(batch.x), np.asarray(batch.y)
        f, want = getattr(oracle, case.kind)(p, x, case, PROGRESS, y)
        np.testing.assert_allclose(judged.loss, want, rtol=1e-12)
        np.testing.assert_array_equal(judged.fired, (f != 0).sum(0))
        check_gradients(case, params, batch)


@pytest.mark.parametrize("kind", ["standard", "topk", "batch_topk", "jumprelu"])
def test_a_skip_transcoder_is_asked_for_what_the_map_leaves(kind):
    plain, case = (Dictionary(kind=kind, **WIDE, skip=skip) for skip in (False, True))
    with jax.enable_x64(True):
        params, batch = transcoder(case)
        W = params["W_skip"]
        without = {name: value for name, value in params.items() if name != "W_skip"}
        left = Batch(batch.x, batch.y - batch.x @ W.T)
        want = dictionary.loss(without, left, plain, situation())
        np.testing.assert_allclose(dictionary.loss(params, batch, case, situation()).loss, want.loss, rtol=1e-12)
        grads = jax.grad(lambda p: dictionary.loss(p, batch, case, situation()).loss)(params)
        said, f = dictionary.reconstruct(params, batch.x, case)
        np.testing.assert_allclose(said, dictionary.decode(params, f, case) + batch.x @ W.T, rtol=1e-12)
        if kind != "batch_topk":  # whose examples have no batch outside of training
            np.testing.assert_allclose(grads["W_skip"], 2 / B * (said - batch.y).T @ batch.x, rtol=1e-9)
    assert not dictionary.init(jax.random.key(0), case)["W_skip"].any()


def test_a_crosscoders_penalty_counts_each_piece():
    """Rows that write to one of two layers are as long as one that writes half as much to each, and no longer."""
    case = Dictionary(kind="standard", d_in=4, n_features=2, pieces=2, sparsity=1.0)
    params = dictionary.init(jax.random.key(0), case) | {"W_dec": jnp.array([[3.0, 4, 0, 0], [1.5, 2, 1.5, 2]])}
    np.testing.assert_allclose(lengths(params, case), [5, 5], rtol=1e-6)
    np.testing.assert_allclose(lengths(params, dataclasses.replace(case, pieces=1)), [5, 12.5**0.5], rtol=1e-6)


def test_thresholds_that_are_learned_themselves_do_not_fall_below_0():
    case = Dictionary(kind="jumprelu", thresholds="linear", **SHAPE)
    params = dictionary.init(jax.random.key(0), case)
    assert (params["threshold"] == 0.01).all()
    moved = dictionary.constrained(params | {"threshold": params["threshold"] - jnp.arange(F) / 100}, case)
    np.testing.assert_allclose(moved["threshold"], np.maximum(0.01 - np.arange(F) / 100, 0), atol=1e-8)
