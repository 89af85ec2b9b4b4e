"""The tokenizers of published models: text to padded tokens and back, from the `tokenizer.json` that lies beside a model.

A post-processor in that file puts special tokens around every text, often a BOS (beginning of sequence) before it. Models
trained with a BOS misbehave without it, and with two of them. So what this post-processor adds is found out once, by running
it on one stand-in token, and `encode` puts it, or what was asked for instead, around the ids of the text alone.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path

import tokenizers

from interp_jax.data.paths_io import expanded, read_json
from interp_jax.data.tokenizer_file_io import FILE, explained, find_tokenizer, read_tokenizer
from interp_jax.data.tokens import Batch, Positions, Tokens, pad, unpad
from interp_jax.errors import InputError

NAMING = ("tokenizer_config.json", "special_tokens_map.json")  # what name special tokens, the first in force
MODEL = "config.json"
MOST_IDS = 1 << 32  # the package counts them in 32 bits


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer and its special tokens.

    Attributes:
      backend: the tokenizer; never pads or truncates by itself.
      file: where it was read, for people.
      bos, eos, pad: ids of what begins a sequence, ends one and fills one up; None where there is no such token.
      prefix, suffix: ids that its own post-processor puts before and after a text.
    """

    backend: tokenizers.Tokenizer
    file: str
    bos: int | None
    eos: int | None
    pad: int | None
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @property
    def adds_bos(self) -> bool:
        """Whether its own post-processor puts a BOS before a text."""
        return self.bos in self.prefix

    @property
    def fill(self) -> int:
        """The id that padding has: pad, else eos, else 0."""
        return next((i for i in (self.pad, self.eos) if i is not None), 0)

    @property
    def d_vocab(self) -> int:
        """The smallest vocabulary that holds every id which this tokenizer can give."""
        return 1 + max([-1, *self.backend.get_vocab(with_added_tokens=True).values(), *self.prefix, *self.suffix])


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer in `path`: a `tokenizer.json` or a directory with one.

    The special tokens are those that `tokenizer_config.json` names, else `special_tokens_map.json` (both beside it, both
    optional), else the first and last that the post-processor adds, else the ids in the model's `config.json`, unless a
    null in the first two says that there is none. Padding and truncation that the file asks for are turned off.
    `add_bos_token` is not read: the post-processor decides.

    Raises:
      InputError: no such file, not a tokenizer, another format, a post-processor that drops or repeats the text, or a named
        special token that is not in the vocabulary.
    """
    file = find_tokenizer(expanded(path))
    backend = read_tokenizer(file)
    backend.no_padding()
    backend.no_truncation()
    prefix, suffix = _surroundings(backend, file)
    roles = (("bos", prefix[:1]), ("eos", suffix[-1:]), ("pad", ()))
    bos, eos, padding = (_special(role, backend, file, added) for role, added in roles)
    return Tokenizer(backend, str(file), bos, eos, padding, prefix, suffix)


def encode(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    bos: bool | None = None,
    side: str = "right",
    length: int | None = None,
    truncate: bool = False,
) -> Batch:
    """The texts as tokens and positions [B P], padded on `side` ("left" or "right").

    Args:
      tokenizer: from `load_tokenizer`.
      texts: B texts. Special tokens that are spelled out in them are special tokens.
      bos: None adds what the tokenizer's own post-processor adds, and leaves the text as it is; True makes each row begin
        with exactly one BOS and False with none, even if the text spells it. Other special tokens are added all the same.
      side: where the padding goes.
      length: P; by default the longest row's.
      truncate: cut the end off texts that are too long for `length`; the special tokens around them stay.

    Raises:
      InputError: no texts, a text without tokens or longer than `length`, an unknown side, or a BOS where there is none.
    """
    if isinstance(texts, str):
        raise InputError("texts is one string: give a list of them")
    if len(texts) == 0:
        raise InputError("no texts to encode: a batch needs at least one")
    if truncate and length is None:
        raise InputError("truncate = True needs a length to cut to")
    prefix, suffix = _beginning(tokenizer, bos), tokenizer.suffix
    n_added = len(prefix) + len(suffix)
    rows = [[*prefix, *ids, *suffix] for ids in _ids(tokenizer, texts, bos is not None)]
    for i, row in enumerate(rows):
        if not row:
            hint = "" if tokenizer.bos is None else " (bos=True gives it one)"
            raise InputError(f"texts[{i}] = {texts[i]!r} has no tokens{hint}")
        if length is not None and len(row) > length:
            if not truncate or length <= n_added:
                hint = f"{n_added} special tokens leave no room" if truncate else "truncate=True cuts its end off"
                raise InputError(f"texts[{i}] has {len(row)} tokens, more than length = {length}: {hint}")
            rows[i] = [*row[: length - len(suffix)], *suffix]
    return pad(rows, side, length, tokenizer.fill)


def ids_of(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The ids of the texts alone, without special tokens around them.

    Raises:
      InputError: something that is no text, or that the tokenizer has no token for, not even an unknown one.
    """
    try:
        with explained(f"{tokenizer.file}: cannot encode"):
            return [list(e.ids) for e in tokenizer.backend.encode_batch(list(texts), add_special_tokens=False)]
    except TypeError:  # also raised for a lone surrogate, which has no UTF-8
        raise InputError("texts: each must be a string of characters that UTF-8 can write") from None


