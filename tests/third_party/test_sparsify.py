"""sparsify's directories: written in the published layout, they say what its formula says, and are written back the same."""

import json

import numpy as np
import pytest

from interp_jax.errors import InputError
from tests.third_party.dictionaries import D, F, K, examples, made, same, says
from third_party import sparsify
from third_party.safetensors_writer_io import write_file

RNG = np.random.default_rng(0)


def publish(directory, **changes):
    """A directory as sparsify writes it; returns its tensors."""
    shapes = {"encoder.weight": (F, D), "encoder.bias": (F,), "W_dec": (F, D), "b_dec": (D,)}
    shapes |= {"W_skip": (D, D)} if changes.get("skip_connection") else {}
    tensors = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    config = {"activation": "topk", "expansion_factor": 4, "normalize_decoder": True, "num_latents": F, "k": K}
    config |= {"multi_topk": False, "skip_connection": False, "transcode": False, "d_in": D} | changes
    directory.mkdir(exist_ok=True)
    write_file(directory / "sae.safetensors", tensors)
    (directory / "cfg.json").write_text(json.dumps(config))
    return tensors


@pytest.mark.parametrize("changes", [{}, {"transcode": True}, {"transcode": True, "skip_connection": True}])
def test_a_published_directory_says_what_its_formula_says(tmp_path, changes):
    p, x = publish(tmp_path, **changes), examples()
    read = x if changes.get("transcode") else x - p["b_dec"]
    z = np.maximum(read @ p["encoder.weight"].T + p["encoder.bias"], 0)
    f = np.where(z >= -np.sort(-z, axis=1)[:, K - 1 : K], z, 0)
    want = f @ p["W_dec"] + p["b_dec"] + (x @ p["W_skip"].T if "W_skip" in p else 0)
    params, cfg = sparsify.load(tmp_path)
    got, said = says(params, cfg, x)
    np.testing.assert_allclose(got, f, atol=1e-5)
    np.testing.assert_allclose(said, want, atol=1e-5)
    sparsify.save(tmp_path / "again", params, cfg)
    again, read_again = sparsify.load(tmp_path / "again")
    same(params, again)
    assert read_again == cfg


def test_without_a_number_of_features_the_expansion_says_it(tmp_path):
    publish(tmp_path, num_latents=0, d_in=D, expansion_factor=F // D)
    with pytest.raises(InputError, match=r"has shape \[16, 6\], expected \[12, 6\]"):
        sparsify.load(tmp_path)


ERRORS = {
    "only topk, unsigned, is handled": {"activation": "groupmax"},
    "no field 'k' that is a number": {"k": None},
    "neither num_latents nor expansion_factor": {"num_latents": 0, "expansion_factor": 0},
    "skip_connection without transcode": {"skip_connection": True},
    "dictionary.k: 17 of 16 features": {"k": 17},
}


@pytest.mark.parametrize("message", ERRORS)
def test_what_is_not_handled_is_named(tmp_path, message):
    publish(tmp_path, **ERRORS[message])
    with pytest.raises(InputError, match=message):
        sparsify.load(tmp_path)


def test_what_sparsify_lacks_is_not_written(tmp_path):
    for changes in ({"kind": "jumprelu"}, {"kind": "topk", "d_out": 4}, {"kind": "topk", "centred": False}):
        with pytest.raises(InputError, match="sparsify has TopK dictionaries"):
            sparsify.save(tmp_path, *made(**changes))
