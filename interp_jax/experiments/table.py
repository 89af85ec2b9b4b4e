"""All runs of a sweep as two tables on disk, for pandas, polars, DuckDB or R.

    python -m interp_jax.experiments.table runs/superposition

    runs.parquet       a row for each finished run: what the sweep set, where it diverged, its seconds, its last metrics
    metrics.parquet    a row for each run and line of its log: run, step, and a column for each metric

Ten thousand runs take seconds: a chunk's log is read once, and columns are filled a chunk at a time.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from interp_jax.atomic_io import atomic
from interp_jax.errors import InputError
from interp_jax.experiments.config import ENGINE_SECTIONS, flat
from interp_jax.experiments.exit import exit_cleanly
from interp_jax.experiments.frozen import FrozenSweep, read_frozen
from interp_jax.results.metrics import MetricLog, Metrics
from interp_jax.results.run_directory import Finished, finished_members

RUNS, METRICS = "runs.parquet", "metrics.parquet"
Columns = dict[str, np.ndarray]


def write_tables(sweep: FrozenSweep) -> tuple[Path, Path]:
    """Write both tables beside the sweep; returns their paths.

    Raises:
      InputError: no run is finished, or a file is damaged.
    """
    finished = finished_members(sweep.directory)
    found = {h: finished[h] for h in sweep.configs if h in finished}
    if not found:
        raise InputError(f"no run of {sweep.path} is finished yet")
    directories = {place.directory.path: place.directory for place in found.values()}
    logs = {path: MetricLog(directory.metrics).read() for path, directory in directories.items()}
    lines = pa.concat_tables([pa.table(c) for c in metric_columns(found, logs)], promote_options="default")
    runs = run_table(swept({h: sweep.configs[h] for h in found}), found, logs)
    for name, table in ((RUNS, runs), (METRICS, lines)):
        with atomic(sweep.directory / name) as file:
            pq.write_table(table, file)
    return sweep.directory / RUNS, sweep.directory / METRICS


def swept(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """{"section.key": a value for each run} of what is not the same in all configs, in order; None where one lacks it."""
    leaves = [flat({k: v for k, v in config.items() if k not in ENGINE_SECTIONS}) for config in configs.values()]
    names = dict.fromkeys(name for one in leaves for name in one)
    columns = {name: [plain(one.get(name)) for one in leaves] for name in names}
    return {name: values for name, values in columns.items() if any(value != values[0] for value in values)}


def plain(value: Any) -> Any:
    """A leaf of a config as a cell: lists as text."""
    return str(value) if isinstance(value, list | tuple) else value


def run_table(
    columns: Mapping[str, list[Any]], found: Mapping[str, Finished], logs: Mapping[Path, Metrics]
) -> pa.Table:
    """A row for each run; a name that the sweep and a metric share is the metric's with "last " before it."""
    places = list(found.values())
    names = sorted({name for log in logs.values() for name in log.values})
    last = {name: [last_value(logs[p.directory.path], name, p.index) for p in places] for name in names}
    about = {
        "run": list(found),
        "chunk": [p.directory.path.name for p in places],
        "diverged_at": [p.manifest["diverged_at"][p.index] for p in places],
        "seconds": [p.manifest["seconds"]["total"] / len(p.manifest["members"]) for p in places],
    }
    taken = about.keys() | columns.keys()
    return pa.table({**about, **columns, **{f"last {k}" if k in taken else k: v for k, v in last.items()}})


def last_value(log: Metrics, name: str, index: int) -> float:
    """A run's last number of a metric; NaN where there is none."""
    values = log.values.get(name)
    return float(values[-1, index]) if values is not None and len(values) else float("nan")


def metric_columns(found: Mapping[str, Finished], logs: Mapping[Path, Metrics]) -> list[Columns]:
    """For each chunk the columns of its runs' lines, run by run."""
    members: dict[Path, list[tuple[str, int]]] = {}
    for name, place in found.items():
        members.setdefault(place.directory.path, []).append((name, place.index))
    return [chunk_columns(ours, logs[path]) for path, ours in members.items()]


def chunk_columns(members: Sequence[tuple[str, int]], log: Metrics) -> Columns:
    """See `metric_columns`."""
    names, index = [name for name, _ in members], np.array([i for _, i in members])
    head = {"run": np.repeat(names, len(log.steps)), "step": np.tile(log.steps, len(names))}
    return {**head, **{name: values[:, index].T.ravel() for name, values in log.values.items()}}


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="table", description="All runs of a frozen sweep as parquet tables.")
    parser.add_argument("sweep", type=Path, help="a sweep.json, or the directory that holds it")
    for path in write_tables(read_frozen(parser.parse_args(arguments).sweep)):
        print(path)


if __name__ == "__main__":
    exit_cleanly(main)
