"""Counterfactual inputs by index, what a model has of them, and whether it would answer as a rule does."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.diagnosis.answering import answer_logits
from interp_jax.diagnosis.counterfactual_agreement import by_position, disagreement, kinds
from interp_jax.diagnosis.counterfactuals import UNKNOWN, exchanged, replaced, told
from interp_jax.diagnosis.declared import declare
from interp_jax.diagnosis.family_io import load_family
from interp_jax.diagnosis.first_layer import OWN, RIDGE, answers, sources
from interp_jax.diagnosis.pools import pools_of
from interp_jax.diagnosis.student import Student, model_config
from interp_jax.diagnosis.view import AccessError, Swap, View
from interp_jax.errors import InputError
from interp_jax.models import transformer

FAMILY = load_family("key_value")
CFG = model_config(FAMILY, Student(d_model=16, n_heads=2, d_mlp=16))
SITE = "blocks.resid_pre"


@cache
def sample(n=120):
    x = np.asarray(pools_of(FAMILY).id_held.x)
    x = x[np.random.default_rng(0).permutation(len(x))[:n]]
    params = jax.tree.map(lambda leaf: 2 * leaf, transformer.init(jax.random.key(0), CFG))
    return params, x, declare(FAMILY, "f", x)


def tokens(x, rows):
    return x[rows, np.arange(x.shape[1])]


def test_an_exchange_moves_two_tokens_of_an_example_and_no_others():
    _, x, _ = sample()
    base, rows = exchanged(x, np.random.default_rng(0), 3)
    made, own = tokens(x, rows), x[base]
    assert (np.sort(made, axis=1) == np.sort(own, axis=1)).all() and len(base) == 3 * len(x)
    assert set((made != own).sum(1)) == {2}
    assert (made[:, 8] == own[:, 8]).all()  # "Q" never varies


def test_a_replacement_changes_one_token():
    _, x, _ = sample()
    base, rows = replaced(x, np.random.default_rng(0), 3)
    assert ((tokens(x, rows) != x[base]).sum(1) == 1).all()


def test_where_nothing_can_be_changed_no_answer_is_told():
    x = np.tile(np.array([[1, 9, 2, 10, 3, 11, 4, 12, 16, 4]]), (5, 1))
    for draw in (exchanged, replaced):
        assert (told(FAMILY, "f", x, draw(x, np.random.default_rng(0))).label == UNKNOWN).all()


def test_answers_are_those_of_the_rule_and_failures_are_named():
    _, x, declared = sample()
    to = declared.exchanged
    assert (to.label == FAMILY.f.answer(tokens(x, to.rows))).all()
    assert (declare(FAMILY, "g", x).exchanged.rows == to.rows).all()

    def fails(x):
        raise ValueError("no such input")

    broken = FAMILY._replace(f=FAMILY.f._replace(answer=fails))
    with pytest.raises(InputError, match="rule_f, where tokens were changed, raised ValueError: no such input"):
        told(broken, "f", x, (to.base, to.rows))


def test_weights_of_sources_are_sums_of_what_examples_have():
    params, x, _ = sample()
    view = View(params, CFG, FAMILY.labels, x, 2, "mine")
    index, source = np.array([0, 1, 2]), np.array([5, 6, 7])
    weights = jnp.broadcast_to(jax.nn.one_hot(source, len(x))[:, None], (3, x.shape[1], len(x)))
    np.testing.assert_allclose(
        view.swapped(index, [Swap(SITE, 1, weights)]), view.swapped(index, [Swap(SITE, 1, source)]), atol=1e-5
    )
    with pytest.raises(AccessError, match=r"weights of sources must be \[3, 10, 120\], not \[2, 10, 120\]"):
        view.swapped(index, [Swap(SITE, 1, weights[:2])])


def test_estimates_are_those_of_kernel_ridge_regression():
    """In NumPy, float64, with the kernel written as what it is: a sum over all pairs of a constant and the positions."""
    params, x, declared = sample()
    to = jax.tree.map(lambda leaf: leaf[:9], declared.exchanged)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
        view = View(params, CFG, FAMILY.labels, x, 2, "mine")
        seen, weights = np.asarray(view.record({SITE: (0, 1)})[1][SITE]), np.asarray(sources(view, to))
    e = seen[0] - seen[0].mean(0)
    e = e / np.where((x != x[:1]).any(0), np.sqrt(np.square(e).sum(-1).mean(0)), np.inf)[:, None]
    for i in (3, 8, 9):
        count = np.where(np.arange(10) == i, OWN, 1.0) * (np.arange(10) <= i) * (np.arange(10) != 8)
        flat = lambda z, count=count: (z * np.sqrt(count / count.sum())[:, None]).reshape(len(z), -1)
        a, m = flat(e), flat(e[to.rows, np.arange(10)])
        k, k_m = (1 + a @ a.T) ** 2, (1 + m @ a.T) ** 2 - ((1 + a @ a.T) ** 2)[to.base]
        about = k - k.mean(0) - k.mean(1)[:, None] + k.mean()
        ridge = RIDGE * np.trace(about) / len(x) + 1e-6
        change = (k_m - k_m.mean(1, keepdims=True)) @ np.linalg.solve(about + ridge * np.eye(len(x)), seen[1][:, i])
        np.testing.assert_allclose(weights[:, i] @ seen[1][:, i], seen[1][to.base, i] + change, atol=1e-8)


def test_where_layer_0_adds_up_what_a_model_would_answer_is_what_it_answers():
    """With no attention and no MLP in layer 0, the stream before layer 1 is the embedding: only the ridge is in the way."""
    params, x, declared = sample()
    silent = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf.at[0].set(0.0) if any(k in str(path) for k in ("W_O", "W_out")) else leaf, params
    )
    view = View(silent, CFG, FAMILY.labels, x, 2, "mine")
    to = declared.exchanged
    said = answers(view, to)
    truth = answer_logits(silent, tokens(x, to.rows), CFG, FAMILY.labels)
    before = view.logits()[to.base]
    assert float(jnp.square(said - truth).mean()) < 0.1 * float(jnp.square(before - truth).mean())


def by_rule(monkeypatch, labels):
    monkeypatch.setattr(
        "interp_jax.diagnosis.counterfactual_agreement.answers", lambda view, to: jax.nn.one_hot(labels, FAMILY.labels)
    )


def test_who_answers_by_the_declared_rule_agrees_and_who_by_the_rival_does_not(monkeypatch):
    params, x, by_f = sample()
    by_g = declare(FAMILY, "g", x)
    view = View(params, CFG, FAMILY.labels, x, 2, "mine")
    by_rule(monkeypatch, by_f.exchanged.label)
    own = np.eye(FAMILY.labels)[0]
    best = -(1 - own.mean()) / own.std()
    np.testing.assert_allclose(disagreement(view, by_f, by_f.exchanged), best, rtol=1e-5)
    assert disagreement(view, by_g, by_g.exchanged) > best + 0.5
    moved, still = kinds(by_g.exchanged, by_g)
    assert moved.any() and still.any() and not (moved & still).any()


def test_where_a_model_moves_and_the_rule_does_not(monkeypatch):
    """Declared by the last value, who learned to look up moves with keys as well, and never with other values alone."""
    params, x, by_f = sample()
    view = View(params, CFG, FAMILY.labels, x, 2, "mine")
    by_rule(monkeypatch, by_f.exchanged.label)
    by_g = declare(FAMILY, "g", x)
    share = np.asarray(by_position(view, by_g, by_g.exchanged))
    assert share[9] > 0.9 and share[6] > 0.4  # the key that is asked for, with another of them
    assert share[8] == 0 and share[[1, 3, 5]].max() < 0.1
