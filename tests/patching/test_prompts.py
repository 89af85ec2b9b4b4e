"""Which run is the base, what noise is added to, which column is measured, and prompts that are no contrast."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.patching import metrics
from interp_jax.patching.prompts import (
    DENOISING,
    NOISING,
    Input,
    check_question,
    measure,
    ordered,
    prompts_of,
    roles,
    stream,
)
from tests.models.transformer_oracle import BASE, FAMILY, random_model

METRIC = metrics.logit_difference(np.array([1, 2]), np.array([[3, 4], [0, 5]]))
CLEAN = [[1, 2, 3, 4], [5, 6, 7, 8]]
CORRUPTED = [[1, 9, 3, 4], [5, 9, 7, 8]]
PADDED = [[0, 1, 2, -1], [-1, 0, 1, 2]]


@pytest.mark.parametrize(
    ("positions", "at", "columns"),
    [
        (None, None, [3, 3]),
        (PADDED, None, [2, 3]),
        ([[0, 1, 2, -1]], None, [2, 2]),
        (PADDED, [0, 2], [0, 2]),
        (None, 1, [1, 1]),
    ],
)
def test_the_last_token_is_measured_unless_another_is_named(positions, at, columns):
    prompts = prompts_of(CLEAN, CORRUPTED, positions, at)
    np.testing.assert_array_equal(prompts.at, columns)
    np.testing.assert_array_equal(prompts.positions, [[0, 1, 2, 3]] if positions is None else positions)
    assert {x.dtype for x in prompts[:4]} == {jnp.int32.dtype}


def test_denoising_patches_the_corrupted_run_and_noising_the_clean_one():
    prompts = prompts_of(CLEAN, CORRUPTED, noise=np.ones((2, 4, 12)))
    base, source = roles(prompts, DENOISING)
    assert base.tokens is prompts.corrupted and base.noise is prompts.noise
    assert source.tokens is prompts.clean and source.noise is None
    assert ordered("corrupted", "clean", DENOISING) == ("clean", "corrupted")
    base, source = roles(prompts, NOISING)
    assert base.tokens is prompts.clean and base.noise is None
    assert source.tokens is prompts.corrupted and source.noise is prompts.noise
    assert ordered("clean", "corrupted", NOISING) == ("clean", "corrupted")


SLOW = ("encoder", "sandwich, capped, local layers")


@pytest.mark.parametrize("name", ["mlp", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_the_metric_is_that_of_the_models_own_logits(name):
    """With noise and without, at columns that differ, beside padding."""
    cfg = FAMILY[name]
    with jax.enable_x64(True):
        noise = np.random.default_rng(0).normal(size=(2, 4, cfg.d_model))
        prompts = prompts_of(CLEAN, CORRUPTED, PADDED, at=[1, 3], noise=noise)

        @jax.jit
        def found(params, given):
            rows = transformer.unembed(params, stream(params, given, cfg, prompts), cfg)
            return rows, measure(params, given, cfg, prompts, METRIC)

        @jax.jit
        def expected(params, noise):
            run = taps.edit_with(transformer.apply, {"embed": lambda x, _: x + noise})
            logits = run(params, prompts.corrupted, cfg, prompts.positions)
            return logits, METRIC.of(logits[np.arange(2), np.array([1, 3])])

        params = jax.tree.map(lambda x: x.astype(jnp.float64), random_model(cfg)[0])
        plain, rough = (expected(params, x) for x in (0 * noise, noise))
        for given, truth in zip((None, prompts.noise), (plain, rough), strict=True):
            for got, want in zip(found(params, Input(prompts.corrupted, given)), truth, strict=True):
                np.testing.assert_allclose(got, want, atol=1e-12)
        assert (jnp.abs(rough[1] - plain[1]) > 1e-3).all()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"corrupted": np.zeros((2, 5), int)}, r"clean prompts are \(2, 4\), corrupted ones \(2, 5\)"),
        ({"corrupted": np.zeros((1, 4), int)}, "position by position"),
        ({"clean": np.zeros(4, int), "corrupted": np.zeros(4, int)}, "position by position"),
        ({"clean": np.zeros((0, 4), int), "corrupted": np.zeros((0, 4), int)}, "nothing to patch"),
        ({"positions": np.arange(4)}, r"positions are \(4,\)"),
        ({"positions": np.zeros((3, 4), int)}, r"positions are \(3, 4\)"),
        ({"positions": np.zeros((1, 5), int)}, r"positions are \(1, 5\)"),
        ({"at": [3, 4]}, "example 1 is measured at column 4: columns are 0 to 3"),
        ({"at": -1}, "example 0 is measured at column -1"),
        ({"at": [1, 2, 3]}, r"at is \(3,\).*one column for each"),
        ({"at": [1]}, r"at is \(1,\)"),
        ({"positions": PADDED, "at": [2, 0]}, "example 1 is measured at column 0, which is padding"),
        ({"positions": [[0, 1, 2, -1]], "at": [2, 3]}, "example 1 is measured at column 3, which is padding"),
        ({"noise": np.zeros((2, 5, 12))}, r"noise is \(2, 5, 12\)"),
        ({"noise": np.zeros((2, 4))}, r"noise is \(2, 4\).*must be \[B, P, D\]"),
    ],
)
def test_prompts_that_are_no_contrast(given, words):
    with pytest.raises(InputError, match=words) as error:
        prompts_of(**{"clean": CLEAN, "corrupted": CORRUPTED} | given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "metric", "words"),
    [
        ({"noise": jnp.zeros((2, 4, 5))}, METRIC, "embeddings have width 12"),
        ({"corrupted": jnp.array([[1, 2, 3, 4], [5, 6, 11, 8]])}, METRIC, "token 11 in row 1, column 2"),
        ({"clean": jnp.array([[1, 2, 3, 4], [5, 6, 12, 8]])}, METRIC, "token 12 in row 1, column 2"),
        ({}, metrics.probability(np.array([1, 2, 3])), "data of 3 examples, the prompts are 2"),
        ({}, metrics.custom("sum", jnp.sum, jnp.float32(1.0)), "data of no examples"),
        ({}, metrics.probability(np.array([1, 11])), "reads token 11 of example 1"),
    ],
)
def test_questions_that_are_not_of_the_model(change, metric, words):
    params, prompts = random_model(BASE)[0], prompts_of(CLEAN, CORRUPTED)
    check_question(params, BASE, prompts, METRIC)
    with pytest.raises(InputError, match=words):
        check_question(params, BASE, prompts._replace(**change), metric)


def test_prompts_longer_than_the_context_are_refused():
    short = dataclasses.replace(BASE, n_context=3)
    with pytest.raises(InputError, match="4 positions are more"):
        check_question(random_model(BASE)[0], short, prompts_of(CLEAN, CORRUPTED), METRIC)


def test_an_unknown_direction_is_named():
    with pytest.raises(InputError, match="direction = 'noise': did you mean 'noising'"):
        roles(prompts_of(CLEAN, CORRUPTED), "noise")
