"""The relay answers as told, and its variable is where it is told to be, whatever is exchanged."""

import jax
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.relay_circuit import (
    AHEAD,
    BEHIND,
    HELD,
    kind_of_place,
    mixed_share,
    relay_circuit,
    relay_prompts,
    simplex,
)

L, D, V = 3, 24, 24
SITE = "blocks.resid_post"
CFG = relay_circuit(1, L, D, V)[1]


def built(dimensions, **options):
    """In float64, with prompts [base, source] and the answers of both."""
    params, cfg, truth = relay_circuit(dimensions, L, D, V, **options)
    prompts = relay_prompts(dimensions, 40, L, V)
    return params, cfg, truth, prompts


def model(params, tokens):
    return transformer.apply(params, tokens, CFG)


recorded, edited = jax.jit(taps.record(model, [SITE])), jax.jit(taps.edit(model))


def final(params, tokens):
    """Logits at the last position, [B V]."""
    return np.asarray(recorded(params, tokens)[0][:, -1])


def exchanged(params, prompts, layer, position, basis):
    """Those of bases whose stream after a layer, at a position, has the source's coordinates in a basis [D k]."""
    base, source = (np.asarray(recorded(params, tokens)[1][SITE][layer]) for tokens in prompts[1::-1])
    changed = base.copy()
    changed[:, position] += (source - base)[:, position] @ basis @ basis.T
    return np.asarray(edited({SITE: taps.Edit("replace", changed, layer=layer)}, params, prompts.corrupted)[:, -1])


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_answer_is_the_class_at_position_1_by_the_margin(d):
    with jax.enable_x64(True):
        params, cfg, truth, prompts = built(d, margin=5.0)
        assert cfg == CFG
        logits = final(params, prompts.clean)
        is_right = truth.answers == prompts.answers
        expected = np.where(is_right, 5.0 * d / (d + 1), -5.0 / (d + 1))
        np.testing.assert_allclose(logits[:, truth.answers], expected, atol=1e-12)
        np.testing.assert_allclose(logits[:, : truth.answers[0]], 0, atol=1e-12)


@pytest.mark.parametrize("d", [1, 3])
def test_exchanging_the_plane_where_the_variable_is_held_gives_the_sources_answer_and_nothing_else_changes(d):
    with jax.enable_x64(True):
        params, _, truth, prompts = built(d)
        answered, own = final(params, prompts.clean), final(params, prompts.corrupted)
        for layer in range(L):
            plane = truth.plane(layer)
            for basis, expected in ((plane, answered), (np.eye(D) - plane @ plane.T, own)):
                seen = exchanged(params, prompts, layer, layer + 2, basis)
                np.testing.assert_allclose(seen, expected, atol=1e-12)


def test_what_is_behind_reaches_nothing_and_what_is_ahead_does_not_know_the_source():
    with jax.enable_x64(True):
        params, *_, prompts = built(2)
        own = final(params, prompts.corrupted)
        other = prompts._replace(clean=prompts.clean.copy())
        other.clean[:, 1] = (other.clean[:, 1] + 7) % 21  # another class, since each has seven tokens
        some = np.linalg.qr(np.random.default_rng(0).normal(size=(D, 5)))[0]
        for layer in range(L):
            for position in range(L + 2):
                kind = kind_of_place(layer, position)
                for basis in (np.eye(D), some):
                    seen, told = (exchanged(params, p, layer, position, basis) for p in (prompts, other))
                    assert np.allclose(seen, told, atol=1e-12) == (kind != HELD)
                    if kind == BEHIND:
                        np.testing.assert_allclose(seen, own, atol=1e-12)
                    elif kind == AHEAD and basis is some:
                        assert np.abs(seen - own).max() > 1e-3


@pytest.mark.parametrize("d", [1, 2, 5])
def test_classes_are_vertices_of_a_simplex(d):
    points = simplex(d)
    np.testing.assert_allclose(points @ points.T, np.eye(d + 1) * (1 + 1 / d) - 1 / d, atol=1e-12)
    np.testing.assert_allclose(points.sum(0), 0, atol=1e-12)


def test_planes_are_orthonormal_and_the_copy_holds_what_it_is_told_to():
    with jax.enable_x64(True):
        params, _, truth, prompts = built(2, bystander=3.0)
        every = np.concatenate([*truth.planes, truth.bystander], axis=1)
        np.testing.assert_allclose(every.T @ every, np.eye(every.shape[1]), atol=1e-12)
        logits, seen = recorded(params, prompts.clean)
        first = np.asarray(seen[SITE])[0]
        np.testing.assert_allclose(first @ truth.bystander, 3 * first @ truth.planes[1], atol=1e-12)
        plain = relay_circuit(2, L, D, V)[0]
        np.testing.assert_allclose(logits[:, -1], final(plain, prompts.clean), atol=1e-12)


@pytest.mark.parametrize("b", [0.3, 1.0, 4.0])
def test_the_mixed_share_is_that_of_the_direction_which_moves_the_plane_most(b):
    angles = np.linspace(0, np.pi, 100_001)
    best = angles[np.argmax(np.cos(angles) * (np.cos(angles) + b * np.sin(angles)))]
    assert mixed_share(b) == pytest.approx(np.cos(best) ** 2, abs=1e-4)
    assert mixed_share(0.0) == 1.0


def test_seeds_give_other_planes_and_other_uniform_prompts():
    one, other = (relay_circuit(1, L, D, V, seed=seed)[2].planes for seed in (0, 1))
    assert np.abs(one - other).max() > 0.1
    first, second = (relay_prompts(2, 2000, L, V, seed=seed) for seed in (0, 1))
    assert (first.clean != second.clean).mean() > 0.9
    classes = np.concatenate([first.answers, first.others]) - 21
    assert np.abs(np.bincount(classes.ravel()) / 4000 - 1 / 3).max() < 4 * (2 / 9 / 4000) ** 0.5
    assert first.clean.dtype == first.answers.dtype == np.int32 and first.clean.shape == (2000, L + 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 3, 16, 30), "d_model = 16: 5 planes of 4 dimensions need 20"),
        ((0, 3, 16, 24), "dimensions = 0, n_layers = 3: a relay has at least one of each"),
        ((2, 3, 16, 25), "d_vocab = 25: 3 classes of one answer and as many tokens each need a multiple of 3"),
        ((2, 3, 16, 3), "d_vocab = 3: 3 classes of one answer and as many tokens each"),
    ],
)
def test_relays_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(InputError) as error:
        relay_circuit(*arguments)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
