"""Reading documents: Python's own standard library, any text file or directory, lines of JSON, or a Hugging Face dataset.

The standard library is there on every machine that runs this program: about 12 MB of source code, documentation in prose,
tables and data. Its tests are left out, since some distributions do not install them.
"""

import json
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from interp_jax.data.paths_io import expanded
from interp_jax.errors import InputError, nearest

STANDARD_LIBRARY = "stdlib"
JSON_LINES = ".jsonl"
NOT_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}


class Document(NamedTuple):
    """A text and the name (a path relative to its corpus) by which it is split and ordered."""

    name: str
    text: str


def read_documents(path: str, column: str = "text") -> list[Document]:
    """Every readable text under `path` ("stdlib", a file or a directory), in order of name.

    A file of JSON objects, one a line (.jsonl), has a document in each, its `column`. In a directory, hidden files and files
    that are not text (NUL bytes, or not UTF-8) are passed over.

    Raises:
      InputError: the path does not exist or cannot be read, a file is not text, or a directory holds no text.
    """
    if path == STANDARD_LIBRARY:
        root = Path(sysconfig.get_paths()["stdlib"])
        return [d for d in _texts(root) if d.name.endswith(".py")]
    root = expanded(path)
    if root.is_file():
        text = _read(root)
        if text is None:
            raise InputError(f"data.path = {path}: not text (it has NUL bytes or is not UTF-8)")
        if root.suffix == JSON_LINES:
            return json_lines(Document(root.name, text), column)
        return halves(Document(root.name, text))
    if not root.is_dir():
        raise InputError(f"data.path = {path}: no such file or directory (give a text file, a directory or 'stdlib')")
    documents = list(_texts(root))
    if not documents:
        raise InputError(f"data.path = {path}: the directory holds no text file")
    return documents


def json_lines(document: Document, column: str) -> list[Document]:
    """The document of every line.

    Raises:
      InputError: a line that is no JSON object, or has no text in that column.
    """
    found = []
    for i, line in enumerate(document.text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"data.path: {document.name}, line {i}"
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            raise InputError(f"{where}: not JSON") from None
        if not isinstance(row, dict):
            raise InputError(f"{where}: expected a JSON object, such as {{{column!r}: …}}")
        if not isinstance(row.get(column), str):
            hint = nearest(column, row) if column not in row else "it is no text"
            raise InputError(f"{where}: data.column = {column!r}: {hint}")
        found.append(Document(f"{document.name}#{i:08d}", row[column]))
    return found


def halves(document: Document, parts: int = 20) -> list[Document]:
    """A lone document as `parts` documents, cut at line ends, so that a split by name can hold some of it out."""
    lines = document.text.splitlines(keepends=True)
    size = max(1, -(-len(lines) // parts))
    cuts = [lines[i : i + size] for i in range(0, len(lines), size)]
    return [Document(f"{document.name}#{i:02d}", "".join(cut)) for i, cut in enumerate(cuts)]


def read_dataset(name: str, column: str, most_bytes: int) -> list[Document]:
    """The first rows of a Hugging Face dataset's training split, up to `most_bytes` characters; needs `datasets`."""
    try:
        import datasets
    except ImportError:
        raise InputError(f"data.dataset = {name}: needs the package 'datasets' (pip install datasets)") from None
    try:
        rows = datasets.load_dataset(name, split="train", streaming=True)
        documents, total = [], 0
        for i, row in enumerate(rows):
            if column not in row:
                raise InputError(f"data.column = {column}: {name} has the columns {', '.join(sorted(row))}")
            documents.append(Document(f"{i:08d}", row[column]))
            total += len(row[column])
            if total >= most_bytes:
                break
    except (OSError, ValueError, ConnectionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"data.dataset = {name}: cannot be read ({str(error).splitlines()[0]})") from None
    return documents


def _texts(root: Path) -> Iterator[Document]:
    for directory, subdirectories, files in os.walk(root):
        subdirectories[:] = sorted(d for d in subdirectories if d not in NOT_LIBRARY and not d.startswith("."))
        for file in sorted(files):
            path = Path(directory, file)
            text = None if file.startswith(".") else _read(path)
            if text:
                yield Document(path.relative_to(root).as_posix(), text)


def _read(path: Path) -> str | None:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"data.path: cannot read {path} ({error.strerror})") from None
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None
