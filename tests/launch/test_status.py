"""The one view of a sweep: how many runs are in which state, how far they are, and what failed."""

import pytest
from rich.console import Console

from interp_jax.errors import InputError
from interp_jax.experiments.frozen import read_frozen
from interp_jax.experiments.worker import main as worker
from interp_jax.launch import status
from interp_jax.results.run_directory import chunk_directory
from tests.experiments.frozen_lines import freeze_lines


def seen(directory):
    console = Console(width=160, record=True, file=open("/dev/null", "w"))
    console.print(status.view(read_frozen(directory)))
    return console.export_text()


def test_states_steps_and_errors_are_in_one_view(tmp_path):
    freeze_lines(tmp_path, ["wild"], **{"engine.chunk": 1, "on_nan": "stop"})
    assert "3 runs: 3 waiting" in seen(tmp_path) and "0% of 120 steps" in seen(tmp_path)
    with pytest.raises(InputError):
        worker([str(tmp_path)])
    said, chunks = seen(tmp_path), read_frozen(tmp_path).chunks
    assert "3 runs: 2 finished · 1 failed" in said and "became non-finite at step 1" in said
    assert f"{chunks[1].id}" in said and chunks[0].id not in said
    with chunk_directory(tmp_path, chunks[1].id).lock():
        assert "2 finished · 1 running" in seen(tmp_path)


def test_watching_ends_when_nothing_runs_or_waits(tmp_path, capsys):
    freeze_lines(tmp_path, ["rates"])
    worker([str(tmp_path)])
    status.main([str(tmp_path), "--watch"])
    said = capsys.readouterr().out
    assert "3 runs: 3 finished" in said and "100% of 0 steps" not in said


def test_of_very_many_failures_the_first_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(status, "MOST_ROWS", 1)
    freeze_lines(tmp_path, ["wild", "seeds"], **{"engine.chunk": 1, "on_nan": "stop"})
    with pytest.raises(InputError):
        worker([str(tmp_path)])
    assert "2 failed" in seen(tmp_path) and "and 1 more" in seen(tmp_path)
