"""The `tokenizer.json` that a path leads to, read by the `tokenizers` package, whose refusals become one line."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tokenizers

from interp_jax.data.paths_io import absence, names_in, read_json, shown
from interp_jax.errors import InputError

FILE = "tokenizer.json"
OTHER_FORMATS = ("vocab.json", "vocab.txt")


def find_tokenizer(path: Path) -> Path:
    """The tokenizer.json that `path` is or holds.

    Raises:
      InputError: there is none, or only one in another format.
    """
    if os.path.isfile(path / FILE):
        return path / FILE
    if os.path.isfile(path) and path.suffix != ".model":
        return path
    if not os.path.exists(path):
        reason = absence(path) or f"no such file or directory (give a {FILE} or the directory that holds it)"
        raise InputError(f"{shown(path)}: {reason}")
    others = [path] if os.path.isfile(path) else _others(path)
    if not others:
        reason = absence(path / FILE)
        raise InputError(
            f"cannot read {path / FILE}: {reason}" if reason else f"{path}: the directory holds no {FILE}"
        )
    directory = str(others[0].parent)
    convert = f"AutoTokenizer.from_pretrained({directory!r}).save_pretrained({directory!r})"
    raise InputError(f"{others[0]}: is no {FILE}; convert it with the package transformers: {convert}")


def _others(directory: Path) -> list[Path]:
    names = sorted(names_in(directory))
    return [directory / name for name in names if name.endswith(".model") or name in OTHER_FORMATS]


def read_tokenizer(file: Path) -> tokenizers.Tokenizer:
    """The tokenizer in a file.

    Raises:
      InputError: it cannot be read, or is none.
    """
    _check_templates(read_json(file).get("post_processor"), file)
    with explained(f"{file}: JSON, but not a tokenizer"):
        return tokenizers.Tokenizer.from_str(file.read_text("utf-8"))


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns what the package raises, which is nothing narrower than an Exception, into one line; a TypeError stays one."""
    try:
        yield
    except TypeError:
        raise
    except Exception as error:
        raise InputError(f"{what} ({next(iter(str(error).splitlines()), type(error).__name__)})") from None


def _check_templates(processor: Any, file: Path) -> None:
    """Raise where a template adds a token whose ids it does not say: the package itself would panic."""
    if not isinstance(processor, dict):
        return
    described = processor.get("special_tokens")
    for piece in _items(processor.get("single")):
        token = piece.get("SpecialToken") if isinstance(piece, dict) else None
        name = token.get("id") if isinstance(token, dict) else None
        if isinstance(described, dict) and isinstance(name, str) and name not in described:
            raise InputError(f"{file}: its post-processor adds the token {name!r}, and does not say its ids")
    for inner in _items(processor.get("processors")):
        _check_templates(inner, file)


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
