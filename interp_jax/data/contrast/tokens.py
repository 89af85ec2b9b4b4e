"""Contrast pairs from text to tokens: rows, the columns of named places, and answers that are one token each.

An answer's token is what a tokenizer makes of it where it stands: the ids of the prompt with the answer written behind it are
those of the prompt and one more. So a tokenizer that marks the beginning of words gives the right one of two.

What the tokenizer puts before a text is kept; what it puts after one (an EOS) is left out, since the answer is to come there.
"""

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from interp_jax.data.contrast.pairs import END, Pairs
from interp_jax.data.contrast.rows import aligned
from interp_jax.data.contrast.text import Fits, Span, TextPair
from interp_jax.data.tokenizer_io import Tokenizer, encode, pieces
from interp_jax.data.tokens import unpad
from interp_jax.errors import InputError


class Row(NamedTuple):
    """A text in tokens.

    Attributes:
      ids: with what the tokenizer puts before a text.
      spans: for each of the last ids, the characters that it stands for.
    """

    ids: list[int]
    spans: list[Span]


def tokenize(
    text_pairs: Iterable[TextPair],
    tokenizer: Tokenizer,
    *,
    side: str = "left",
    bos: bool | None = None,
    labels: Sequence[str] | None = None,
) -> Pairs:
    """The pairs in tokens, padded on `side` where examples differ in length.

    Args:
      text_pairs: all with the same places; END, the last token, is added to them where it is not given.
      tokenizer: from `load_tokenizer`.
      side: where the padding goes, "left" or "right".
      bos: None for what the tokenizer itself puts before a text, True for exactly one BOS, False for none.
      labels: what errors call each pair; "pair 0", … by default.

    Raises:
      InputError: no pairs, an empty text, sides with different numbers of tokens, an answer that is not exactly one known
        token, or a place that is not in the text.
    """
    text_pairs = list(text_pairs)
    if not text_pairs:
        raise InputError("no pairs to tokenise")
    labels = [f"pair {i}" for i in range(len(text_pairs))] if labels is None else labels
    names = sorted(text_pairs[0].places)
    for label, pair in zip(labels, text_pairs, strict=True):
        _check(label, pair)
        if sorted(pair.places) != names:
            raise InputError(f"{label}: has the places {sorted(pair.places)}, {labels[0]} has {names}")
    clean = _rows([p.clean for p in text_pairs], tokenizer, bos)
    corrupted = _rows([p.corrupted for p in text_pairs], tokenizer, bos)
    places = {END: [len(row.ids) - 1 for row in clean]}
    for name in names:
        each = zip(labels, text_pairs, clean, strict=True)
        places[name] = [_column(row, pair.places[name], f"{label}: its place {name!r}") for label, pair, row in each]
    return aligned(
        [row.ids for row in clean],
        [row.ids for row in corrupted],
        _words("answer", [p.answers for p in text_pairs], text_pairs, tokenizer, labels),
        _words("other", [p.others for p in text_pairs], text_pairs, tokenizer, labels),
        places,
        side=side,
        fill=tokenizer.fill,
        labels=labels,
        show=lambda row: str(pieces(tokenizer, np.asarray([row]))[0]),
    )


def follow(tokenizer: Tokenizer, before: Sequence[str], words: Sequence[str]) -> list[list[int] | None]:
    """The ids that each word adds to the text before it; None where it changes the ids of that text."""
    start = tokenizer.backend.encode_batch(list(before), add_special_tokens=False)
    joined = [text + word for text, word in zip(before, words, strict=True)]
    whole = tokenizer.backend.encode_batch(joined, add_special_tokens=False)
    cut = [(s.ids, w.ids) for s, w in zip(start, whole, strict=True)]
    return [after[len(ids) :] if after[: len(ids)] == ids else None for ids, after in cut]


def fitting(tokenizer: Tokenizer) -> Fits:
    """Tells of a text and a word behind it whether the word adds exactly one token that the tokenizer knows."""
    strange = unknown(tokenizer)

    def fits(before: str, word: str) -> bool:
        (ids,) = follow(tokenizer, [before], [word])
        return ids is not None and len(ids) == 1 and ids[0] != strange

    return fits


