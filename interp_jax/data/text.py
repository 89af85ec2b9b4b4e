"""Text as arrays of tokens: the split by document, and training windows as a pure function of (seed, step).

A corpus is one stream of tokens per side of the split; every document ends with the token END. A document is held out
iff the hash of its name says so, so that adding or removing others never moves it across the split.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Integer

from interp_jax import randomness
from interp_jax.errors import InputError
from interp_jax.parts import part

END = 0  # token that ends a document
END_TEXT = "<|endoftext|>"
SMALLEST_VOCABULARY = 257  # every byte, and END


@part
class TextConfig:
    """Which text.

    Attributes:
      path: "stdlib" (the source code of Python's standard library), a text file, a directory, or a file of JSON objects, one
        a line (.jsonl), each a document.
      dataset: a Hugging Face dataset, read instead of `path`; the first `most_bytes` are used.
      column: what holds the text in a dataset, or in a line of JSON.
      held_out: share of documents that are held out.
    """

    path: str = "stdlib"
    dataset: str = ""
    column: str = "text"
    most_bytes: int = 50_000_000
    held_out: float = 0.05

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if not 0 < self.held_out < 1:
            raise InputError(f"data.held_out = {self.held_out}: must be between 0 and 1")
        if self.dataset and self.path != "stdlib":
            raise InputError(f"data.dataset = {self.dataset} and data.path = {self.path}: give one of them")
        if not self.dataset and not self.path:
            raise InputError("data.path is empty: give a text file, a directory or 'stdlib'")
        if self.most_bytes < 1:
            raise InputError(f"data.most_bytes = {self.most_bytes}: must be at least 1")


class Corpus(NamedTuple):
    """A tokenised corpus.

    Attributes:
      train: tokens [N], every document followed by END.
      held_out: likewise, of the documents that are held out.
      tokenizer: the tokenizer as JSON (the `tokenizers` library's format).
      bytes_per_token: mean length of a held-out token, in bytes of UTF-8.
      n_documents: documents in `train` and in `held_out`.
      source: what was read, for people.
    """

    train: Integer[np.ndarray, " N"]
    held_out: Integer[np.ndarray, " M"]
    tokenizer: str
    bytes_per_token: float
    n_documents: tuple[int, int]
    source: str

    def check(self, context: int) -> "Corpus":
        """This corpus, if both sides hold a window of `context` tokens and its target; else `InputError`."""
        for side, tokens in (("training", self.train), ("held-out", self.held_out)):
            if len(tokens) < context + 1:
                raise InputError(
                    f"{self.source}: its {side} side has {len(tokens)} tokens, fewer than one context of {context} and a"
                    " target; give more text or a smaller model.n_context"
                )
        return self


def is_held_out(names: Sequence[str], share: float) -> list[bool]:
    """Which documents are held out: those whose crc32, as a fraction of 2³², lies below `share`.

    Where that leaves a side empty, exactly one is held out: the one with the smallest crc32.
    """
    fractions = [zlib.crc32(name.encode()) / 2**32 for name in names]
    chosen = [f < share for f in fractions]
    if any(chosen) and not all(chosen):
        return chosen
    return [f == min(fractions) for f in fractions]


def windows(
    tokens: Integer[Array, " N"],
    seed: Integer[Array, ""] | int,
    step: Integer[Array, ""] | int,
    batch: int,
    length: int,
) -> Int[Array, "B P"]:
    """`batch` windows of `length` tokens that begin anywhere in the stream: the data of a step, a function of (seed, step)."""
    last = tokens.shape[0] - length
    starts = jax.random.randint(randomness.key(seed, "text.windows", step), (batch,), 0, last + 1)
    return jax.vmap(lambda start: jax.lax.dynamic_slice(tokens, (start,), (length,)))(starts).astype(jnp.int32)


def spread_windows(tokens: Integer[np.ndarray, " N"], count: int, length: int) -> Int[np.ndarray, "B P"]:
    """`count` windows that begin at equal distances over the stream: a fixed sample for measuring."""
    starts = np.linspace(0, len(tokens) - length, count).astype(int)
    return np.stack([tokens[s : s + length] for s in starts]).astype(np.int32)
