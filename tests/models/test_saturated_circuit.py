"""The two circuits on which gradients mislead: their closed forms hold for every sharpness, at every head and site."""

import jax
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.models.cancelling_circuit import (
    cancelling_circuit,
    cancelling_prompts,
    signal_without_damper,
    total_effect,
)
from interp_jax.models.saturated_circuit import KINDS, first_order, saturated_circuit, saturated_prompts
from tests.models import circuit_oracle


@pytest.mark.parametrize("sharpness", [1.0, 5.0, 20.0])
def test_the_switch_is_patched_and_attributed_as_its_truth_says(sharpness):
    with jax.enable_x64(True):
        params, cfg, truth = saturated_circuit(3, sharpness)
        for kind in KINDS:
            prompts = saturated_prompts(3, kind)
            circuit_oracle.check(params, cfg, truth, kind, prompts, 1e-12)
            assert circuit_oracle.right(params, cfg, prompts, "clean").all()
            assert circuit_oracle.right(params, cfg, prompts, "corrupted").all()


def test_first_order_sees_nothing_of_a_saturated_switch():
    assert first_order(20.0) == pytest.approx(2.5 * 20 * np.exp(-20.0), rel=1e-6) and first_order(20.0) < 1e-6
    assert first_order(0.01) == pytest.approx(1, abs=0.01)  # and all of a blunt one
    assert 0 < first_order(1000.0) + 1e-300 < 1e-200


@pytest.mark.parametrize("place", [0, 1])
def test_either_key_alone_gives_half(place):
    params, cfg, _ = saturated_circuit(3)
    prompts = saturated_prompts(3, "keys")
    key = circuit_oracle.activations(params, prompts.clean, cfg, ("blocks.attn.k",))["blocks.attn.k"][0]
    edits = {"blocks.attn.k": taps.Edit("replace", key, (np.arange(3) == place)[:, None, None], layer=0)}
    patched = circuit_oracle.metric(params, prompts.corrupted, cfg, prompts, edits)
    np.testing.assert_allclose(patched, np.zeros(len(prompts.clean)), atol=1e-4)  # between -20 and 20


@pytest.mark.parametrize("sharpness", [4.5, 8.0, 50.0])
def test_the_signal_is_patched_and_attributed_as_its_truth_says(sharpness):
    with jax.enable_x64(True):
        params, cfg, truth = cancelling_circuit(2, sharpness)
        prompts = cancelling_prompts(2)
        circuit_oracle.check(params, cfg, truth, "cue", prompts, 1e-12)
        assert circuit_oracle.right(params, cfg, prompts, "clean").all()
        assert circuit_oracle.right(params, cfg, prompts, "corrupted").all()
        clean, corrupted = (
            circuit_oracle.unpatched(params, tokens, cfg, prompts) for tokens in (prompts.clean, prompts.corrupted)
        )
        np.testing.assert_allclose(clean - corrupted, np.full(4, total_effect(sharpness)), atol=1e-12)


def test_without_the_gradient_through_layer_1_the_signal_is_seen():
    with jax.enable_x64(True):
        params, cfg, _ = cancelling_circuit(2, 8.0)
        prompts = cancelling_prompts(2)
        site, dropped = "blocks.attn.z", "blocks.attn.out"
        z = [circuit_oracle.activations(params, t, cfg, (site,))[site] for t in (prompts.corrupted, prompts.clean)]
        model = lambda tokens, add: circuit_oracle.metric(
            params, tokens, cfg, prompts, {site: taps.Edit("add", add, layer=0)}
        )
        stop = {dropped: lambda x, layer: jax.numpy.where(layer == 1, jax.lax.stop_gradient(x), x)}
        gradient = jax.grad(lambda add: taps.edit_with(model, stop)(prompts.corrupted, add).sum())(
            np.zeros(z[0].shape[1:])
        )
        change = np.einsum("bphe,bphe->hb", gradient, (z[1] - z[0])[0]) / total_effect(8.0)
        np.testing.assert_allclose(change[0], np.full(4, signal_without_damper(8.0)), atol=1e-12)


def test_prompts_and_circuits_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="unknown kind of prompts 'querry': did you mean 'query'?"):
        saturated_prompts(3, "querry")
    with pytest.raises(InputError, match="1 name"):
        saturated_prompts(1, "keys")
    with pytest.raises(InputError, match="sharpness = 4.0: "):
        cancelling_circuit(2, 4.0)
