"""dictionary_learning's pickles: read without PyTorch and without running anything, written so that PyTorch reads them."""

import importlib
import json
import pickle
import zipfile

import numpy as np
import pytest

from interp_jax.errors import InputError
from tests.third_party.dictionaries import F, K, examples, made, same, says
from third_party import dictionary_learning
from third_party.dictionary_learning.pickles_io import read_pickle, write_pickle

CLASSES = {
    "AutoEncoder": {"kind": "standard"},
    "AutoEncoderNew": {"kind": "standard", "centred": False},
    "GatedAutoEncoder": {"kind": "gated"},
    "AutoEncoderTopK": {"kind": "topk"},
    "BatchTopKSAE": {"kind": "batch_topk"},
    "MatryoshkaBatchTopKSAE": {"kind": "matryoshka"},
    "JumpReluAutoEncoder": {"kind": "jumprelu", "thresholds": "linear", "centred": False},
}

AS_IT_IS = {"AutoEncoder": {"normalize_decoder": False}}  # of `from_pretrained`


def of(name, **changes):
    return made(**CLASSES[name], **changes)


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_written_is_read_back(tmp_path, name):
    params, cfg = of(name)
    dictionary_learning.save(tmp_path, params, cfg)
    again, read = dictionary_learning.load(tmp_path)
    same(params, again)
    assert json.loads((tmp_path / "config.json").read_text())["trainer"]["dict_class"] == name
    assert (read.kind, read.centred, read.k if cfg.is_by_k else K) == (cfg.kind, cfg.centred, K)
    assert cfg.kind != "matryoshka" or read.prefixes == cfg.prefixes
    for a, b in zip(says(params, cfg, examples()), says(again, read, examples()), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int32", "int64", "bool"])
def test_tensors_of_all_dtypes_and_shapes(tmp_path, dtype):
    import ml_dtypes

    dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    tensors = {
        "a": np.arange(12).reshape(3, 4).astype(dtype),
        "b": np.asarray(1, dtype),
        "empty": np.zeros((0, 2), dtype),
    }
    write_pickle(tmp_path / "ae.pt", tensors)
    for name, x in read_pickle(tmp_path / "ae.pt").items():
        assert x.dtype == dtype and x.shape == tensors[name].shape and np.array_equal(x, tensors[name])


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def archive(path, pickled):
    with zipfile.ZipFile(path, "w") as made_here:
        made_here.writestr("archive/data.pkl", pickled)


def test_a_pickle_that_asks_for_more_is_refused_and_does_nothing(tmp_path):
    archive(tmp_path / "ae.pt", pickle.dumps({"W_enc": Evil(tmp_path / "touched")}))
    with pytest.raises(InputError, match="its pickle asks for .*open, which a file of tensors does not need"):
        dictionary_learning.load(tmp_path)
    assert not (tmp_path / "touched").exists()


def test_damaged_files_are_named(tmp_path):
    (tmp_path / "ae.pt").write_bytes(b"not a zip")
    with pytest.raises(InputError, match="ae.pt: not an archive of tensors"):
        dictionary_learning.load(tmp_path)
    archive(tmp_path / "ae.pt", pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="holds something else than tensors by name"):
        dictionary_learning.load(tmp_path)
    dictionary_learning.save(tmp_path, *of("AutoEncoderTopK"))
    whole = (tmp_path / "ae.pt").read_bytes()
    (tmp_path / "ae.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not an archive of tensors"):
        dictionary_learning.load(tmp_path)
    with pytest.raises(InputError, match="ae.pt"):
        dictionary_learning.load(tmp_path / "nowhere" / "ae.pt")


def test_a_class_is_told_by_its_tensors_where_it_can_be(tmp_path):
    for name in CLASSES:
        params, cfg = of(name)
        dictionary_learning.save(tmp_path, params, cfg)
        (tmp_path / "config.json").unlink()
        if cfg.kind in ("topk", "batch_topk"):
            with pytest.raises(InputError, match="TopK or BatchTopK"):
                dictionary_learning.load(tmp_path)
        else:
            read = dictionary_learning.load(tmp_path / "ae.pt")[1]
            assert (read.kind, read.centred) == (cfg.kind, cfg.centred)
    (tmp_path / "config.json").write_text(json.dumps({"trainer": {"dict_class": "AutoEncoderTopk"}}))
    with pytest.raises(InputError, match="did you mean 'AutoEncoderTopK'"):
        dictionary_learning.load(tmp_path)


def test_what_it_lacks_is_not_written(tmp_path):
    uncentred = {"kind": "topk", "centred": False}
    for changes in ({"kind": "abs_topk"}, {"kind": "topk", "d_out": 4}, {"kind": "jumprelu"}, uncentred):
        with pytest.raises(InputError, match="dictionary_learning has no dictionary of kind"):
            dictionary_learning.save(tmp_path, *made(**changes))


def test_features_not_in_use_are_left_out(tmp_path):
    params, cfg = of("MatryoshkaBatchTopKSAE", width=10)
    dictionary_learning.save(tmp_path, params, cfg)
    again, read = dictionary_learning.load(tmp_path)
    assert read.n_features == 10 and read.prefixes == (0.4, 1.0)
    np.testing.assert_array_equal(says(params, cfg, examples())[0][:, :10], says(again, read, examples())[0])


@pytest.mark.peers
@pytest.mark.parametrize("name", CLASSES)
def test_pytorch_reads_it(tmp_path, name):
    import torch

    params, cfg = of(name)
    dictionary_learning.save(tmp_path, params, cfg)
    found = torch.load(tmp_path / "ae.pt", weights_only=True)
    ours = read_pickle(tmp_path / "ae.pt")
    assert found.keys() == ours.keys()
    for name, x in found.items():
        assert np.array_equal(x.numpy(), ours[name]), name
    torch.save(
        {name: torch.nn.Parameter(x) if x.is_floating_point() else x for name, x in found.items()}, tmp_path / "ae.pt"
    )
    same(params, dictionary_learning.load(tmp_path)[0])


@pytest.mark.peers
def test_views_of_a_storage_are_read(tmp_path):
    import torch

    whole = torch.arange(F * 3.0).reshape(F, 3)
    torch.save({"part": whole[2:5].T, "row": whole[1]}, tmp_path / "ae.pt")
    found = read_pickle(tmp_path / "ae.pt")
    assert np.array_equal(found["part"], whole[2:5].T.numpy()) and np.array_equal(found["row"], whole[1].numpy())


@pytest.mark.peers
@pytest.mark.parametrize("name", CLASSES)
def test_its_own_classes_read_it_and_say_the_same_and_are_read(tmp_path, name):
    """Features and reconstructions; what they write, loaded again, too."""
    import torch

    from third_party.peers._dictionaries_torch import bare_package

    package = bare_package("dictionary_learning")
    modules = {
        "AutoEncoderTopK": "top_k",
        "BatchTopKSAE": "batch_top_k",
        "MatryoshkaBatchTopKSAE": "matryoshka_batch_top_k",
    }
    bare_package(f"{package}.trainers")
    place = f"trainers.{modules[name]}" if name in modules else "dictionary"
    kind = getattr(importlib.import_module(f"{package}.{place}"), name)

    params, cfg = of(name)
    dictionary_learning.save(tmp_path, params, cfg)
    theirs, x = kind.from_pretrained(tmp_path / "ae.pt", **AS_IT_IS.get(name, {})), examples()
    with torch.no_grad():
        features = theirs.encode(torch.tensor(x))
        want = features.numpy(), theirs.decode(features).numpy()
    torch.save(theirs.state_dict(), tmp_path / "ae.pt")
    again = dictionary_learning.load(tmp_path)
    for ours in ((params, cfg), again):
        for a, b in zip(says(*ours, x), want, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    same(params, again[0])
