"""Every architecture against the reference: output, every site that it shows, gradients, caches.

What is measured is explained in `third_party/huggingface/parity/`; `test_faults.py` shows that it would notice a fault.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from interp_jax.models import transformer
from interp_jax.models.sites import sites
from third_party import huggingface
from third_party.huggingface.parity import batches, comparison, golden, ours, theirs
from third_party.huggingface.parity.cases import CASES, PLAIN
from third_party.huggingface.parity.comparison import BARS, OUTPUT
from third_party.huggingface.parity.lifting import lifted

CASTS = [name for name in PLAIN if name not in ("gpt2", "bert")]  # those two have none


@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize("name", CASES)
def test_output_sites_and_gradients(name, dtype, written):
    errors = comparison.errors(CASES[name], written(name), dtype)
    assert {site: error for site, error in errors.items() if not error <= BARS[dtype]} == {}
    cfg = huggingface.load(written(name))[1]
    names = {site.name for site in sites(cfg)}
    hidden = {site for site in names if site.endswith(".scale") or site == "blocks.attn.result"}
    gradients = {f"{ours.GRADIENT}{site}" for site in ours.STREAM}
    assert set(errors) == (names - hidden - {"logits"}) | gradients | {OUTPUT}


@pytest.mark.parametrize("name", CASTS)
def test_without_lifting_the_reference_is_no_float64(name, written):
    """Rows have no padding here: a row of masked scores alone is NaN where float64's least number becomes a float32."""
    batch = batches.long(CASES[name].fields["vocab_size"])
    assert comparison.errors(CASES[name], written(name), "float64", batch=batch)[OUTPUT] <= BARS["float64"]
    unlifted = comparison.errors(CASES[name], written(name), "float64", lift=False, batch=batch)[OUTPUT]
    assert 10 * BARS["float64"] < unlifted < BARS["float32"]


@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize("name", PLAIN)
def test_long_rows_without_padding(name, dtype, written):
    """Attention in blocks, where nobody asks for a pattern, beyond every window."""
    case = CASES[name]
    with jax.enable_x64(dtype == "float64"):
        params, cfg = huggingface.load(written(name), dtype=dtype)
        batch = batches.long(cfg.d_vocab)
        mine = ours.forward(params, batch, cfg)
    with lifted(case.module, dtype == "float64"):
        reference = theirs.forward(theirs.read_model(case, written(name), getattr(torch, dtype)), batch, cfg)
    assert comparison.error(mine, reference) <= BARS[dtype]


# --- caches


def cached(params, batch, cfg, cuts):
    """Our output when the rows come piece by piece."""
    cache = transformer.init_cache(cfg, len(batch.tokens), batch.tokens.shape[1], params["embed"]["W_E"].dtype)
    outputs = []
    for piece in cuts:
        tokens, positions = (jnp.asarray(x[:, piece]) for x in (batch.tokens, batch.positions))
        x = transformer.embed(params, tokens, cfg, positions)
        x, cache = transformer.blocks(params, x, cfg, cache=cache, positions=positions)
        outputs.append(transformer.unembed(params, x, cfg))
    return jnp.concatenate(outputs, 1)


def their_cached(model, batch, cfg, cuts):
    """The reference's."""
    arguments, past, outputs = theirs.arguments(batch, cfg), None, []
    for piece in cuts:
        given = {"input_ids": arguments["input_ids"][:, piece], "position_ids": arguments["position_ids"][:, piece]}
        with torch.no_grad():
            mask = arguments["attention_mask"][:, : piece.stop]
            result = model(**given, attention_mask=mask, past_key_values=past, use_cache=True)
        past = result.past_key_values
        outputs.append(result.logits.numpy())
    return np.concatenate(outputs, 1)


@pytest.mark.parametrize("name", [name for name in PLAIN if name != "bert"])
def test_cached(name, written):
    """A prompt of unequal rows, then two single tokens, then the rest."""
    case, cuts = CASES[name], [slice(0, 7), slice(7, 8), slice(8, 9), slice(9, 12)]
    with jax.enable_x64(True):
        params, cfg = huggingface.load(written(name), dtype=jnp.float64)
        batch = batches.padded(cfg.d_vocab)
        batch = batches.Batch(batch.tokens[:2], batch.positions[:2], batch.types[:2])  # whole, and padded on the left
        mine = jax.jit(lambda params: cached(params, batch, cfg, cuts))(params)
        whole = ours.forward(params, batch, cfg)
    with lifted(case.module):
        reference = their_cached(theirs.read_model(case, written(name), torch.float64), batch, cfg, cuts)
    assert comparison.error(np.asarray(mine)[batch.real], reference[batch.real]) <= BARS["float64"]
    assert comparison.error(whole[batch.real], reference[batch.real]) <= BARS["float64"]


# --- what is stored


@pytest.mark.parametrize("name", CASES)
def test_what_is_stored_is_what_the_reference_says(name):
    now, stored = golden.compute(CASES[name]), golden.read(name)
    versions = ("transformers_version",)
    assert {k: v for k, v in now.config.items() if k not in versions} == {
        k: v for k, v in stored.config.items() if k not in versions
    }
    assert now.seen.keys() == stored.seen.keys() and np.array_equal(now.pairs, stored.pairs)
    assert {site for site in now.seen if not comparison.error(now.seen[site], stored.seen[site]) <= 1e-11} == set()
