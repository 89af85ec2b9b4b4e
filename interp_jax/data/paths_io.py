"""What people point at: paths, why there is nothing to read at one, and the JSON objects that lie beside weights.

The system says why a file cannot be opened, but pathlib turns some of its answers into "there is none" and raises others. Here
each is a clause of a one-line error: a link that leads nowhere, a name that is too long, a directory that may not be entered.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any

from interp_jax.errors import InputError

LONGEST = 250  # letters of a path that are shown


def expanded(path: str | Path) -> Path:
    """A path as a person writes it; "~" is home.

    Raises:
      InputError: it is empty, or the home of nobody.
    """
    if not str(path):
        raise InputError("the path is empty")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{path}: there is no such home directory") from None


def shown(path: str | Path) -> str:
    """A path for people: as it is, or in quotes where it would not be seen as it is, or breaks the line; cut if it is long."""
    text = str(path)
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return text if text.isprintable() and text == text.strip() else repr(text)


def absence(path: str | Path) -> str:
    """Why there is no file to read at `path`; "" where nothing has that name, and where there is a file."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"a symbolic link to {os.readlink(path)}, which is missing" if os.path.islink(path) else ""
    except OSError as error:
        return os.strerror(error.errno).lower()
    except ValueError as error:  # a NUL in the name
        return str(error)
    if stat.S_ISREG(mode):
        return ""
    return "it is a directory" if stat.S_ISDIR(mode) else "neither a file nor a directory"


def unreadable(path: str | Path, error: OSError) -> InputError:
    """The error about a file that could not be opened."""
    return InputError(f"cannot read {path}: {absence(path) or (error.strerror or str(error)).lower()}")


def names_in(directory: str | Path) -> list[str]:
    """The names in a directory; none where it may not be read."""
    try:
        return os.listdir(directory)
    except (OSError, ValueError):
        return []


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
      InputError: it cannot be read, or is no JSON object.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    except RecursionError:
        raise InputError(f"{path}: not JSON that can be read: its brackets are nested too deeply") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def numbered_lines(path: Path) -> list[tuple[str, str]]:
    """Each line of a text that is not blank, after what errors call it.

    Raises:
      InputError: it cannot be read, or is no text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not text (it is not UTF-8)") from None
    return [(f"{path}, line {i}", line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]


def as_json(value: Any, most: int = 40) -> str:
    """A value for people: as JSON, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else f"{text[:most]}…"
