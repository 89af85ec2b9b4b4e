"""What a row of a decoder says directly: the same as logit attribution says of it, and NumPy's ends of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.anatomy import logit_attribution
from interp_jax.dictionaries.measures.token_logits import direct_logits, is_added, token_logits
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig

CFG = TransformerConfig(n_layers=1, d_model=16, n_heads=2, d_head=8, d_vocab=23, n_context=8)


@pytest.mark.parametrize("changes", [{"norm": "layer"}, {"norm": "rms", "tied": True}, {"norm": "none"}], ids=str)
def test_they_are_the_mean_of_logit_attribution(changes):
    cfg = dataclasses.replace(CFG, **changes)
    params = jax.jit(lambda key: jax.tree.map(lambda x: x + 0.1, transformer.init(key, cfg)))(jax.random.key(0))
    tokens, row = jax.random.randint(jax.random.key(1), (2, 8), 0, 23), jax.random.normal(jax.random.key(2), (16,))

    @jax.jit
    def both(params, tokens, row):
        model = lambda tokens: transformer.apply(params, tokens, cfg)
        _, acts = taps.record(model, logit_attribution.attribution_sites(cfg))(tokens)
        readouts = [logit_attribution.logit_readout(params, acts, cfg, jnp.array([[token]])) for token in (0, 7, 22)]
        said = [logit_attribution.attribute(jnp.broadcast_to(row, (2, 8, 16)), readout).mean() for readout in readouts]
        inverse = (1 / acts["ln_final.scale"]).mean() if cfg.norm != "none" else 1.0
        return direct_logits(params, cfg, inverse, row[None])[0, jnp.array([0, 7, 22])], jnp.stack(said)

    np.testing.assert_allclose(*both(params, tokens, row), atol=1e-5)


def test_ends_and_bins_are_numpys():
    params = transformer.init(jax.random.key(0), CFG)
    params["unembed"]["W_U"] = params["unembed"]["W_U"].at[:, 5].set(params["unembed"]["W_U"][:, 2])
    rows = jax.random.normal(jax.random.key(1), (70, 16))
    found = jax.jit(lambda rows: token_logits(params, CFG, 0.5, rows, 3, 8))(rows)
    logits = np.asarray(direct_logits(params, CFG, 0.5, rows))
    for i in range(70):
        np.testing.assert_array_equal(found.top_ids[i], np.argsort(-logits[i], kind="stable")[:3])
        np.testing.assert_array_equal(found.bottom_ids[i], np.argsort(logits[i], kind="stable")[:3])
        np.testing.assert_allclose(found.bottom[i], np.sort(logits[i])[:3], atol=1e-6)
        heights = np.histogram(logits[i], 8)[0]
        assert np.abs(found.heights[i] - heights).sum() <= 2 and found.heights[i].sum() == 23
    np.testing.assert_allclose(found.high, logits.max(1), atol=1e-6)


def test_what_is_not_in_the_stream_says_nothing_directly():
    assert is_added("blocks.mlp.out", CFG) and not is_added("blocks.mlp.post", CFG)
    post = dataclasses.replace(CFG, placement="post")
    assert not is_added("blocks.resid_post", post)
    params = transformer.init(jax.random.key(0), post)
    with pytest.raises(InputError, match="not a sum of parts"):
        direct_logits(params, post, 1.0, jnp.zeros((1, 16)))
