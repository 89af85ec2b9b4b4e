"""The worker as engines start it: shards, signals, two at once, failures, and what it refuses."""

import json
import signal
import subprocess
import sys
import time

import pytest

from interp_jax.errors import InputError
from interp_jax.experiments.collector import main as collector
from interp_jax.experiments.frozen import read_frozen
from interp_jax.experiments.progress import last_step, progress
from interp_jax.experiments.worker import main as worker
from interp_jax.results.run_directory import chunk_directory
from tests.experiments.frozen_lines import chunks, environment, freeze_lines
from tests.experiments.line import digest_of

LONG = {"steps": 400, "engine.batch": 1}


def start(directory, *words):
    command = [sys.executable, "-m", "interp_jax.experiments.worker", str(directory), *words]
    return subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for_steps(directory, process, least=1):
    while process.poll() is None and sum(map(last_step, directory.glob("chunks/*/metrics.jsonl"))) < least:
        time.sleep(0.01)


def test_shards_together_are_the_sweep(tmp_path):
    freeze_lines(tmp_path / "whole", ["rates", "seeds"], **{"engine.chunk": 2})
    freeze_lines(tmp_path / "cut", ["rates", "seeds"], **{"engine.chunk": 2})
    worker([str(tmp_path / "whole")])
    for i in range(2):
        assert len(chunks(tmp_path / "cut")) == 2 * i  # chunks 0 and 2, then 1
        worker([str(tmp_path / "cut" / "sweep.json"), "--shard", f"{i}/2"])
    assert digest_of(tmp_path / "cut") == digest_of(tmp_path / "whole")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("cut/chunks/*/*")}
    worker([str(tmp_path / "cut"), "--shard", "0/1"])
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("cut/chunks/*/*")} == before


def test_a_shard_without_chunks_says_so(tmp_path, capsys):
    freeze_lines(tmp_path)
    worker([str(tmp_path), "--shard", "3/4"])
    assert "nothing to do, the sweep has 1 chunks" in capsys.readouterr().err and not chunks(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 130), (signal.SIGUSR1, 75)])
