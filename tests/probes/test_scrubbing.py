"""After scrubbing, the cross-covariance is zero at every layer of the edited model; out of order it is not."""

from functools import partial

import jax
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.activations.harvest import Place
from interp_jax.activations.moment_harvest import Labelled, harvested, one_hot, places_of
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig
from interp_jax.probes.erasure.eraser import Eraser, edit_of, ranks
from interp_jax.probes.erasure.linear import least_change, orthogonal
from interp_jax.probes.scrubbing import scrubbed

CFG = TransformerConfig(n_layers=3, d_model=12, n_heads=2, d_head=6, d_mlp=24, d_vocab=20, n_context=6)
PARAMS = jax.tree.map(lambda x: 2 * x, transformer.init(jax.random.key(0), CFG))
TOKENS = np.random.default_rng(0).integers(0, 20, (48, 6))
Z = one_hot(TOKENS % 3, 3)
SITE = "blocks.resid_post"


def model(params, tokens):
    return transformer.apply(params, tokens, CFG)


def blocks():
    return [Labelled(TOKENS[i : i + 24], Z[i : i + 24]) for i in (0, 24)]


def left(edit, by_position=False):
    """The largest correlation of a number of an activation with a target, by layer of the edited model."""
    _, acts = taps.record(partial(taps.edit(model), {SITE: edit}), [SITE])(PARAMS, TOKENS)
    x = np.asarray(acts[SITE], np.float64).reshape(3, 48 if by_position else 288, -1)
    z = Z.reshape(48 if by_position else 288, -1)
    if by_position:
        x, z = x.reshape(3, 48, 6, 12)[:, :, 4], Z[:, 4]
    x, z = x - x.mean(1, keepdims=True), z - z.mean(0)
    return np.abs(np.einsum("lbd,bt->ldt", x, z) / len(z)).max((1, 2)) / x.std(1).max(1)


def test_nothing_linear_is_left_at_any_layer(compilations):
    with compilations() as names:
        erasers = scrubbed(model, PARAMS, SITE, blocks, least_change, 3)
        scrubbed(model, jax.tree.map(lambda x: -x, PARAMS), SITE, blocks, orthogonal, 3)  # another model of the kind
    assert names.count("further") == 1 and ranks(erasers).tolist() == [2, 2, 2]
    assert left(edit_of(erasers)).max() < 1e-6
    places = {str(i): Place(SITE, i) for i in range(3)}
    apart = harvested(places_of(model, places), PARAMS, blocks())
    each = [least_change(apart[name]) for name in places]
    together = Eraser(*(np.stack(leaves) for leaves in zip(*each, strict=True)))
    assert left(edit_of(together))[0] < 1e-6 < 1e-3 < left(edit_of(together))[1:].min()


def test_each_position_by_itself():
    erasers = scrubbed(model, PARAMS, SITE, blocks, least_change, 3, by_position=True)
    assert erasers.read.shape == (3, 6, 12, 3)
    assert left(edit_of(erasers), by_position=True).max() < 1e-6


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="no block of windows"):
        scrubbed(model, PARAMS, SITE, list, least_change, 3)
    with pytest.raises(InputError, match=r"expected \[L W P D\]"):
        scrubbed(model, PARAMS, "embed", blocks, least_change, 3)
    with pytest.raises(InputError, match=r"an eraser is \(12, 3\); expected \(12, 2\)"):
        scrubbed(model, PARAMS, SITE, blocks, least_change, 2)
