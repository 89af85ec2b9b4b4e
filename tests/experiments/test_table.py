"""Tables of a whole sweep: right numbers, and each log of ten thousand runs read once."""

from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest

from interp_jax.atomic_io import write_json
from interp_jax.errors import InputError
from interp_jax.experiments.frozen import digest, read_frozen
from interp_jax.experiments.table import write_tables
from interp_jax.experiments.worker import main as worker
from interp_jax.results.metrics import MetricLog
from interp_jax.results.run_directory import chunk_directory
from tests.experiments.frozen_lines import freeze_lines


def test_a_row_for_each_run_and_for_each_line(tmp_path):
    freeze_lines(tmp_path, ["rates", "widths"], **{"engine.chunk": 2})
    sweep = read_frozen(tmp_path)
    with pytest.raises(InputError, match="no run of .* is finished yet"):
        write_tables(sweep)
    worker([str(tmp_path), "--shard", "0/2"])
    runs, lines = (pq.read_table(path).to_pydict() for path in write_tables(sweep))
    done = [c for c in sweep.chunks[0::2]]
    assert sorted(runs["run"]) == sorted(h for c in done for h in c.members)
    assert runs.keys() == {"run", "chunk", "diverged_at", "seconds", "learning_rate", "model.width", "loss", "first"}
    for i, name in enumerate(runs["run"]):
        config = sweep.configs[name]
        assert runs["learning_rate"][i] == config["learning_rate"]
        assert runs["model.width"][i] == config["model"]["width"]
        chunk = next(c for c in done if name in c.members)
        log = MetricLog(sweep.place(chunk).metrics).read()
        column = log.values["loss"][:, chunk.members.index(name)]
        assert runs["loss"][i] == column[-1]
        mine = [j for j, run in enumerate(lines["run"]) if run == name]
        np.testing.assert_array_equal([lines["loss"][j] for j in mine], column)
        np.testing.assert_array_equal([lines["step"][j] for j in mine], log.steps)


def test_ten_thousand_runs_are_read_a_chunk_at_a_time(tmp_path, monkeypatch):
    n, size, rng = 10_000, 250, np.random.default_rng(0)
    names, last = [f"{i:016x}" for i in range(n)], {}
    for c in range(n // size):
        place, members = chunk_directory(tmp_path, f"c{c:03}"), names[c * size : (c + 1) * size]
        place.path.mkdir(parents=True)
        log = MetricLog(place.metrics)
        for step in (10, 20, 30, 40):
            loss = rng.random(size)
            log.append(step, {"loss": loss})
        last |= dict(zip(members, loss, strict=True))
        about = {"members": members, "diverged_at": [-1] * size, "seconds": {"total": 1.0}, "git": None}
        write_json(place.manifest, about)
    configs = {
        name: {"experiment": "x", "seed": i, "steps": 40, "engine": {"batch": 0}} for i, name in enumerate(names)
    }
    content = {"experiment": "x", "source": "", "redo": "", "members": configs, "chunks": []}
    write_json(tmp_path / "sweep.json", {**content, "digest": digest(content)})
    reads, read = Counter(), MetricLog.read
    monkeypatch.setattr(MetricLog, "read", lambda log: reads.update([log.path]) or read(log))
    paths = write_tables(read_frozen(tmp_path))
    assert len(reads) == n // size and set(reads.values()) == {1}
    runs, lines = map(pq.read_table, paths)
    assert (runs.num_rows, lines.num_rows) == (n, 4 * n)
    assert dict(zip(runs["run"].to_pylist(), runs["loss"].to_pylist(), strict=True)) == last
    assert runs["seed"].to_pylist() == list(range(n))