def unknown(tokenizer: Tokenizer) -> int | None:
    """The id that stands for what the tokenizer does not know; None where there is none."""
    model = tokenizer.backend.model
    if not hasattr(model, "unk_token"):  # Unigram shows its own nowhere else
        return json.loads(tokenizer.backend.to_str())["model"].get("unk_id")
    return None if model.unk_token is None else tokenizer.backend.token_to_id(model.unk_token)


def _check(label: str, pair: TextPair) -> None:
    for side, text in (("clean", pair.clean), ("corrupted", pair.corrupted)):
        if not text.strip():
            raise InputError(f"{label}: the {side} text is empty")
    for field, words in (("answers", pair.answers), ("others", pair.others)):
        if isinstance(words, str):
            raise InputError(f"{label}: {field} is one string: give a tuple of them, as ({words!r},)")
        if "" in words:
            raise InputError(f"{label}: {field} has an empty word")
    try:
        "".join([pair.clean, pair.corrupted, *pair.answers, *pair.others]).encode()
    except UnicodeEncodeError:
        raise InputError(f"{label}: has characters that UTF-8 cannot write") from None


def _rows(texts: Sequence[str], tokenizer: Tokenizer, bos: bool | None) -> list[Row]:
    """Each text with what comes before it, and without what comes after it."""
    whole = unpad(*encode(tokenizer, texts, bos=bos))
    bare = tokenizer.backend.encode_batch(list(texts), add_special_tokens=False)
    n_after = len(tokenizer.suffix)
    return [Row(ids[: len(ids) - n_after], e.offsets) for ids, e in zip(whole, bare, strict=True)]


def _column(row: Row, span: Span, what: str) -> int:
    """The index of the last token that overlaps the span."""
    start, end = span
    touching = [i for i, (begin, stop) in enumerate(row.spans) if begin < end and stop > start]
    index = len(row.ids) - len(row.spans) + max(touching, default=-len(row.ids))
    if index < 0:
        raise InputError(f"{what}, characters {start} to {end}, has no token in the clean text")
    return index


def _words(
    field: str,
    words: Sequence[Sequence[str]],
    text_pairs: Sequence[TextPair],
    tokenizer: Tokenizer,
    labels: Sequence[str],
) -> list[list[int]]:
    """The token of each of an example's words."""
    before = [pair.clean for pair, some in zip(text_pairs, words, strict=True) for _ in some]
    flat = [word for some in words for word in some]
    names = [label for label, some in zip(labels, words, strict=True) for _ in some]
    strange, found = unknown(tokenizer), follow(tokenizer, before, flat)
    for label, text, word, ids in zip(names, before, flat, found, strict=True):
        if ids is None or len(ids) != 1 or ids[0] == strange:
            raise InputError(f"{label}: the {field} {word!r} {_why(tokenizer, text, word, ids, strange)}")
    tokens = iter([ids[0] for ids in found])
    return [[next(tokens) for _ in some] for some in words]


def _why(tokenizer: Tokenizer, text: str, word: str, ids: list[int] | None, strange: int | None) -> str:
    """What is wrong with a word, and what would be right."""
    if ids is None:
        fault = f"changes the tokens of the text {text[-20:]!r} that it follows"
    elif strange in ids and strange is not None:
        fault = "is not known to the tokenizer"
    else:
        shown = pieces(tokenizer, np.asarray([ids]))[0] if ids else []
        fault = f"is {len(ids)} tokens {shown}, and must be one"
    fits, bare, spaced = fitting(tokenizer), text.rstrip(), f" {word.lstrip()}"
    if bare != text and fits(bare, spaced):
        return f"{fault}; end the texts without a space and give {spaced!r}"
    if spaced != word and fits(text, spaced):
        return f"{fault}; {spaced!r}, with a space before it, is one token"
    return fault
