"""Gemma Scope's two formats: files of random weights written here, in the published layout, say what its formula says."""

import numpy as np
import pytest

from interp_jax.errors import InputError
from tests.third_party.dictionaries import D, F, examples, made, same, says
from third_party import gemma_scope
from third_party.safetensors_writer_io import write_file

RNG = np.random.default_rng(0)


def published(affine=False, width=D):
    shapes = {"w_enc": (D, F), "w_dec": (F, width), "b_enc": (F,), "b_dec": (width,)}
    found = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    found["threshold"] = RNG.uniform(0.1, 1, F).astype(np.float32)
    return found | ({"affine_skip_connection": RNG.normal(size=(D, width)).astype(np.float32)} if affine else {})


def formula(p, x):
    """JumpReLU of what is read as it is, in float64."""
    p = {name: value.astype(np.float64) for name, value in p.items()}
    z = x @ p["w_enc"] + p["b_enc"]
    f = np.where(z > p["threshold"], z, 0)
    return f, f @ p["w_dec"] + p["b_dec"] + (x @ p["affine_skip_connection"] if "affine_skip_connection" in p else 0)


@pytest.mark.parametrize("name", ["params.npz", "params.safetensors"])
@pytest.mark.parametrize("transcoder", [False, True])
def test_a_published_file_says_what_its_formula_says(tmp_path, name, transcoder):
    tensors = published()
    (np.savez if name.endswith("npz") else lambda file, **t: write_file(file, t))(tmp_path / name, **tensors)
    params, cfg = gemma_scope.load(tmp_path, transcoder=transcoder)
    assert bool(cfg.d_out) == transcoder and not cfg.centred
    for got, want in zip(says(params, cfg, examples()), formula(tensors, examples()), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)
    gemma_scope.save(tmp_path / "again" / name, params, cfg)
    same(params, gemma_scope.load(tmp_path / "again" / name, transcoder=transcoder)[0])


def test_an_affine_connection_makes_a_transcoder(tmp_path):
    tensors = published(affine=True, width=4)
    write_file(tmp_path / "params.safetensors", tensors)
    params, cfg = gemma_scope.load(tmp_path)
    assert cfg.skip and cfg.d_out == 4
    for got, want in zip(says(params, cfg, examples()), formula(tensors, examples()), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)
    gemma_scope.save(tmp_path / "again.safetensors", params, cfg)
    same(params, gemma_scope.load(tmp_path / "again.safetensors")[0])
    with pytest.raises(InputError, match="which affine connections need"):
        gemma_scope.save(tmp_path / "again.npz", params, cfg)


@pytest.mark.parametrize("thresholds", ["log", "linear"])
def test_a_centred_dictionary_is_written_after_its_bias_is_moved(tmp_path, thresholds):
    params, cfg = made(kind="jumprelu", thresholds=thresholds)
    with pytest.raises(InputError, match="this one is centred"):
        gemma_scope.save(tmp_path / "params.npz", params, cfg)
    moved, plain = gemma_scope.uncentred(params, cfg)
    for got, want in zip(says(moved, plain, examples()), says(params, cfg, examples()), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)
    gemma_scope.save(tmp_path / "params.npz", moved, plain)
    for got, want in zip(says(*gemma_scope.load(tmp_path), examples()), says(moved, plain, examples()), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_bad_files_are_named(tmp_path):
    with pytest.raises(InputError, match="no params.safetensors or params.npz there"):
        gemma_scope.load(tmp_path)
    (tmp_path / "params.npz").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="params.npz: not an archive of arrays"):
        gemma_scope.load(tmp_path)
    np.savez(tmp_path / "params.npz", **(published() | {"w_dec": np.zeros((F, 2, D), np.float32)}))
    with pytest.raises(InputError, match="w_enc .D, F. and w_dec .F, D. are not both there"):
        gemma_scope.load(tmp_path)
    np.savez(tmp_path / "params.npz", **(published() | {"threshold": np.zeros(3, np.float32)}))
    with pytest.raises(InputError, match=r"tensor 'threshold' has shape \[3\], expected \[16\]"):
        gemma_scope.load(tmp_path)
    np.savez(tmp_path / "params.npz", w_enc=np.array([object()]))
    with pytest.raises(InputError, match="not an archive of arrays"):
        gemma_scope.load(tmp_path)
    with pytest.raises(InputError, match="Gemma Scope's dictionaries are JumpReLU"):
        gemma_scope.save(tmp_path / "params.npz", *made(kind="topk"))
