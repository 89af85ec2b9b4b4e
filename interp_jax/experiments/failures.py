"""Runs that failed: what went wrong is kept beside what they had written, so that whoever looks at the sweep sees it.

chunks/<id>/failure.json      written when a chunk's run raises, removed when it is started again
"""

import traceback
from collections.abc import Sequence

from interp_jax.atomic_io import write_json
from interp_jax.errors import InputError
from interp_jax.results.run_directory import ChunkDirectory, read_json


def one_line(error: BaseException) -> str:
    """An error as a person is told of it."""
    text = " ".join(str(error).split())
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


def record_failure(directory: ChunkDirectory, members: Sequence[str], error: BaseException) -> None:
    """Keep an error with its traceback."""
    trace = "".join(traceback.format_exception(error))
    write_json(directory.failure, {"error": one_line(error), "traceback": trace, "members": members})


def recorded_error(directory: ChunkDirectory) -> str:
    """The error of a chunk's last try, or nothing."""
    return read_json(directory.failure, "error")["error"] if directory.failure.exists() else ""
