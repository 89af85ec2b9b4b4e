"""Sweeps on a real Slurm, on this machine: arrays, requeues, dead nodes, time limits, failures, several nodes in one job.

Where Slurm is not installed or this is not root, all of this is skipped, but not in continuous integration.
"""

import contextlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import ANY

import pyarrow.parquet as pq
import pytest

from interp_jax.experiments.frozen import read_frozen
from interp_jax.experiments.progress import last_step, progress
from interp_jax.experiments.table import write_tables
from interp_jax.experiments.worker import main as worker
from tests.experiments.frozen_lines import ROOT, chunks, freeze_lines
from tests.experiments.line import digest_of
from tests.launch.slurm_cluster import Cluster, free_ports, processes, wait_for
from tests.launch.test_large import alike, losses
from tests.launch.test_processes import start

CONFIG = str(ROOT / "tests/launch/slow_line_config.py")
POPULATION = 1e-5  # within which members alone and in a population agree
LACKING = [name for name in ("slurmctld", "slurmd", "sbatch", "srun") if shutil.which(name) is None]
WHY = f"needs Slurm ({', '.join(LACKING)} missing; apt-get install slurm-wlm)" if LACKING else "needs root"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif((LACKING or os.getuid() != 0) and not os.environ.get("CI"), reason=WHY),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        made.wait_until_up()
        yield made
    finally:
        made.close()


