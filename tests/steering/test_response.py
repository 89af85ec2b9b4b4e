"""Responses in NumPy float64, many edits as one program, and curves read off at one divergence."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.steering.interventions import added, low_rank
from interp_jax.steering.response import Text, at_equal_divergence, check_text, dose_response
from tests.models.transformer_oracle import FAMILY, random_model

CFG = FAMILY["mlp"]
PARAMS, TOKENS = random_model(CFG)
RNG = np.random.default_rng(0)
D, W, P = CFG.d_model, *TOKENS.shape
SITE = "blocks.resid_post"
MODEL = partial(transformer.apply, cfg=CFG)
TEXT = Text(
    np.asarray(TOKENS),
    np.arange(CFG.d_vocab)[None] < np.array([[3], [6]]),
    RNG.random((2, W, P)).astype(np.float32),
    RNG.random((2, W, P)).astype(np.float32),
)
DOSES = np.array([0.0, 0.5, 2.0], np.float32)


def directions(n):
    return RNG.normal(size=(n, D)).astype(np.float32)


def grid(directions, layers):
    """Every direction, layer and dose."""
    v, layer, dose = (x.ravel() for x in np.meshgrid(np.arange(len(directions)), layers, DOSES, indexing="ij"))
    return {SITE: added(jnp.asarray(directions[v]), jnp.asarray(dose), jnp.asarray(layer))}


def log_softmax(x):
    x = np.asarray(x, np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_responses_are_numpys_and_one_program(compilations):
    v, (read, write) = directions(2), (directions(4).T, directions(4)[:, None])
    affine = {
        SITE: low_rank(jnp.asarray(read.T[:, :, None]), jnp.ones((4, 1)), jnp.asarray(write), layer=jnp.arange(4) % 2)
    }
    groups = {"added": grid(v, np.arange(2)), "affine": affine}
    with compilations() as names:
        before, found = dose_response(MODEL, PARAMS, TEXT, groups, batch=4, devices=tuple(jax.devices()[:2]))
    assert names.count("dose_response") == 1
    logits = log_softmax(MODEL(PARAMS, TOKENS))
    class_of = lambda said: np.stack([np.log(np.exp(said)[..., :n].sum(-1)) for n in (3, 6)])
    np.testing.assert_allclose(before.wanted, (TEXT.wanted * class_of(logits)).sum(-1), rtol=1e-4)
    np.testing.assert_allclose(before.kl, 0, atol=1e-5)
    one = jax.jit(lambda edits: taps.edit(partial(MODEL, PARAMS))(edits, TOKENS))
    for name, edits in groups.items():
        for r in range(0, len(found[name].kl), 5 if name == "added" else 3):
            after = log_softmax(one(jax.tree.map(lambda x, r=r: x[r], edits)))
            np.testing.assert_allclose(found[name].wanted[r], (TEXT.wanted * class_of(after)).sum(-1), rtol=1e-3)
            kl = (np.exp(logits) * (logits - after)).sum(-1)
            np.testing.assert_allclose(found[name].kl[r], (TEXT.elsewhere * kl).sum(-1), rtol=2e-3, atol=1e-4)
    still = found["added"].kl.reshape(2, 2, 3, 2, W)[:, :, 0]
    np.testing.assert_allclose(still, 0, atol=1e-5)  # a dose of 0 does nothing


def test_other_doses_and_directions_do_not_compile_again(compilations):
    dose_response(MODEL, PARAMS, TEXT, {"added": grid(directions(1), np.arange(2))})
    with compilations() as names:
        dose_response(MODEL, PARAMS, TEXT, {"added": grid(directions(1), np.array([1, 0]))})
    assert "dose_response" not in names


def test_curves_are_read_off_at_one_divergence():
    """Effect 3a and KL 2a² of a dose a: at KL 0.5 the dose is 0.5, the effect 1.5, wherever doses are measured."""
    doses = np.array([0.1, 0.4, 0.7, 1.3])
    found = at_equal_divergence(doses, 3 * doses, 2 * doses**2, 0.5)
    assert float(found.dose) == pytest.approx(0.5) and float(found.effect) == pytest.approx(1.5)
    first = at_equal_divergence(doses, 3 * doses, 2 * doses**2, 0.005)  # below the first dose: from 0 on
    assert float(first.dose) == pytest.approx(0.05) and float(first.effect) == pytest.approx(0.15)
    several = at_equal_divergence(doses, np.stack([3 * doses, -doses]), np.stack([2 * doses**2, 0 * doses]), 0.5)
    np.testing.assert_allclose(several.effect, [1.5, np.nan])
    bent = at_equal_divergence(doses, doses, np.array([0.02, 0.6, 0.1, 0.9]), 0.5)  # the first crossing counts
    assert 0.1 < float(bent.dose) < 0.4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": np.zeros((2, CFG.d_vocab), bool)}, "class 0 of the text has no token"),
        ({"wanted": np.zeros((2, W, P), np.float32)}, "class 0 of the text has no position"),
        ({"elsewhere": np.zeros((2, W, P), np.float32)}, "class 0 of the text has no position"),
    ],
)
def test_what_cannot_be_measured_is_refused(change, words):
    check_text(TEXT)
    with pytest.raises(InputError, match=words):
        check_text(TEXT._replace(**change))
