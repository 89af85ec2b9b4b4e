"""The split by document, windows as a function of (seed, step), and the corpus from text to tokens and back."""

import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.data.corpus_io import CACHE, decode, load_corpus, pieces
from interp_jax.data.text import END, Corpus, TextConfig, is_held_out, spread_windows, windows
from interp_jax.errors import InputError

VOCABULARY = 300


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    root = tmp_path / "texts"
    root.mkdir()
    for i in range(40):
        (root / f"file_{i:02d}.txt").write_text(f"The document of number {i} sings. " * 20 + "ünïcödé \U0001f40d\n")
    return root


def test_a_documents_side_depends_on_its_name_alone():
    names = [f"package/module_{i}.py" for i in range(4000)]
    chosen = is_held_out(names, 0.1)
    assert abs(np.mean(chosen) - 0.1) < 0.02
    assert is_held_out(names[::-1], 0.1) == chosen[::-1]
    assert is_held_out(names[:2000], 0.1) == chosen[:2000]


def test_no_side_is_ever_empty():
    for share in (1e-9, 1 - 1e-9):
        assert sum(is_held_out(["a", "b", "c"], share)) == 1


def test_windows_are_a_function_of_seed_and_step_and_cover_the_stream():
    tokens = jnp.arange(50, dtype=jnp.uint16)
    a = windows(tokens, 0, 7, batch=2000, length=10)
    np.testing.assert_array_equal(a, windows(tokens, 0, 7, batch=2000, length=10))
    assert (a != windows(tokens, 0, 8, batch=2000, length=10)).any()
    assert (a != windows(tokens, 1, 7, batch=2000, length=10)).any()
    np.testing.assert_array_equal(a - a[:, :1], np.tile(np.arange(10), (2000, 1)))
    assert set(np.asarray(a[:, 0])) == set(range(41))


def test_spread_windows_reach_both_ends():
    got = spread_windows(np.arange(100), 4, 10)
    assert got[0, 0] == 0 and got[-1, -1] == 99 and got.shape == (4, 10)


def test_a_corpus_decodes_to_its_documents(directory):
    corpus = load_corpus(TextConfig(path=str(directory), held_out=0.2), VOCABULARY)
    texts = sorted(p.read_text() for p in directory.iterdir())
    found = []
    for side in (corpus.train, corpus.held_out):
        ends = np.flatnonzero(side == END)
        found += [decode(corpus.tokenizer, part) for part in np.split(side, ends + 1)[:-1]]
    assert sorted(t.removesuffix("<|endoftext|>") for t in found) == texts
    assert sum(corpus.n_documents) == 40 and corpus.n_documents[1] == (corpus.held_out == END).sum()
    assert max(corpus.train.max(), corpus.held_out.max()) < VOCABULARY
    assert "".join(pieces(corpus.tokenizer, corpus.train[:9])) == decode(corpus.tokenizer, corpus.train[:9])
    n_bytes = sum(len(t.encode()) for t in texts if t in {x.removesuffix("<|endoftext|>") for x in found})
    assert 1 < corpus.bytes_per_token < n_bytes


def test_the_cache_is_used_and_follows_the_text(directory, monkeypatch):
    cfg = TextConfig(path=str(directory))
    first = load_corpus(cfg, VOCABULARY)
    with monkeypatch.context() as patch:
        patch.setattr("interp_jax.data.corpus_io.train_tokenizer", None)  # a second training would fail
        again = load_corpus(cfg, VOCABULARY)
        np.testing.assert_array_equal(first.train, again.train)
        assert first.tokenizer == again.tokenizer
        with pytest.raises(TypeError):
            load_corpus(cfg, VOCABULARY + 1)
    (directory / "file_00.txt").write_text("other words entirely, other words entirely")
    other = load_corpus(cfg, VOCABULARY)
    assert len(other.train) + len(other.held_out) < len(first.train) + len(first.held_out)


def test_a_lone_file_has_a_held_out_side(directory):
    path = directory.parent / "one.txt"
    path.write_text("".join(f"line {i} of a lone file, which is long enough\n" for i in range(400)))
    corpus = load_corpus(TextConfig(path=str(path)), 270)
    assert len(corpus.held_out) > 100 and len(corpus.train) > len(corpus.held_out)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"", "empty"),
        (b"  \n \n", "empty"),
        (b"\x00\x01\x02text", "not text"),
        (b"\xff\xfe\xfa", "not text"),
        (b"short\nand small\n", "too little text"),
    ],
)
def test_bad_files_are_named(directory, content, words):
    path = directory.parent / "bad"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        load_corpus(TextConfig(path=str(path)), VOCABULARY)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_directory_without_text_and_a_small_corpus_are_named(directory):
    (directory.parent / "images").mkdir()
    (directory.parent / "images" / "a.png").write_bytes(b"\x89PNG\x00")
    with pytest.raises(InputError, match="holds no text file"):
        load_corpus(TextConfig(path=str(directory.parent / "images")), VOCABULARY)
    with pytest.raises(InputError, match="held-out side has 5 tokens, fewer than one context of 8"):
        Corpus(np.zeros(100, int), np.zeros(5, int), "", 1.0, (1, 1), "data.path = x").check(8)
    with pytest.raises(InputError, match="at least 257"):
        load_corpus(TextConfig(path=str(directory)), 256)


def test_a_cache_that_cannot_be_written_is_named(directory, monkeypatch):
    monkeypatch.setenv(CACHE, str(directory / "file_00.txt"))
    with pytest.raises(InputError, match=CACHE):
        load_corpus(TextConfig(path=str(directory)), VOCABULARY)
