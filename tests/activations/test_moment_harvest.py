"""Moments of a model's activations are those of the activations that it records."""

import jax
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.activations.harvest import Place
from interp_jax.activations.moment_harvest import Labelled, harvested, one_hot, places_of
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig

CFG = TransformerConfig(n_layers=2, d_model=12, n_heads=2, d_head=6, d_mlp=16, d_vocab=30, n_context=7)
PARAMS = transformer.init(jax.random.key(0), CFG)
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, 30, (24, 7))
Y = RNG.integers(-1, 3, (24, 7))
PLACES = {
    "first": Place("blocks.resid_post", 0),
    "heads": Place("blocks.attn.z", 1),
    "last": Place("blocks.resid_post", 1),
}


def model(params, tokens):
    return transformer.apply(params, tokens, CFG)


def blocks():
    for i in (0, 8, 16):
        yield Labelled(TOKENS[i : i + 8], one_hot(Y[i : i + 8], 3), np.float32(Y[i : i + 8] >= 0))


def rows(place):
    acts = taps.record(model, [place.site])(PARAMS, TOKENS)[1]
    return np.asarray(acts[place.site][place.layer], np.float64).reshape(24, 7, -1)


def test_all_places_in_one_pass_and_one_program(compilations):
    with compilations() as names:
        got = harvested(places_of(model, PLACES), PARAMS, blocks())
    assert names.count("further") == 1
    for name, place in PLACES.items():
        x, z = rows(place)[Y >= 0], one_hot(Y, 3)[Y >= 0]
        assert got[name].count == len(x)
        np.testing.assert_allclose(got[name].mean, x.mean(0), atol=1e-6)
        np.testing.assert_allclose(got[name].covariance, np.cov(x, rowvar=False, bias=True), atol=1e-5)
        np.testing.assert_allclose(got[name].cross, (x - x.mean(0)).T @ z, atol=1e-3)


def test_positions_apart():
    got = harvested(places_of(model, {"last": PLACES["last"]}), PARAMS, blocks(), by_position=True)["last"]
    x = rows(PLACES["last"])
    assert got.scatter.shape == (7, 12, 12)
    for p in range(7):
        kept = x[Y[:, p] >= 0, p]
        np.testing.assert_allclose(got.mean[p], kept.mean(0), atol=1e-6)
        np.testing.assert_allclose(got.covariance[p], np.cov(kept, rowvar=False, bias=True), atol=1e-5)


def test_windows_over_devices_are_those_of_one():
    read, devices = places_of(model, {"last": PLACES["last"]}), jax.devices()[:2]
    one, two = (harvested(read, PARAMS, blocks(), devices=given)["last"] for given in (None, devices))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)
    with pytest.raises(InputError, match="3 windows in a block, over 2 devices"):
        harvested(read, PARAMS, [Labelled(TOKENS[:3])], devices=devices)


def test_an_activation_that_is_not_finite_is_named():
    read = places_of(model, {"layer 1": PLACES["last"]})
    embed = {**PARAMS["embed"], "W_E": PARAMS["embed"]["W_E"].at[TOKENS[3, 2]].set(np.nan)}
    spoiled = {**PARAMS, "embed": embed}
    sound = np.isfinite(taps.record(model, ["blocks.resid_post"])(spoiled, TOKENS)[1]["blocks.resid_post"][1]).all(-1)
    first = int(np.argmin(np.asarray(sound).ravel()))
    with pytest.raises(InputError, match=f"row {first} of layer 1 is not finite"):
        harvested(read, spoiled, [Labelled(TOKENS[:8])])
    with pytest.raises(InputError, match="no block of windows"):
        harvested(read, PARAMS, [])
    with pytest.raises(InputError, match=r"label 3 of example \(0, 1\): classes are 0 to 2"):
        one_hot(np.array([[0, 3]]), 3)
