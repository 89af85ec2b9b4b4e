"""circuit-tracer's files: written in the published layout they say what its formula says, and are written back the same."""

import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.dictionaries import dictionary
from interp_jax.errors import InputError
from tests.third_party.dictionaries import made, same
from third_party import circuit_tracer
from third_party.safetensors_writer_io import write_file

L, F, D, B = 3, 8, 5, 7
RNG = np.random.default_rng(0)


def publish(directory, jumps=True):
    """Files as circuit-tracer writes them; returns all their tensors."""
    found = {}
    for layer in range(L):
        shapes = {"W_enc": (F, D), "b_enc": (F,), "b_dec": (D,)} | ({"threshold": (F,)} if jumps else {})
        own = {f"{name}_{layer}": RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        own |= {name: np.abs(x) for name, x in own.items() if name.startswith("threshold")}
        decoder = {f"W_dec_{layer}": RNG.normal(size=(F, L - layer, D)).astype(np.float32)}
        write_file(directory / f"W_enc_{layer}.safetensors", own)
        write_file(directory / f"W_dec_{layer}.safetensors", decoder)
        found |= own | decoder
    return found


@pytest.mark.parametrize("jumps", [True, False])
def test_published_files_say_what_their_formula_says(tmp_path, jumps):
    p, x = publish(tmp_path, jumps), RNG.normal(size=(B, L, D)).astype(np.float32)
    said = np.stack([np.tile(p[f"b_dec_{m}"], (B, 1)) for m in range(L)], axis=1)
    features = []
    for layer in range(L):
        z = x[:, layer] @ p[f"W_enc_{layer}"].T + p[f"b_enc_{layer}"]
        features.append(np.where(z > p.get(f"threshold_{layer}", 0), z, 0))
        said[:, layer:] += np.einsum("bf,fmd->bmd", features[-1], p[f"W_dec_{layer}"])
    params, cfg = circuit_tracer.load(tmp_path)
    got, f = dictionary.reconstruct(params, jnp.asarray(x.reshape(B, -1)), cfg)
    np.testing.assert_allclose(f, np.concatenate(features, 1), atol=1e-5)
    np.testing.assert_allclose(got, said.reshape(B, -1), atol=1e-4)
    circuit_tracer.save(tmp_path / "again", params, cfg)
    same(params, circuit_tracer.load(tmp_path / "again")[0])


def test_bad_files_are_named(tmp_path):
    with pytest.raises(InputError, match="no W_enc_0.safetensors there"):
        circuit_tracer.load(tmp_path)
    publish(tmp_path)
    (tmp_path / "W_dec_1.safetensors").unlink()
    with pytest.raises(InputError, match="W_dec_1.safetensors"):
        circuit_tracer.load(tmp_path)
    publish(tmp_path)
    write_file(tmp_path / "W_dec_1.safetensors", {"W_dec_1": np.zeros((F, L, D), np.float32)})
    with pytest.raises(InputError, match=r"'W_dec_1' has shape \[8, 3, 5\], expected \[8, 2, 5\]"):
        circuit_tracer.load(tmp_path)
    with pytest.raises(InputError, match="cross-layer transcoders, not of 'topk'"):
        circuit_tracer.save(tmp_path, *made(kind="topk"))