@pytest.fixture
def slurm(cluster):
    """Runs ./launch/slurm; returns what it prints."""

    def run(*words, status=0, **environ):
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=1"
        environ = {**cluster.environ, "INTERP_JAX_PYTHON": sys.executable, "XLA_FLAGS": flags, **environ}
        command = [ROOT / "launch/slurm", *map(str, words)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout if status == 0 else done.stderr

    return run


def freeze(directory, sweep, **overrides):
    options = {"engine.chunk": 1, "engine.batch": 1, **overrides}
    return freeze_lines(directory, [sweep], config=CONFIG, **options)


def number(said):
    return re.match(r"job (\d+)", said).group(1)


def reporter(said):
    return re.search(r"; job (\d+)", said).group(1)


def states(directory):
    return [state.state for state in progress(read_frozen(directory))]


def begun(directory, i):
    """Whether chunk i is under way, some lines of metrics in."""
    sweep = read_frozen(directory)
    return last_step(sweep.place(sweep.chunks[i]).metrics) > 10


def log(directory, job, what):
    return (Path(directory) / "slurm" / f"{job}_{what}.log").read_text()


def test_eight_chunks_two_at_a_time_with_a_requeue_and_a_dead_node(cluster, slurm, tmp_path):
    """Both faults leave the bytes as they are, no run is lost or done twice; nor where two processes do it together."""
    freeze(tmp_path / "faults", "eight")
    freeze(tmp_path / "local", "eight")
    said = slurm("submit", tmp_path / "faults", "--at-once", 2, "--cpus", 4, LINE_PAUSE="0.1")  # a task fills a node
    job, most = number(said), 0
    assert "8 of 8 tasks (0-7)" in said
    wait_for(lambda: begun(tmp_path / "faults", 0) and begun(tmp_path / "faults", 1), 120)
    assert "2 running" in slurm("status", tmp_path / "faults")
    cluster.run("scontrol", "requeue", f"{job}_0")
    kill_node(cluster, "n2")
    worker([str(tmp_path / "local")])
    end = time.monotonic() + 400
    while left := cluster.run("squeue", "-h", "-j", job).strip():
        assert time.monotonic() < end, left
        most = max(most, list(cluster.jobs(job).values()).count("RUNNING"))
        if cluster.nodes["n2"].poll() is not None and "down" in cluster.run("sinfo", "-N", "-h", "-n", "n2"):
            cluster.nodes["n2"] = cluster.start_node("n2")
        time.sleep(0.5)
    assert most == 2
    cluster.wait_for_jobs(reporter(said))
    assert set(states(tmp_path / "faults")) == {"finished"}
    assert "restart" in log(tmp_path / "faults", job, 0).lower() or "REQUEUE" in log(tmp_path / "faults", job, 0)
    assert digest_of(tmp_path / "faults") == digest_of(tmp_path / "local")
    assert len(json.loads((tmp_path / "faults" / "weights.json").read_text())) == 8  # the collector's report
    assert "all is finished" in slurm("submit", tmp_path / "faults")
    freeze(tmp_path / "two", "eight", **{"engine.chunk": 8, "engine.batch": 0})  # four members a process, at once
    (port,) = free_ports(1)
    both = [start(tmp_path / "two", f"{i}/2", port) for i in range(2)]
    assert [(process.wait(300), process.communicate()[1]) for process in both] == [(0, ANY), (0, ANY)]
    assert [m["processes"] for m in chunks(tmp_path / "two").values()] == [2]
    ways = [summed(tmp_path / way) for way in ("local", "faults", "two")]
    assert ways[0] == ways[1]
    assert ways[0] == pytest.approx(ways[2], rel=POPULATION)


def summed(directory):
    """{metric: its sum over all lines of all runs}; each of the eight runs is there once, and every line of it."""
    runs, lines = (pq.read_table(path).to_pydict() for path in write_tables(read_frozen(directory)))
    assert sorted(runs["seed"]) == list(range(8)) and len(set(runs["run"])) == 8
    of_run = [
        [step for step, run in zip(lines["step"], lines["run"], strict=True) if run == name] for name in runs["run"]
    ]
    assert all(steps == list(range(5, 201, 5)) for steps in of_run)
    return {name: math.fsum(lines[name]) for name in ("loss", "first")}


def kill_node(cluster, name):
    """As a power cut would: the daemon and all that it had started, what reports to the controller first."""
    cluster.nodes[name].kill()
    cluster.nodes[name].wait()
    ours = {pid for pid, (_, environ) in processes().items()
            if f"SLURMD_NODENAME={name}" in environ and f"SLURM_CONF={cluster.state}/slurm.conf" in environ}  # fmt: skip
    parents = {int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1]) for pid in ours}
    keepers = {pid for pid in parents if "slurmstepd" in processes().get(pid, ("", []))[0]}
    assert keepers
    for pid in [*keepers, *ours]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_the_collector_runs_after_failures_and_lists_them(cluster, slurm, tmp_path):
    freeze(tmp_path, "wild", on_nan="stop")
    said = slurm("submit", tmp_path, "--at-once", 3)
    cluster.wait_for_jobs(number(said))
    cluster.wait_for_jobs(reporter(said))
    assert states(tmp_path) == ["finished", "failed", "finished"]
    lines = (tmp_path / "slurm" / f"{reporter(said)}-report.log").read_text()
    bad = read_frozen(tmp_path).chunks[1].id
    assert f"{bad} (1 run) failed" in lines and f"--only {bad}" in lines and "non-finite" in lines
    assert "non-finite" in (tmp_path / "report.html").read_text()
    assert "1 of 3 tasks (1)" in slurm("submit", tmp_path)  # only what is missing
    slurm("cancel", tmp_path)


