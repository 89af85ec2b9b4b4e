"""Metric logs: what each member of a population measured, step by step.

`metrics.jsonl` holds one JSON object a line, `{"step": 40, "loss": [0.12, 0.11, null]}`: one number per member, null where
it is not finite, and nothing that differs between two runs of the same config (no clock, no host), so that a resumed run
ends with the same bytes as an uninterrupted one. TensorBoard sees the same numbers where one of its packages is present.
"""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from interp_jax.atomic_io import explained, jsonable, write_text
from interp_jax.errors import InputError

MOST_MEMBERS = 32  # that TensorBoard is shown: beyond, its pages take minutes to draw
TENSORBOARD_WRITERS = (("tensorboard.summary", "Writer"), ("tensorboardX", "SummaryWriter"))


class Metrics(NamedTuple):
    """What a log holds: the steps, int [T], and for each name the values of the members, float64 [T, R]."""

    steps: Integer[np.ndarray, " T"]
    values: dict[str, Float[np.ndarray, "T R"]]


class MetricLog:
    """The file `metrics.jsonl` of a chunk of members."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def append(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Adds a line. `metrics` maps each name to numbers of shape [R].

        Raises:
          InputError: the disk is full (the torn line goes with the next `rewind`), or the directory cannot be written.
        """
        line = json.dumps({"step": int(step)} | {name: jsonable(np.asarray(v)) for name, v in metrics.items()})
        with explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(line + "\n")

    def rewind(self, step: int) -> None:
        """Drops the lines after `step` and a torn last line: to call before going on from the checkpoint of `step`."""
        lines = self._lines() if self.path.exists() else []
        kept = [json.dumps(line) + "\n" for line in lines if line["step"] <= step]
        if step > 0 and not kept:
            raise InputError(f"{self.path} is lost: remove {self.path.parent}, and the same command makes it again")
        if self.path.exists():
            write_text(self.path, "".join(kept))

    def read(self) -> Metrics:
        """All whole lines; a metric that a line lacks, or that was not finite, is NaN there."""
        lines = self._lines() if self.path.exists() else []
        steps = np.array([line.pop("step") for line in lines], np.int64)
        names = sorted({name for line in lines for name in line})
        return Metrics(steps, {name: _column([line.get(name) for line in lines]) for name in names})

    def close(self) -> None:
        """Nothing is held open."""

    def _lines(self) -> list[dict[str, Any]]:
        texts = self.path.read_text(encoding="utf-8", errors="replace").split("\n")[
            :-1
        ]  # what follows the last is torn
        return [self._parse(number, text) for number, text in enumerate(texts, 1)]

    def _parse(self, number: int, text: str) -> dict[str, Any]:
        try:
            line = json.loads(text)
            line["step"] + 0
        except (ValueError, TypeError, KeyError) as error:
            directory = self.path.parent
            raise InputError(
                f"{self.path}, line {number} is not JSON of a step: remove {directory}, and the same command makes it again"
            ) from error
        return line


def _column(rows: Sequence[Sequence[float | int | bool | None] | None]) -> Float[np.ndarray, "T R"]:
    members = max(len(row) for row in rows if row is not None)
    column = np.full((len(rows), members), np.nan)
    for t, row in enumerate(rows):
        if row is not None:
            column[t] = np.array(row, np.float64)  # null becomes NaN
    return column


class TensorBoardLog:
    """Event files for TensorBoard: the first members' scalars, tagged `loss/member 3`."""

    def __init__(self, directory: str | Path) -> None:
        self._writer = _writer_class()(str(directory))

    def append(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Adds one scalar per metric and member, of the first 32 members."""
        for name, values in metrics.items():
            for member, value in enumerate(np.asarray(values, np.float64)[:MOST_MEMBERS]):
                self._writer.add_scalar(f"{name}/member {member}", float(value), int(step))

    def rewind(self, step: int) -> None:
        """Nothing: of two values of a step, TensorBoard shows the newer one."""

    def close(self) -> None:
        """Writes what is still in memory."""
        self._writer.close()


def _writer_class() -> type | None:
    for module, name in TENSORBOARD_WRITERS:
        if importlib.util.find_spec(module.partition(".")[0]):
            return getattr(importlib.import_module(module), name)
    return None


def tensorboard_logs(directory: str | Path) -> list[TensorBoardLog]:
    """One log where an optional package for it is installed (`tensorboard` or `tensorboardX`), else none."""
    return [TensorBoardLog(directory)] if _writer_class() else []
