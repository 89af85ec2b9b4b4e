"""Dictionaries, stores and feature pages of published weights: their text, its marks, what is read, and what is refused."""

import dataclasses
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from interp_jax import taps
from interp_jax.activations.harvest import Harvest
from interp_jax.activations.normaliser import restored
from interp_jax.data.text import TextConfig
from interp_jax.dictionaries.config import Dictionary
from interp_jax.errors import InputError
from interp_jax.experiments import dictionaries
from interp_jax.experiments.config import CONFIGS
from interp_jax.experiments.dictionaries.config import Config, Measurements
from interp_jax.experiments.dictionaries.stream import here
from interp_jax.experiments.job import run_job
from interp_jax.experiments.subjects.model import Model
from interp_jax.experiments.subjects.text import marks, text_of
from interp_jax.models import transformer
from interp_jax.results.feature_page import received, unpacked
from third_party import huggingface

GPT2 = {
    "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "activation_function": "gelu_new", "n_embd": 16, "n_head": 2,
    "n_layer": 2, "n_positions": 64, "vocab_size": 130, "n_inner": None, "layer_norm_epsilon": 1e-5, "eos_token_id": 1,
    "bos_token_id": 0,
}  # fmt: skip
BOS, EOS, FIRST = 0, 1, 2
CODE = "def f(a, b):\n    return [a, (b, 'c')]  # d\nx = f(1, f(2, 3))\n"


