"""A dictionary folded onto activations as they are has the same features, and says the same."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.activations.normaliser import Normalise, fit, normalised, restored
from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.fold import folded
from interp_jax.errors import InputError

D, F, WIDTH = 6, 20, 4
RNG = np.random.default_rng(1)
X = (RNG.normal(size=(300, D)) @ RNG.normal(size=(D, D)) + 3).astype(np.float32)
Y = (X @ RNG.normal(size=(D, WIDTH)) - 1).astype(np.float32)
CASES = {
    "autoencoder": Dictionary(kind="standard", d_in=D, n_features=F),
    "gated": Dictionary(kind="gated", d_in=D, n_features=F),
    "jumprelu": Dictionary(kind="jumprelu", d_in=D, n_features=F),
    "topk": Dictionary(kind="topk", d_in=D, n_features=F, most=5, k=5),
    "bias stays": Dictionary(kind="standard", d_in=D, n_features=F, centred=False),
    "gated, bias stays": Dictionary(kind="gated", d_in=D, n_features=F, centred=False),
    "transcoder": Dictionary(kind="topk", d_in=D, d_out=WIDTH, n_features=F, most=5, k=5),
    "skip": Dictionary(kind="topk", d_in=D, d_out=WIDTH, n_features=F, most=5, k=5, skip=True),
}
init = jax.jit(dictionary.init, static_argnums=1)
reconstruct = jax.jit(dictionary.reconstruct, static_argnums=2)


@pytest.mark.parametrize("method", ["length", "whiten"])
@pytest.mark.parametrize("case", CASES)
def test_folding_changes_nothing(case, method):
    cfg = CASES[case]
    read = fit(X, Normalise(method, "median", shrinkage=0.1))
    write = fit(Y, Normalise(method, "mean", shrinkage=0.1)) if cfg.d_out else read
    params = init(jax.random.key(0), cfg)
    shaken = {name: np.asarray(x) + 0.2 * RNG.normal(size=x.shape).astype(np.float32) for name, x in params.items()}
    shaken = jax.tree.map(jnp.asarray, shaken)
    if cfg.kind == "gated":
        shaken["b_enc"], shaken["b_mag"] = shaken["b_enc"] + 0.05, shaken["b_mag"] - 0.02
    said, f = reconstruct(shaken, jnp.asarray(normalised(X, read)), cfg)
    raw, same = reconstruct(folded(shaken, cfg, read, write), jnp.asarray(X), cfg)
    assert (f != 0).any(0).sum() > 5
    close = np.abs(np.asarray(f - same)).max(1) < 1e-4
    assert close.mean() > 0.99, "but for features that are on the edge of being active"
    np.testing.assert_allclose(raw[close], restored(said, write)[close], rtol=1e-3, atol=1e-3)


def test_kinds_whose_encoder_is_not_affine_are_refused():
    cfg = dataclasses.replace(CASES["topk"], kind="matching_pursuit")
    by = fit(X, Normalise())
    with pytest.raises(InputError, match="cannot be folded into 'matching_pursuit'"):
        folded(dictionary.init(jax.random.key(0), cfg), cfg, by, by)