def test_a_signal_saves_a_checkpoint_and_the_worker_goes_on_from_it(tmp_path, number, status):
    freeze_lines(tmp_path / "cut", ["seeds"], **LONG)
    freeze_lines(tmp_path / "whole", ["seeds"], **LONG)
    process = start(tmp_path / "cut")
    wait_for_steps(tmp_path / "cut", process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status and "goes on from the last checkpoint" in said, said
    (state,) = progress(read_frozen(tmp_path / "cut"))
    assert state.state == "interrupted" and 0 < state.step < state.steps
    newest = max(int(p.name) for p in tmp_path.glob("cut/chunks/*/checkpoints/[0-9]*"))
    assert newest == state.step
    for name in ("cut", "whole"):
        worker([str(tmp_path / name)])
    assert digest_of(tmp_path / "cut") == digest_of(tmp_path / "whole")


@pytest.mark.slow
def test_two_workers_at_once_on_one_shard_write_every_run_once(tmp_path):
    options = {"engine.chunk": 1, "steps": 400}
    freeze_lines(tmp_path / "two", ["rates", "seeds"], **options)
    freeze_lines(tmp_path / "one", ["rates", "seeds"], **options)
    both = [start(tmp_path / "two", "--shard", "0/1") for _ in range(2)]
    while not list(tmp_path.glob("two/chunks/*/manifest.json")) and any(p.poll() is None for p in both):
        time.sleep(0.02)
    states = [s.state for s in progress(read_frozen(tmp_path / "two"))]
    ends = [(p.communicate()[1], p.returncode) for p in both]
    assert [code for _, code in ends] == [0, 0], ends
    assert "running" in states or set(states) == {"finished"}
    runs = [h for m in chunks(tmp_path / "two").values() for h in m["members"]]
    assert len(runs) == len(set(runs)) == 6
    for m in tmp_path.glob("two/chunks/*/metrics.jsonl"):
        steps = [json.loads(line)["step"] for line in m.read_text().splitlines()]
        assert steps == sorted(set(steps)) and steps[-1] == 400
    worker([str(tmp_path / "one")])
    assert digest_of(tmp_path / "two") == digest_of(tmp_path / "one")


@pytest.mark.slow
def test_the_manifest_has_the_hit_rate_of_the_compilation_cache(tmp_path):
    """A cache that was empty has nothing; the same sweep elsewhere finds every program there."""
    rates = []
    for name in ("first", "second"):
        freeze_lines(tmp_path / name, **{"engine.batch": 1})
        command = [sys.executable, "-m", "interp_jax.experiments.worker", str(tmp_path / name)]
        here = environment() | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
        subprocess.run(command, env=here, check=True, capture_output=True)
        ((_, manifest),) = chunks(tmp_path / name).items()
        cache = manifest["compilation_cache"]
        assert cache["directory"] == str(tmp_path / "cache") and cache["hits"] + cache["misses"] > 2
        rates.append(cache["hit_rate"])
    assert rates == [0.0, 1.0]


def test_a_chunk_that_another_holds_is_passed_over(tmp_path):
    freeze_lines(tmp_path, ["rates"], **{"engine.chunk": 1})
    plan = read_frozen(tmp_path)
    with chunk_directory(tmp_path, plan.chunks[1].id).lock() as held:
        assert held
        worker([str(tmp_path)])
        states = [s.state for s in progress(plan)]
        assert states == ["finished", "running", "finished"]
    worker([str(tmp_path)])
    assert [s.state for s in progress(plan)] == ["finished"] * 3


def test_a_chunk_that_fails_leaves_the_others_alone_and_is_listed(tmp_path, capsys):
    freeze_lines(tmp_path, ["wild"], **{"engine.chunk": 1, "on_nan": "stop"})
    plan = read_frozen(tmp_path)
    with pytest.raises(InputError, match="became non-finite at step 1"):
        worker([str(tmp_path)])
    states = progress(plan)
    assert [s.state for s in states] == ["finished", "failed", "finished"]
    assert "non-finite at step 1" in states[1].note
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        collector([str(tmp_path)])
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert f"{plan.chunks[1].id} (1 run) failed" in said.err and f"--only {plan.chunks[1].id}" in said.err
    report = (tmp_path / "report.html").read_text()
    assert "Runs that did not finish" in report and "non-finite at step 1" in report
    assert f"--only {plan.chunks[1].id}" in report
    assert len(json.loads((tmp_path / "weights.json").read_text())) == 2
    with pytest.raises(InputError, match="became non-finite"):
        worker([str(tmp_path), "--only", plan.chunks[1].id])
    with pytest.raises(InputError, match="no such chunk in the sweep; did you mean"):
        worker([str(tmp_path), "--only", plan.chunks[1].id[:-1]])


def test_the_same_error_three_times_running_ends_the_shard(tmp_path, monkeypatch):
    freeze_lines(tmp_path, ["rates", "seeds"], **{"engine.chunk": 1})
    tries = []

    def broken(job):
        tries.append(job.id)
        raise RuntimeError("broken")

    monkeypatch.setattr("interp_jax.experiments.chunk.run_chunk", broken)
    with pytest.raises(RuntimeError, match="broken"):
        worker([str(tmp_path)])
    assert len(tries) == 3
    assert [s.state for s in progress(read_frozen(tmp_path))] == ["failed"] * 3 + ["waiting"] * 3


def test_what_a_worker_refuses(tmp_path):
    freeze_lines(tmp_path)
    with pytest.raises(InputError, match="frozen again since this job was submitted"):
        worker([str(tmp_path), "--digest", "0123"])
    with pytest.raises(InputError, match="--devices 99: fewer are here, 4"):
        worker([str(tmp_path), "--devices", "99"])
    with pytest.raises(InputError, match="--platform gpu: JAX found cpu devices here"):
        worker([str(tmp_path), "--platform", "gpu"])
    with pytest.raises(InputError, match="0 <= i < n"):
        worker([str(tmp_path), "--shard", "4/4"])
    text = (tmp_path / "sweep.json").read_text()
    (tmp_path / "sweep.json").write_text(text.replace('"steps": 40', '"steps": 41'))
    with pytest.raises(InputError, match="changed after it was frozen"):
        worker([str(tmp_path)])
    assert not (tmp_path / "chunks").exists()


def test_another_sweep_is_refused_while_a_worker_runs_the_first(tmp_path):
    freeze_lines(tmp_path, ["rates"])
    (chunk,) = read_frozen(tmp_path).chunks
    with chunk_directory(tmp_path, chunk.id).lock():
        with pytest.raises(InputError, match="holds another sweep, which .*, process .* is running"):
            freeze_lines(tmp_path, ["widths"])
        freeze_lines(tmp_path, ["rates"])  # the same one is no other
    freeze_lines(tmp_path, ["widths"])