def write_tokenizer(directory):
    """Every character of ASCII is a token, behind a BOS."""
    alphabet = {"<s>": BOS, "</s>": EOS} | {chr(c): c + FIRST for c in range(128)}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    tokenizer.save(str(directory / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(names))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A GPT-2 of two layers with random weights, as it is published."""
    directory = tmp_path_factory.mktemp("published")
    cfg = huggingface.configure(GPT2)
    shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: (0.5 * rng.normal(size=x.shape)).astype(np.float32), shapes)
    huggingface.save(directory, params, cfg, GPT2)
    write_tokenizer(directory)
    return directory


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Lines of JSON: a document in each."""
    path = tmp_path_factory.mktemp("text") / "code.jsonl"
    rows = [{"content": CODE.replace("x", f"x{i}"), "id": i} for i in range(60)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def of(model, text, **changes):
    own = Dictionary(kind="topk", d_in=16, n_features=32, most=4, k=4)
    fixed = {"steps": 4, "batch_size": 32, "stream_steps": 4, "context": 24, "harvest": Harvest(windows=4)}
    config = Config(
        **fixed,
        model=Model(path=str(model)),
        data=TextConfig(path=str(text), column="content", held_out=0.3),
        dictionary=own,
        measure=Measurements(windows=4, at_once=2),
    )
    return dataclasses.replace(config, **changes)


def test_its_text_is_read_by_its_own_tokenizer_and_each_document_ends(model, text):
    config = of(model, text)
    found = text_of("model", config.model, config.data)
    documents = "".join(chr(t - FIRST) if t >= FIRST else "|" for t in found.train).split("|")
    assert documents[-1] == "" and set(documents[:-1]) <= {CODE.replace("x", f"x{i}") for i in range(60)}
    assert found.prefix == (BOS,) and marks(config.model).every == (BOS, EOS)
    assert 30 < len(documents) - 1 < 60 and len(found.held_out) > 100


def test_what_is_harvested_are_its_activations_behind_a_bos(model, text):
    config = of(model, text, harvest=Harvest(windows=4, skip_first=0))
    made = dictionaries.experiment(config)
    read = restored(made.stream(made.shared, jnp.int32(0)).read[0], here(made.shared.normal["read"], 0)).reshape(
        -1, 16
    )
    params, cfg = huggingface.load(model, dtype=np.float32)
    train = np.asarray(text_of("model", config.model, config.data).train)
    every = np.lib.stride_tricks.sliding_window_view(train, 23)
    windows = np.concatenate([np.full((len(every), 1), BOS), every], axis=1)
    run = jax.jit(
        lambda w: taps.record(lambda t: transformer.apply(params, t, cfg), {"blocks.resid_post": (1,)})(w)[1]
    )
    acts = np.asarray(run(windows)["blocks.resid_post"])[0]
    rows = acts[windows >= FIRST]
    distance = np.array([np.abs(rows - x).max(1).min() for x in np.asarray(read)])
    assert distance.max() < 1e-3  # every row is that of a token of text, and none of a mark


def job(config, directory, sweeps=("none",), **overrides):
    values = {"output.directory": str(directory), **{key.replace("__", "."): str(x) for key, x in overrides.items()}}
    return run_job(str(config), values, sweeps, False, "./launch/local …", Console(file=open(os.devnull, "w")))


@pytest.mark.slow
def test_from_weights_and_text_to_a_page_of_features(model, text, tmp_path):
    """Stored, trained on the store with two layers, and looked at, all by the commands that people give."""
    common = {
        "model__path": model,
        "data__path": text,
        "data__column": "content",
        "data__held_out": 0.3,
        "context": 24,
    }
    small = {"batch_size": 32, "stream_steps": 4, "harvest__windows": 4, "layers": "(0, 1)"}
    job(CONFIGS / "store.py", tmp_path / "stored", store=tmp_path / "store", rows=512, **common, **small)
    own = {"dictionary__d_in": 16, "dictionary__n_features": 32, "dictionary__most": 4, "dictionary__kind": "topk"}
    shown = {"measure__windows": 4, "measure__at_once": 2, "dictionary__k": 4, "steps": 8}
    for name, store in (("read", tmp_path / "store"), ("harvested", "")):
        more = {"store": store} if store else {}
        job(CONFIGS / "dictionaries.py", tmp_path / name, ["places"], **common, **small, **own, **shown, **more)
    read, harvested = (
        json.loads((tmp_path / name / "dictionaries.json").read_text()) for name in ("read", "harvested")
    )
    assert read == harvested and len(read) == 2 and read[0]["explained"] != read[1]["explained"]
    where = {"dictionary__path": tmp_path / "read", "dictionary__member": "layer=0", "concepts__least": 5}
    page = job(CONFIGS / "features.py:tiny", tmp_path / "features", **where)
    told = received(next(page.parent.glob("features/*/index.js")).read_text())
    assert "</s>" not in told["names"] or told["columns"]["density"]
    score = unpacked(told["columns"]["probe score"])
    assert np.nanmax(score) > 0.6 and "`blocks.resid_post`, layer 0" in page.read_text().replace(
        "<code>", "`"
    ).replace("</code>", "`")


def test_what_cannot_be_read_is_named(model, text, tmp_path):
    config = of(model, text)
    for message, changes in {
        "context = 65: .* has room for 64 tokens, 1 of them its own": {"context": 65},
        "context = 2: .* has room": {"context": 2},
        "data.path = /nowhere: no such file": {"data": TextConfig(path="/nowhere")},
        "data: .*column = 'text': did you mean|data.column = 'text': ": {"data": TextConfig(path=str(text))},
        "model.path is empty: give the directory": {"model": Model()},
    }.items():
        with pytest.raises(InputError, match=message):
            dictionaries.experiment(dataclasses.replace(config, **changes))
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in model.iterdir():
        if "tokenizer" not in file.name:
            (bare / file.name).symlink_to(file)
    with pytest.raises(InputError, match="its text needs a tokenizer, and no tokenizer.json beside the weights"):
        dictionaries.experiment(of(bare, text))
    short = tmp_path / "short.jsonl"
    short.write_text('{"content": "a b"}\n{"content": "c d"}\n')
    with pytest.raises(InputError, match="training side has 4 tokens, fewer than a window of 24"):
        dictionaries.experiment(of(model, short))
    for line, message in {
        "{": "line 2: not JSON",
        "[]": "line 2: expected a JSON object",
        '{"content": 3}': "line 2: data.column = 'content': it is no text",
    }.items():
        short.write_text('{"content": "a b"}\n' + line + "\n")
        with pytest.raises(InputError, match=message):
            dictionaries.experiment(of(model, short))
