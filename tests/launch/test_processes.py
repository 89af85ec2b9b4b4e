"""Two real processes on loopback that run a chunk together, and one that finds nobody."""

import re
import subprocess
import sys

import pytest

from interp_jax.experiments.worker import main as worker
from tests.experiments.frozen_lines import chunks, environment, freeze_lines
from tests.experiments.line import digest_of
from tests.launch.slurm_cluster import free_ports

pytestmark = pytest.mark.slow


def start(directory, process, port, *words):
    command = [sys.executable, "-m", "interp_jax.experiments.worker", str(directory), *words]
    together = ["--coordinator", f"127.0.0.1:{port}", "--process", process]
    return subprocess.Popen([*command, *together], env=environment(1), stderr=subprocess.PIPE, text=True)


def test_two_processes_write_what_one_does(tmp_path):
    """Six members on two devices of two processes, three each; and a start that finds it all done."""
    options = {"engine.batch": 1}
    freeze_lines(tmp_path / "two", ["rates", "seeds"], **options)
    freeze_lines(tmp_path / "one", ["rates", "seeds"], **options)
    (port,) = free_ports(1)
    both = [start(tmp_path / "two", f"{i}/2", port) for i in range(2)]
    worker([str(tmp_path / "one")])
    ends = [(p.communicate(timeout=300)[1], p.returncode) for p in both]
    assert [code for _, code in ends] == [0, 0], ends
    (manifest,) = chunks(tmp_path / "two").values()
    assert (manifest["processes"], manifest["device"]["count"]) == (2, 2)
    assert digest_of(tmp_path / "two") == digest_of(tmp_path / "one")


def test_a_process_that_does_not_come_is_one_line(tmp_path):
    freeze_lines(tmp_path)
    (port,) = free_ports(1)
    both = [start(tmp_path, f"{i}/3", port, "--patience", "8") for i in (0, 2)]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [2, 2], said
    assert "was not reached by process 1 of 3 within 8 s; are they up?" in said[0], said
    assert "did not answer in 8 s" in said[1] and all(len(one.strip().splitlines()) == 1 for one in said), said


def test_of_a_step_of_slurm_a_missing_task_is_one_line_too(tmp_path):
    """Nothing is given: which task it is, and on which hosts the others are, is what Slurm says."""
    freeze_lines(tmp_path)
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostnames n[1-2]" ] && echo 127.0.0.1 && echo n2\n')
    scontrol.chmod(0o755)
    told = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_ID": "4097", "SLURM_STEP_NODELIST": "n[1-2]"}
    command = [
        sys.executable,
        "-m",
        "interp_jax.experiments.worker",
        str(tmp_path),
        "--distributed",
        "--patience",
        "4",
    ]
    for number, reason in (("0", "was not reached by process 1 of 2 within 4 s"), ("1", "did not answer in 4 s")):
        own = environment(1) | told | {"SLURM_PROCID": number}
        own["PATH"] = f"{scontrol.parent}:{own['PATH']}"
        process = subprocess.run(command, env=own, stderr=subprocess.PIPE, text=True, timeout=120)
        assert process.returncode == 2 and len(process.stderr.strip().splitlines()) == 1, process.stderr
        assert f"did not find each other: coordinator 127.0.0.1:20481 {reason}" in process.stderr


def test_a_coordinator_that_is_not_there_is_one_line(tmp_path):
    freeze_lines(tmp_path)
    (port,) = free_ports(1)
    process = start(tmp_path, "1/2", port, "--patience", "5")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2, said
    assert re.search(rf"error: .*did not find each other: coordinator 127.0.0.1:{port}", said), said
    assert len(said.strip().splitlines()) == 1, said
    process = start(tmp_path, "2/2", port)
    assert "--process takes i/n" in process.communicate(timeout=120)[1]
    process = start(tmp_path, "1/2", "port")
    assert "--coordinator takes host:port, got '127.0.0.1:port'" in process.communicate(timeout=120)[1]
