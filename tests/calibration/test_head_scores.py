"""Calibration of the head scores: on a circuit whose every pattern is known, and on a random model, which has no such heads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import randomness, taps
from interp_jax.anatomy import heads
from interp_jax.models import transformer
from interp_jax.models.induction_circuit import induction_circuit

PERIOD, VOCABULARY = 12, 30


def distinct_segments(n):
    """Segments [B, 2T] without a chance repetition, so that every query has exactly one target."""
    rows = [jax.random.permutation(randomness.key(i, "calibration"), VOCABULARY)[:PERIOD] for i in range(n)]
    return jnp.tile(jnp.stack(rows), (1, 2))


def patterns(params, cfg, tokens):
    model = lambda params, tokens: transformer.apply(params, tokens, cfg)
    return jax.jit(taps.record(model, ["blocks.attn.pattern"]))(params, tokens)


def test_the_circuit_copies_and_its_scores_are_exact():
    params, cfg = induction_circuit(VOCABULARY, 2 * PERIOD, sharpness=50.0)
    tokens = distinct_segments(4)
    logits, acts = patterns(params, cfg, tokens)
    np.testing.assert_array_equal(logits[:, PERIOD + 1 : -1].argmax(-1), tokens[:, PERIOD + 2 :])
    for scores in (
        heads.repeated_head_scores(acts["blocks.attn.pattern"], PERIOD),
        heads.head_scores(acts["blocks.attn.pattern"], tokens),
    ):
        assert float(scores.previous[0, 0]) == pytest.approx(1.0, abs=1e-6)
        assert float(scores.induction[1, 0]) == pytest.approx(1 - 0.5 / PERIOD, abs=1e-6)  # the first query is torn
        assert float(scores.duplicate[0, 1]) == pytest.approx(0.5, abs=1e-6)
        uniform = heads.repeated_head_scores(heads.uniform_pattern(2 * PERIOD), PERIOD)
        assert float(scores.induction[1, 1]) == pytest.approx(float(uniform.induction[0, 0]), abs=1e-6)


def test_a_blunt_circuit_has_the_score_of_the_formula():
    """previous[0, 0] = mean over q of exp(s) / (exp(s) + q), as one of q + 1 visible keys matches with score s."""
    params, cfg = induction_circuit(VOCABULARY, 2 * PERIOD, sharpness=2.0)
    _, acts = patterns(params, cfg, distinct_segments(2))
    q = np.arange(1, 2 * PERIOD)
    expected = np.mean(np.exp(2.0) / (np.exp(2.0) + q))
    scores = heads.repeated_head_scores(acts["blocks.attn.pattern"], PERIOD)
    assert float(scores.previous[0, 0]) == pytest.approx(expected, rel=1e-5)