def decode(
    tokenizer: Tokenizer, tokens: Tokens, positions: Positions | None = None, *, skip_special: bool = False
) -> list[str]:
    """The text of each row, without what `positions` marks as padding and, if asked, without special tokens.

    Raises:
      InputError: an id that the tokenizer does not have, as the padding rows of an embedding; `pieces` shows those.
    """
    rows = unpad(tokens, positions)
    for i in sorted({i for row in rows for i in row}):
        if not _has(tokenizer.backend, i):
            raise InputError(f"{tokenizer.file}: has no token {i}; its ids end at {tokenizer.d_vocab - 1}")
    return [tokenizer.backend.decode(row, skip_special_tokens=skip_special) for row in rows]


def pieces(tokenizer: Tokenizer, tokens: Tokens, positions: Positions | None = None) -> list[list[str]]:
    """The text of every single token, row by row, without what `positions` marks as padding.

    A token that begins a word has its space. Bytes that are no character alone show as U+FFFD, ids that the tokenizer
    does not have as "<unused 50300>".
    """
    rows = unpad(tokens, positions)
    added = tokenizer.backend.get_added_tokens_decoder()
    names = {i: added[i].content if i in added else _piece(tokenizer.backend, i) for i in {i for r in rows for i in r}}
    return [[names[i] for i in row] for row in rows]


def check_vocabulary(tokenizer: Tokenizer, d_vocab: int) -> None:
    """Raise unless a model with `d_vocab` tokens knows every id of the tokenizer; it may know more (padded embeddings).

    Raises:
      InputError: the tokenizer can give ids of `d_vocab` and above.
    """
    if tokenizer.d_vocab > d_vocab:
        raise InputError(
            f"{tokenizer.file}: its ids need a vocabulary of {tokenizer.d_vocab}, but the model's d_vocab = {d_vocab};"
            " this tokenizer belongs to another model"
        )


def _beginning(tokenizer: Tokenizer, bos: bool | None) -> list[int]:
    prefix = list(tokenizer.prefix)
    if bos is False:
        return [i for i in prefix if i != tokenizer.bos]
    if bos and tokenizer.bos is None:
        raise InputError(f"bos = True: {tokenizer.file} has no BOS token, nor does {NAMING[0]} beside it name one")
    return [tokenizer.bos, *prefix] if bos and not tokenizer.adds_bos else prefix


def _ids(tokenizer: Tokenizer, texts: Sequence[str], drop_bos: bool) -> list[list[int]]:
    """The ids of the texts alone, without the BOS that they begin with themselves if `drop_bos`."""
    rows = ids_of(tokenizer, texts)
    return [list(dropwhile(lambda i: i == tokenizer.bos, row)) for row in rows] if drop_bos else rows


def _has(backend: tokenizers.Tokenizer, token: int) -> bool:
    return 0 <= token < MOST_IDS and backend.id_to_token(token) is not None


def _piece(backend: tokenizers.Tokenizer, token: int) -> str:
    if not _has(backend, token):
        return f"<unused {token}>"
    # Many decoders strip the space, or keep the mark of a suffix, of the first token: so read it behind itself.
    once, twice = (backend.decode([token] * n, skip_special_tokens=False) for n in (1, 2))
    return twice[len(once) :] if twice.startswith(once) else once


def _surroundings(backend: tokenizers.Tokenizer, file: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the post-processor puts before and after a text, seen on one token of another tokenizer: any text will do."""
    one = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a")).encode("a")
    whole = backend.post_process(one)
    if whole.special_tokens_mask.count(0) != 1:
        times = f"{whole.special_tokens_mask.count(0)} times"
        raise InputError(f"{file}: its post-processor puts the text there {times}; expected once")
    at = whole.special_tokens_mask.index(0)
    return tuple(whole.ids[:at]), tuple(whole.ids[at + 1 :])


def _special(role: str, backend: tokenizers.Tokenizer, file: Path, added: tuple[int, ...]) -> int | None:
    """The id of the special token with this role ("bos", "eos" or "pad"); the post-processor adds `added` in its place."""
    # A file with a name of its own was not saved together with what lies beside it.
    beside = {n: file.with_name(n) for n in (*NAMING, MODEL) if file.name == FILE}
    settings = {name: read_json(path) for name, path in beside.items() if os.path.lexists(path)}
    source = next((name for name in NAMING if f"{role}_token" in settings.get(name, {})), MODEL)
    if source == MODEL:
        found = None if added else settings.get(MODEL, {}).get(f"{role}_token_id")
        found = found[0] if isinstance(found, list) and found else found
        token = found if isinstance(found, int) and _has(backend, found) else None
    else:
        found = settings[source][f"{role}_token"]  # a name, a description of the token, or null: there is none
        found = found.get("content") if isinstance(found, dict) else found
        token = backend.token_to_id(found) if isinstance(found, str) else None
    if token is None and found is not None and role != "pad":  # which id padding has does not matter
        raise InputError(f"{file.with_name(source)}: its {role} token {found!r} is not in the vocabulary of {file}")
    return added[0] if token is None and added else token
