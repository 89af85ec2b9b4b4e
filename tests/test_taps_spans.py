"""A scan over some of the layers, whose bounds may be traced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.taps import Edit, TapError
from tests.test_taps import B, D, N, close, layer, looped, params, same, x

__all__ = ["params", "x"]  # fixtures


def part(params, x, first, stop=None):
    return taps.scan(layer, x, params["blocks"], first=first, stop=stop)[0]


@pytest.mark.parametrize("first", range(N + 1))
@pytest.mark.parametrize("stop", [None, 2, 0])
def test_some_layers_equal_a_loop_over_them(params, x, first, stop):
    if first > (N if stop is None else stop):
        return
    want = x
    for w in params["blocks"][first:stop]:
        want = layer(want, w)[0]
    close(part(params, x, first, stop), want)
    close(jax.jit(part, static_argnums=3)(params, x, jnp.int32(first), stop), want)
    end = jnp.int32(N if stop is None else stop)
    close(jax.jit(part)(params, x, jnp.int32(first), end), want)
    close(jax.jit(lambda end: part(params, x, first, end))(end), want)


@pytest.mark.parametrize("traced", [False, True])
def test_records_and_edits_count_layers_as_the_whole_stack_does(params, x, traced):
    whole, acts = taps.record(lambda p, x: part(p, x, 0), ["blocks.out"])(params, x)
    middle = taps.record(lambda p, x: part(p, x, 0, 2), {"blocks.out": (1,)})(params, x)[0]
    run = jax.jit(lambda p, x, f: taps.record(lambda p, x: part(p, x, f), ["blocks.out"])(p, x)) if traced else None
    end, later = (
        run(params, middle, 2) if traced else taps.record(lambda p, x: part(p, x, 2), ["blocks.out"])(params, middle)
    )
    close(end, whole)
    close(later["blocks.out"][-2:], acts["blocks.out"][2:])
    assert len(later["blocks.out"]) == (N if traced else 2)
    assert not traced or not np.asarray(later["blocks.out"][:2]).any()


def test_a_selection_of_layers_and_stacked_outputs_of_a_traced_span(params, x):
    run = lambda f: taps.record(lambda: part(params, x, f), {"blocks.resid_post": (3, 2)})()
    (_, some), (_, static) = jax.jit(run)(jnp.int32(2)), run(2)
    close(some["blocks.resid_post"], static["blocks.resid_post"])


def test_a_layer_beyond_a_traced_end_changes_nothing(params, x):
    def edited(stop, layer):
        edit = {"blocks.out": Edit("scale", 2.0, layer=layer)}
        return taps.edit(lambda: part(params, x, 0, stop))(edit)

    run = jax.jit(edited)
    assert np.isnan(run(jnp.int32(2), jnp.int32(2))).all()
    close(run(jnp.int32(2), jnp.int32(1)), run(2, 1))


@pytest.mark.parametrize("where", [1, 3])
def test_edits_in_a_traced_span(params, x, where):
    def edited(first, layer, value):
        return taps.edit(lambda: part(params, x, first))({"blocks.out": Edit("replace", value, layer=layer)})

    stacked = jnp.arange(N * B * D, dtype=jnp.float32).reshape(N, B, D)
    got = jax.jit(edited)(jnp.int32(1), jnp.int32(where), stacked[where])
    whole = jax.jit(edited)(jnp.int32(1), None, stacked)
    want, all_edited = x, x
    for i, w in enumerate(params["blocks"]):
        if i >= 1:
            want = want + (stacked[where] if i == where else jnp.tanh(want @ w))
            all_edited = all_edited + stacked[i]
    close(got, want)
    close(whole, all_edited)


def test_a_layer_that_is_left_out_is_never_a_silent_no_op(params, x):
    left_out = {"blocks.out": Edit("add", 1.0, layer=1)}
    with pytest.raises(TapError, match="layers 0 to 3, of which 2 to 3 are run here; asked for 1"):
        taps.edit(lambda: part(params, x, 2))(left_out)
    with pytest.raises(TapError, match="asked for 3"):
        taps.record(lambda: part(params, x, 0, 3), {"blocks.out": (3,)})()
    run = jax.jit(
        lambda first, at: taps.edit(lambda: part(params, x, first))({"blocks.out": Edit("add", 1.0, layer=at)})
    )
    assert np.isnan(run(jnp.int32(2), jnp.int32(1))).all()
    assert not np.isnan(run(jnp.int32(2), jnp.int32(2))).any()


def test_the_whole_span_is_a_scan(params, x):
    same(looped(params, x).shape, (B,))
    assert "while" in str(jax.make_jaxpr(part)(params, x, jnp.int32(0)))
    assert "while" not in str(jax.make_jaxpr(lambda p, x: part(p, x, 0))(params, x))
    jax.grad(lambda p: part(p, x, 1).sum())(params)
