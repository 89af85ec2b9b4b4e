"""Edits against NumPy, each example by itself; with the cache as without it; and in the order in which they are given."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary
from interp_jax.models import transformer
from interp_jax.models.generation import advance_with, generate
from interp_jax.steering.interventions import added, feature_held, gated, held, low_rank, prompt_gate, together
from interp_jax.taps import Edit
from tests.models.transformer_oracle import FAMILY, random_model

CFG = FAMILY["mlp"]
PARAMS, TOKENS = random_model(CFG)
B, P, D = 3, 4, CFG.d_model
SITE = "blocks.resid_post"
write = jax.jit(lambda prompts, edits: generate(PARAMS, prompts, CFG, 4, jax.random.key(0), edits=edits))


def on(edit, x):
    """What an edit makes of an activation."""
    return np.asarray(taps.edit(lambda a: taps.tap(a, "a"))({"a": edit}, jnp.asarray(x)))


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


X, U = draw(B, P, D), draw(D, seed=1)


def test_added_and_held_say_what_they_should():
    np.testing.assert_allclose(on(added(U, 2.5), X), X + 2.5 * U, rtol=1e-5, atol=1e-6)
    u = U / np.linalg.norm(U)
    after = on(held(U, 3.0), X)
    np.testing.assert_allclose(after @ u, 3.0, rtol=1e-4)
    across = np.eye(D) - np.outer(u, u)
    np.testing.assert_allclose(after @ across, X @ across, atol=1e-5)


def test_the_gate_is_each_examples_and_positions_own():
    """Not that of the first example: batches in any order, and examples alone, are steered alike."""
    probe = SimpleNamespace(weights=draw(D, seed=2), bias=np.float32(0.1))
    edit = gated(U, probe, 4.0)
    opens = X @ probe.weights + probe.bias > 0
    assert len({tuple(row) for row in opens.tolist()}) == B, "examples are to differ"
    expected = np.where(opens[..., None], X + 4.0 * U, X)
    np.testing.assert_allclose(on(edit, X), expected, rtol=1e-5)
    for order in ([2, 0, 1], [1], [2]):
        np.testing.assert_allclose(on(edit, X[order]), expected[order], rtol=1e-5)


def test_a_prompts_gate_is_its_own_and_does_not_hear_padding():
    scores = np.array([[-1, -1, 5.0], [-1, 2, -1], [-3, -1, -2]])
    counts = np.array([[1, 1, 0], [1, 1, 1], [1, 1, 1]], bool)
    gate = prompt_gate(scores, counts)
    np.testing.assert_array_equal(gate[:, 0, 0], [False, True, False])
    np.testing.assert_array_equal(prompt_gate(scores)[:, 0, 0], [True, True, False])
    steered = generate(
        PARAMS, TOKENS[:, :3], CFG, 4, jax.random.key(0), edits={SITE: added(9 * U, layer=0, where=gate)}
    )
    plain = generate(PARAMS, TOKENS[:, :3], CFG, 4, jax.random.key(0))
    always = generate(PARAMS, TOKENS[:, :3], CFG, 4, jax.random.key(0), edits={SITE: added(9 * U, layer=0)})
    np.testing.assert_array_equal(steered, np.where(np.asarray(gate)[:, 0], always, plain))
    assert (always != plain).any()


def test_low_rank_is_numpys():
    read, offset, write = draw(D, 2, seed=3), draw(2, seed=4), draw(2, D, seed=5)
    expected = X + 0.5 * ((X @ read + offset) @ write)
    np.testing.assert_allclose(on(low_rank(read, offset, write, 0.5), X), expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["standard", "topk"])
def test_a_feature_is_held_and_the_dictionarys_error_stays(kind):
    cfg = Dictionary(kind=kind, d_in=D, n_features=16, most=4, k=4)
    params = dictionary.init(jax.random.key(0), cfg)
    params = {name: value + 0.1 * draw(*value.shape, seed=6) for name, value in params.items()}
    encode = lambda params, x: dictionary.encode(params, x, cfg)
    decode = lambda params, f: dictionary.decode(params, f, cfg)
    edit = feature_held(encode, decode, params, 3, 2.5)
    f = np.asarray(encode(params, jnp.asarray(X.reshape(-1, D))))
    expected = X + ((2.5 - f[:, 3:4]) * np.asarray(params["W_dec"])[3]).reshape(X.shape)
    assert 0 < (f[:, 3] > 0).sum() < len(f)
    np.testing.assert_allclose(on(edit, X), expected, rtol=1e-4, atol=1e-5)
    held_at = lambda i, c: on(feature_held(encode, decode, params, i, c), X)
    np.testing.assert_allclose(held_at(jnp.int32(3), jnp.float32(2.5)), expected, rtol=1e-4, atol=1e-5)


def edits_of_all_kinds():
    """Every kind of edit, in both layers, on three sites."""
    probe = SimpleNamespace(weights=jnp.asarray(draw(D, seed=2)), bias=jnp.float32(0.1))
    return together(
        {
            SITE: held(U, 3.0, layer=0),
            "blocks.mlp.out": feature_held(tanh, back, draw(D, 20, seed=7), 4, 6.0, layer=0),
        },
        {SITE: [gated(2 * U, probe, layer=0), added(U, layer=1)], "logits": Edit("add", draw(CFG.d_vocab, seed=8))},
        {SITE: low_rank(draw(D, 2, seed=3), draw(2, seed=4), 0.3 * draw(2, D, seed=5), layer=1)},
    )


def tanh(params, x):
    return jnp.tanh(x @ params)


def back(params, f):
    return f @ params.T


def test_steered_generation_with_the_cache_is_the_steered_full_pass():
    """Position by position through the cache, beside one pass: the same numbers, and the same choices."""
    edits = edits_of_all_kinds()
    step = advance_with(PARAMS, CFG, edits)
    whole = jax.jit(lambda t: taps.edit(lambda t: transformer.apply(PARAMS, t, CFG))(edits, t))
    read = jax.jit(lambda tokens, position, cache: step.read(tokens, jnp.full((B, 1), position), cache))
    say = jax.jit(step.say)
    written = np.asarray(write(TOKENS[:, :3], edits))
    rows, cache, said = np.concatenate([TOKENS[:, :3], written], 1), transformer.init_cache(CFG, B, 7), []
    for p in range(rows.shape[1]):
        x, cache = read(jnp.asarray(rows[:, p : p + 1]), p, cache)
        said.append(say(x[:, 0]))
    logits = np.asarray(whole(jnp.asarray(rows)))
    np.testing.assert_allclose(np.stack(said, 1), logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(written, logits[:, 2:-1].argmax(-1))
    plain = transformer.apply(PARAMS, jnp.asarray(rows), CFG)
    assert np.abs(logits - plain).max() > 1, "the edits are to matter"


def test_edits_of_one_site_act_in_the_order_given():
    first, second = held(U, 3.0), added(U, 2.0)
    both = lambda *edits: taps.edit(lambda a: taps.tap(a, "a"))(together(*({"a": e} for e in edits)), jnp.asarray(X))
    np.testing.assert_allclose(both(first, second), on(second, on(first, X)), rtol=1e-5)
    np.testing.assert_allclose(both(second, first), on(first, X), rtol=1e-4, atol=1e-5)


def test_what_is_applied_must_be_a_function_that_keeps_the_shape():
    with pytest.raises(ValueError, match=r"apply takes a jax.tree_util.Partial, got function"):
        on(Edit("apply", lambda x: x), X)
    with pytest.raises(ValueError, match=r"made \(3, 4\) of the site's \(3, 4, 12\)"):
        on(Edit("apply", jax.tree_util.Partial(lambda x: x.sum(-1))), X)


def test_doses_and_layers_are_one_program(compilations):
    """A gated edit swept over doses, probes and layers compiles once."""
    run = jax.jit(lambda edits: taps.edit(lambda t: transformer.apply(PARAMS, t, CFG))(edits, TOKENS))
    probe = lambda seed: SimpleNamespace(weights=jnp.asarray(draw(D, seed=seed)), bias=jnp.float32(0.1))
    with compilations() as names:
        for seed in range(3):
            run({SITE: gated(jnp.asarray(U), probe(seed), jnp.float32(seed), jnp.int32(seed % 2))})
    assert sum(name == "<lambda>" for name in names) == 1
