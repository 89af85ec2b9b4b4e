"""Edits that are learned: their formulas in NumPy, a population beside its members alone, and a planted direction found."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import parts, taps
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.relay_circuit import relay_circuit, relay_prompts
from interp_jax.steering import fine_tuning
from interp_jax.steering.fine_tuning import Example, Hypers, parted, tuned, tuning_run
from interp_jax.train.optimizer import Optimizer

RELAY, CFG, TRUTH = relay_circuit(1, n_layers=2, d_model=12, d_vocab=8, seed=3)
SITE, STEPS = "blocks.resid_post", 60
model = partial(transformer.apply, cfg=CFG)


def on(edit, x):
    edit = edit.replace(layer=None)
    return np.asarray(taps.edit(lambda a: taps.tap(a, "a"))({"a": edit}, x))


def test_reft_r1_is_its_formula():
    rng = np.random.default_rng(0)
    h, w = rng.normal(size=(3, 6, 5)), rng.normal(size=5)
    u = w / np.linalg.norm(w)
    positive = np.maximum(h @ u, 0)
    most = np.sort(positive, 1)[:, ::-1]
    hypers = Hypers(k=2, penalty=0.5)
    found = on(fine_tuning.reft_r1_edit({"w": jnp.asarray(w, jnp.float32)}, hypers), jnp.asarray(h, jnp.float32))
    np.testing.assert_allclose(found, h + most[:, :2].mean(1)[:, None, None] * u, rtol=1e-4, atol=1e-5)
    rest = fine_tuning.reft_r1_rest({"w": jnp.asarray(w, jnp.float32)}, hypers, jnp.asarray(h, jnp.float32))
    assert float(rest) == pytest.approx(0.5 * most[:, 2:].sum(1).mean(), rel=1e-4)
    mean, others = parted(-jnp.ones((2, 3)), jnp.int32(2))
    assert (np.asarray(mean) == 0).all() and (np.asarray(others) == 0).all()


def test_loreft_is_its_formula_and_changes_nothing_at_first():
    rng = np.random.default_rng(0)
    h, raw, W, b = (rng.normal(size=shape) for shape in ((2, 3, 5), (2, 5), (2, 5), 2))
    params = {name: jnp.asarray(x, jnp.float32) for name, x in {"R": raw, "W": W, "b": b}.items()}
    R = np.linalg.qr(raw.T)[0].T
    R *= np.sign((R * raw).sum(1))[:, None]  # Gram and Schmidt keep the side
    R[1] *= np.sign(R[1] @ (raw[1] - (raw[1] @ R[0]) * R[0]))
    expected = h + (h @ W.T + b - h @ R.T) @ R
    found = on(fine_tuning.loreft_edit(params, Hypers()), jnp.asarray(h, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    half = on(fine_tuning.loreft_edit(params, Hypers(), 0.5), jnp.asarray(h, jnp.float32))
    np.testing.assert_allclose(half, (h + expected) / 2, rtol=1e-4, atol=1e-5)
    start = fine_tuning.loreft_init(jax.random.key(0), 5, 2)
    np.testing.assert_allclose(on(fine_tuning.loreft_edit(start, Hypers()), jnp.asarray(h, jnp.float32)), h, atol=1e-6)


def draw(hypers, data, seed, step):
    """Prompts of the relay, after which one answer is wanted, whatever they say."""
    tokens = jax.lax.dynamic_slice_in_dim(data, 16 * (step % 8), 16)
    answer = jnp.broadcast_to(jnp.asarray(TRUTH.answers)[hypers.text], (16, 1))
    weights = jnp.zeros((16, 5)).at[:, -1].set(1.0)
    return Example(jnp.concatenate([tokens, answer], 1), weights)


def members():
    """Both answers wanted, at the two layers."""
    optimizer = Optimizer(learning_rate=0.1)
    return [
        Hypers(seed, layer, optimizer, 2, 0.0, text)
        for seed, (layer, text) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)])
    ]


@pytest.fixture(scope="module", params=["reft_r1", "loreft"])
def trained(request):
    run = tuning_run(request.param, model, SITE, CFG.d_model, draw, STEPS)
    prompts = jnp.asarray(relay_prompts(1, 128, 2, 8, seed=1).clean)
    return request.param, run, prompts, tuned(run, parts.stack(members()), (RELAY, prompts), STEPS, batch=4)


def test_what_is_learned_says_the_wanted_answer_by_the_plane_that_is_read(trained):
    """At each layer, and on the side on which that answer is."""
    form, _, prompts, found = trained
    assert (np.asarray(found.diverged_at) == -1).all()
    for i, hypers in enumerate(members()):
        true = TRUTH.plane(hypers.layer)[:, 0]
        logits = lambda params: model(params, prompts)[:, -1]
        side = TRUTH.planes[-1][:, 0] @ np.asarray(RELAY["unembed"]["W_U"])[:, TRUTH.answers[hypers.text]]
        if form == "reft_r1":  # it steers by as much as it reads, so it leans to where the stream is long as well
            cosine = float(fine_tuning.direction(found.params)[i] @ true) * np.sign(side)
            assert cosine > 0.3, (hypers, cosine)
        params = jax.tree.map(lambda leaf, i=i: leaf[i], found.params)
        edit = {SITE: fine_tuning.FORMS[form].edit(params, hypers)}
        chance = lambda said, t=hypers.text: float(jax.nn.log_softmax(said)[:, TRUTH.answers[t]].mean())
        before, after = chance(logits(RELAY)), chance(taps.edit(model)(edit, RELAY, prompts)[:, -1])
        assert after > before + 1.5 and (form == "reft_r1" or after > -0.3), (hypers, before, after)
        assert float(found.loss[i]) == pytest.approx(-after, abs=0.6)


def test_a_population_of_edits_is_its_members(trained):
    _, run, prompts, found = trained
    alone = tuned(run, parts.stack(members()[2:3]), (RELAY, prompts), STEPS)
    same = lambda a, b: np.testing.assert_allclose(a[0], b[2], rtol=2e-3, atol=2e-4)
    jax.tree.map(same, alone.params, found.params)
    assert float(alone.loss[0]) == pytest.approx(float(found.loss[2]), rel=1e-2)


def test_impossible_forms_are_refused():
    with pytest.raises(InputError, match="did you mean 'loreft'"):
        tuning_run("loref", model, SITE, 12, draw, 1)
    with pytest.raises(InputError, match="rank = 13"):
        tuning_run("loreft", model, SITE, 12, draw, 1, rank=13)
