"""Metric logs: exact numbers, torn lines, rewinding to a checkpoint."""

import importlib.util
import json

import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.results.metrics import MetricLog, tensorboard_logs


def filled(path, steps):
    log = MetricLog(path)
    rng = np.random.default_rng(0)
    for step in steps:
        log.append(step, {"loss": rng.normal(size=3).astype(np.float32), "accuracy": rng.uniform(size=3)})
    return log


def test_a_line_is_json_with_null_where_a_number_is_not_finite(tmp_path):
    log = MetricLog(tmp_path / "run" / "metrics.jsonl")
    log.append(10, {"loss": np.float32([0.5, np.nan, -np.inf]), "n": np.int32([1, 2, 3])})
    assert log.path.read_text() == '{"step": 10, "loss": [0.5, null, null], "n": [1, 2, 3]}\n'
    steps, values = log.read()
    np.testing.assert_array_equal(steps, [10])
    np.testing.assert_array_equal(values["loss"], [[0.5, np.nan, np.nan]])


def test_numbers_survive_exactly(tmp_path):
    numbers = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32) * np.float32(1e-30)
    log = MetricLog(tmp_path / "metrics.jsonl")
    for step, row in enumerate(numbers):
        log.append(step, {"loss": row})
    assert (log.read().values["loss"].astype(np.float32) == numbers).all()


def test_a_metric_that_some_lines_lack_is_nan_there(tmp_path):
    log = MetricLog(tmp_path / "metrics.jsonl")
    log.append(1, {"loss": [1.0, 2.0]})
    log.append(2, {"loss": [1.0, 2.0], "score": [3.0, 4.0]})
    np.testing.assert_array_equal(log.read().values["score"], [[np.nan, np.nan], [3.0, 4.0]])


def test_rewinding_and_repeating_gives_the_same_bytes(tmp_path):
    whole = filled(tmp_path / "a.jsonl", range(10, 70, 10)).path.read_bytes()
    log = filled(tmp_path / "b.jsonl", range(10, 70, 10))
    with open(log.path, "a") as file:
        file.write('{"step": 70, "loss": [0.1')
    log.rewind(30)
    assert log.read().steps.tolist() == [10, 20, 30]
    assert whole.startswith(log.path.read_bytes())
    for line in whole.decode().splitlines()[3:]:
        values = json.loads(line)
        log.append(values.pop("step"), values)
    assert log.path.read_bytes() == whole


@pytest.mark.parametrize("torn", range(1, 20))
def test_a_line_torn_anywhere_is_dropped_and_never_read(tmp_path, torn):
    log = filled(tmp_path / "metrics.jsonl", [1, 2])
    first, second = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(first + second[: len(second) * torn // 20])
    assert log.read().steps.tolist() == [1]
    log.rewind(2)
    assert log.path.read_bytes() == first


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    log = filled(tmp_path / "metrics.jsonl", [1, 2, 3])
    log.path.write_bytes(log.path.read_bytes().replace(b'{"step": 2', b'{"step; 2'))
    with pytest.raises(InputError, match=f"{log.path}, line 2 is not JSON of a step"):
        log.read()


def test_no_file_is_an_empty_log(tmp_path):
    log = MetricLog(tmp_path / "metrics.jsonl")
    log.rewind(0)
    steps, values = log.read()
    assert steps.shape == (0,) and values == {} and not log.path.exists()


def test_going_on_from_a_checkpoint_without_its_log_is_refused(tmp_path):
    with pytest.raises(InputError, match="metrics.jsonl is lost: remove"):
        MetricLog(tmp_path / "metrics.jsonl").rewind(5)


def test_tensorboard_is_optional_and_has_the_same_numbers(tmp_path):
    logs = tensorboard_logs(tmp_path)
    installed = any(importlib.util.find_spec(name) for name in ("tensorboard", "tensorboardX"))
    assert len(logs) == installed
    for log in logs:
        log.rewind(0)
        log.append(3, {"loss": np.float32(np.arange(40))})
        log.close()
    if importlib.util.find_spec("tensorboard"):
        reader = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
        events = reader.EventAccumulator(str(tmp_path))
        events.Reload()
        tags = events.Tags()
        assert sorted(tags["scalars"] + tags["tensors"]) == sorted(f"loss/member {i}" for i in range(32))
    elif installed:
        assert list(tmp_path.glob("events.*"))


def test_the_writer_is_the_one_that_is_installed(tmp_path, monkeypatch):
    calls = []

    class Writer:
        def __init__(self, directory):
            calls.append(directory)

        def add_scalar(self, tag, value, step):
            calls.append((tag, value, step))

        def close(self):
            calls.append("closed")

    monkeypatch.setattr("interp_jax.results.metrics._writer_class", lambda: Writer)
    (log,) = tensorboard_logs(tmp_path)
    log.append(7, {"loss": np.float32([0.5, 0.25])})
    log.close()
    assert calls == [str(tmp_path), ("loss/member 0", 0.5, 7), ("loss/member 1", 0.25, 7), "closed"]
