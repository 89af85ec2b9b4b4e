"""What Slurm is given, where there need not be a Slurm: scripts, ranges, and one line where it is missing."""

import shutil
import subprocess
import sys

import pytest

from interp_jax.errors import InputError
from interp_jax.experiments.frozen import read_frozen
from interp_jax.launch.slurm import main as slurm
from interp_jax.launch.slurm_script import Resources, array_script, collector_script, ranges
from tests.experiments.frozen_lines import freeze_lines


@pytest.fixture
def sweep(tmp_path):
    freeze_lines(tmp_path / "a sweep", ["rates", "seeds"], **{"engine.chunk": 1})
    return read_frozen(tmp_path / "a sweep")


def test_ranges():
    assert [ranges(i) for i in ([3], [0, 1, 2], [0, 2, 3, 7])] == ["3", "0-2", "0,2-3,7"]


def test_an_array_has_what_was_asked_for_and_is_bash(sweep):
    resources = Resources("gpu", "lab", "16G", 90, 60, 8, 2, 1, 4, options=("--qos=high",))
    text = array_script(sweep, 6, [0, 1, 5], resources, "/opt/a python")
    headers = {line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")}
    wanted = "--array=0-1,5%4 --partition=gpu --account=lab --mem=16G --time=90 --signal=USR1@60 --requeue --qos=high"
    assert set(wanted.split()) <= headers and "--cpus-per-task=8" in headers and "--gpus-per-task=2" in headers
    assert f"--digest {sweep.digest} --devices 2 --platform gpu" in text and "--distributed" not in text
    assert "export INTERP_JAX_PYTHON='/opt/a python'" in text
    assert "--distributed" in array_script(sweep, 6, [0], Resources(nodes=2), "")
    for script in (text, collector_script(sweep, resources, "")):
        assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0


def test_a_dry_run_prints_the_scripts_and_needs_no_slurm(sweep, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    slurm(["submit", str(sweep.path), "--dry-run", "--at-once", "2"])
    said = capsys.readouterr().out
    assert "#SBATCH --array=0-5%2" in said and "launch/collect" in said
    assert not (sweep.directory / "slurm").exists()
    with pytest.raises(InputError, match="no Slurm here: sinfo is not on PATH"):
        slurm(["submit", str(sweep.path)])


def test_more_chunks_than_an_array_holds(sweep, capsys, monkeypatch):
    monkeypatch.setattr("interp_jax.launch.slurm.largest_array", lambda: 4)
    slurm(["submit", str(sweep.path), "--dry-run"])
    said = capsys.readouterr().out
    assert "--array=0-3" in said and '"$SLURM_ARRAY_TASK_ID/4"' in said


def test_a_controller_that_is_not_there_is_one_line(sweep, tmp_path, monkeypatch):
    stub = tmp_path / "sinfo"
    stub.write_text("#!/bin/sh\necho 'slurm_load_partitions: Unable to contact slurm controller' >&2; exit 1\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="sinfo refused: .*Unable to contact slurm controller"):
        slurm(["submit", str(sweep.path)])


def test_the_launcher_says_how_it_is_used():
    done = subprocess.run([sys.executable, "-m", "interp_jax.launch.slurm"], capture_output=True, text=True)
    assert done.returncode == 0 and "./launch/slurm submit" in done.stdout
    assert shutil.which("bash")