def test_a_time_limit_and_a_cancel_lose_nothing_and_the_rest_is_submitted_again(cluster, slurm, tmp_path):
    freeze(tmp_path / "cut", "three")
    freeze(tmp_path / "whole", "three")
    said = slurm("submit", tmp_path / "cut", "--at-once", 2, LINE_PAUSE="1.5")  # Slurm looks every half minute
    job = number(said)
    wait_for(lambda: begun(tmp_path / "cut", 0) and begun(tmp_path / "cut", 1), 120)
    cluster.run("scontrol", "update", f"jobid={job}_0", "EndTime=now+1seconds")
    assert "all that is missing is queued already" in slurm("submit", tmp_path / "cut")
    wait_for(lambda: cluster.jobs(job).get(0) == "TIMEOUT", 90, lambda: str(cluster.jobs(job)))
    slurm("cancel", tmp_path / "cut")
    cluster.wait_for_jobs(job)
    found = states(tmp_path / "cut")
    assert "interrupted" in found and "running" not in found
    open_shards = [i for i, state in enumerate(found) if state != "finished"]
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("cut/chunks/*/manifest.json")}
    said = slurm("submit", tmp_path / "cut", "--at-once", 4)
    assert f"{len(open_shards)} of 3 tasks" in said
    worker([str(tmp_path / "whole")])
    cluster.wait_for_jobs(number(said))
    assert states(tmp_path / "cut") == ["finished"] * 3
    assert all(p.stat().st_mtime_ns == t for p, t in before.items())
    assert digest_of(tmp_path / "cut") == digest_of(tmp_path / "whole")


def test_a_task_whose_time_is_over_is_queued_again_and_goes_on(cluster, slurm, tmp_path):
    """Slurm looks every half minute whose time will be over before it looks again, and warns those."""
    freeze(tmp_path, "three", **{"engine.chunk": 3})
    said = slurm("submit", tmp_path, "--minutes", 10, "--warning", 20, LINE_PAUSE="1.5")
    wait_for(lambda: begun(tmp_path, 0), 120)
    cluster.run("scontrol", "update", f"jobid={number(said)}_0", "EndTime=now+45seconds")
    cluster.wait_for_jobs(number(said), 300)
    assert states(tmp_path) == ["finished"]
    assert "out of time; the same command goes on" in log(tmp_path, number(said), 0)


def test_two_nodes_share_one_job(cluster, slurm, tmp_path):
    freeze(tmp_path / "two", "eight", **{"engine.chunk": 8})
    freeze(tmp_path / "one", "eight", **{"engine.chunk": 8})
    (port,) = free_ports(1)
    said = slurm("submit", tmp_path / "two", "--nodes", 2, JAX_COORDINATOR_ADDRESS=f"127.0.0.1:{port}")
    worker([str(tmp_path / "one")])
    cluster.wait_for_jobs(number(said))
    assert states(tmp_path / "two") == ["finished"], log(tmp_path / "two", number(said), 0)
    (manifest,) = chunks(tmp_path / "two").values()
    assert manifest["device"]["count"] == 2 and manifest["processes"] == 2
    assert digest_of(tmp_path / "two") == digest_of(tmp_path / "one")


def test_two_nodes_train_one_transformer_with_sums_over_both(cluster, slurm, tmp_path):
    """Examples over one axis and parameters over the other, a node having one column of both."""
    for name in ("two", "one"):
        freeze_lines(tmp_path / name, ["seeds"], config=str(ROOT / "tests/experiments/small_transformer_config.py"))
    (port,) = free_ports(1)
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    said = slurm(
        "submit", tmp_path / "two", "--nodes", 2, JAX_COORDINATOR_ADDRESS=f"127.0.0.1:{port}", XLA_FLAGS=flags
    )
    worker([str(tmp_path / "one")])
    cluster.wait_for_jobs(number(said), 300)
    assert states(tmp_path / "two") == ["finished"], log(tmp_path / "two", number(said), 0)
    (manifest,) = chunks(tmp_path / "two").values()
    assert manifest["device"]["count"] == 4 and manifest["processes"] == 2
    alike(tmp_path / "two", losses(tmp_path / "one"))


def test_what_it_refuses(cluster, slurm, tmp_path):
    freeze(tmp_path, "three")
    assert "error: no partition 'cup' in this cluster: did you mean 'cpu'?" in slurm(
        "submit", tmp_path, "--partition", "cup", status=2
    )
    assert "--cpus must be at least 1" in slurm("submit", tmp_path, "--cpus", 0, status=2)
    assert not (tmp_path / "slurm").exists()
