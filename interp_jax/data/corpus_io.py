"""From a `TextConfig` to a tokenised corpus, kept in the user's cache by a hash of everything that it depends on.

The tokenizer is a byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019) trained on the training side
alone, by the `tokenizers` library: no text is unknown to it, and decoding gives back every byte.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from interp_jax.data.text import END, END_TEXT, SMALLEST_VOCABULARY, Corpus, TextConfig, is_held_out
from interp_jax.data.text_io import Document, read_dataset, read_documents
from interp_jax.errors import InputError

CACHE = "INTERP_JAX_CACHE"  # environment variable: where the cache lies
LAYOUT = 1  # raised when the arrays in the cache change their meaning
BATCH = 256  # documents encoded at once


def load_corpus(cfg: TextConfig, d_vocab: int) -> Corpus:
    """The corpus of `cfg` in `d_vocab` tokens; read from the cache where the same text was tokenised before.

    Raises:
      InputError: nothing to read, no text in it, too little text for the vocabulary, or the cache cannot be written.
    """
    cfg.check()
    if d_vocab < SMALLEST_VOCABULARY:
        raise InputError(
            f"model.d_vocab = {d_vocab}: bytes and an end-of-text token need at least {SMALLEST_VOCABULARY}"
        )
    documents, source = _documents(cfg)
    directory = cache_directory() / "corpora" / _digest(documents, cfg, d_vocab)
    if not (directory / "corpus.json").exists():
        _store(_tokenise(documents, cfg, d_vocab, source), directory)
    return _load(directory, source)


def encoded_corpus(cfg: TextConfig, tokenizer: Tokenizer, end: int | None) -> Corpus:
    """The corpus of `cfg` in the tokens of a tokenizer that there is, each document followed by `end` if that is a token.

    Raises:
      InputError: nothing to read, or no text in it.
    """
    cfg.check()
    documents, source = _documents(cfg)
    held_out = is_held_out([d.name for d in documents], cfg.held_out)
    sides = [[d.text for d, h in zip(documents, held_out, strict=True) if h == side] for side in (False, True)]
    train, held = (_encode(tokenizer, texts, end) for texts in sides)
    n_bytes, n = sum(len(text.encode()) for text in sides[1]), len(held) - (0 if end is None else len(sides[1]))
    return Corpus(train, held, tokenizer.to_str(), n_bytes / max(1, n), (len(sides[0]), len(sides[1])), source)


def held_out_documents(cfg: TextConfig) -> list[Document]:
    """The documents of the held-out side, as text.

    Raises:
      InputError: nothing to read, or no text in it.
    """
    cfg.check()
    documents, _ = _documents(cfg)
    held_out = is_held_out([d.name for d in documents], cfg.held_out)
    return [d for d, held in zip(documents, held_out, strict=True) if held]


def cache_directory() -> Path:
    """Where derived data is kept: $INTERP_JAX_CACHE, else interp_jax under the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(CACHE) or Path(base, "interp_jax"))


def decode(tokenizer: str, tokens: np.ndarray) -> str:
    """The text of tokens."""
    return Tokenizer.from_str(tokenizer).decode([int(t) for t in tokens], skip_special_tokens=False)


def pieces(tokenizer: str, tokens: np.ndarray) -> list[str]:
    """The text of every single token; bytes that are no character alone show as U+FFFD."""
    decoder = Tokenizer.from_str(tokenizer)
    return [decoder.decode([int(t)], skip_special_tokens=False) for t in tokens]


def _documents(cfg: TextConfig) -> tuple[list[Document], str]:
    """All documents that hold text, and where they are from, for people."""
    source = f"data.dataset = {cfg.dataset}" if cfg.dataset else f"data.path = {cfg.path}"
    if cfg.dataset:
        documents = read_dataset(cfg.dataset, cfg.column, cfg.most_bytes)
    else:
        documents = read_documents(cfg.path, cfg.column)
    documents = [d for d in documents if d.text.strip()]
    if len(documents) < 2:
        raise InputError(f"{source}: {'the corpus is empty' if not documents else 'one line is no corpus'}")
    return documents, source


def _digest(documents: list[Document], cfg: TextConfig, d_vocab: int) -> str:
    digest = hashlib.sha256(f"{LAYOUT} {tokenizers.__version__} {d_vocab} {cfg.held_out}".encode())
    for document in documents:
        for text in document:
            data = text.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:32]


def _tokenise(documents: list[Document], cfg: TextConfig, d_vocab: int, source: str) -> Corpus:
    held_out = is_held_out([d.name for d in documents], cfg.held_out)
    sides = [[d.text for d, h in zip(documents, held_out, strict=True) if h == side] for side in (False, True)]
    tokenizer = train_tokenizer(sides[0], d_vocab)
    if tokenizer.get_vocab_size() < d_vocab:
        raise InputError(
            f"{source}: too little text for model.d_vocab = {d_vocab}; it has pairs for {tokenizer.get_vocab_size()}"
        )
    train, held = (_encode(tokenizer, texts, END) for texts in sides)
    n_bytes = sum(len(text.encode()) for text in sides[1])
    counts = (len(sides[0]), len(sides[1]))
    return Corpus(train, held, tokenizer.to_str(), n_bytes / max(1, len(held) - counts[1]), counts, source)


def train_tokenizer(texts: list[str], d_vocab: int) -> Tokenizer:
    """A byte-level byte-pair tokenizer with at most `d_vocab` tokens; token 0 ends a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=d_vocab, special_tokens=[END_TEXT], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _encode(tokenizer: Tokenizer, texts: list[str], end: int | None) -> np.ndarray:
    dtype = np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.uint32
    ends = np.zeros(0, dtype) if end is None else np.array([end], dtype)
    rows = []
    for i in range(0, len(texts), BATCH):
        for encoding in tokenizer.encode_batch(texts[i : i + BATCH], add_special_tokens=False):
            rows += [np.asarray(encoding.ids, dtype), ends]
    return np.concatenate(rows)


def _store(corpus: Corpus, directory: Path) -> None:
    """Write aside, then rename: a reader sees a whole corpus or none, and the first of two writers wins."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".writing-", dir=directory.parent))
        np.save(aside / "train.npy", corpus.train)
        np.save(aside / "held_out.npy", corpus.held_out)
        (aside / "tokenizer.json").write_text(corpus.tokenizer, encoding="utf-8")
        facts = {"bytes_per_token": corpus.bytes_per_token, "n_documents": corpus.n_documents}
        (aside / "corpus.json").write_text(json.dumps(facts), encoding="utf-8")
        try:
            aside.rename(directory)
        except OSError:
            shutil.rmtree(aside)
            if not (directory / "corpus.json").exists():
                raise
    except OSError as error:
        raise InputError(
            f"the cache {directory.parent} cannot be written ({error.strerror}); set {CACHE} to a directory that can"
        ) from None


def _load(directory: Path, source: str) -> Corpus:
    facts = json.loads((directory / "corpus.json").read_text(encoding="utf-8"))
    return Corpus(
        train=np.load(directory / "train.npy"),
        held_out=np.load(directory / "held_out.npy"),
        tokenizer=(directory / "tokenizer.json").read_text(encoding="utf-8"),
        bytes_per_token=facts["bytes_per_token"],
        n_documents=tuple(facts["n_documents"]),
        source=source,
    )
