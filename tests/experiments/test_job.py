"""A job from config to report: skipping, widening, resuming, diverging, and equal results on any number of devices."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from interp_jax.errors import InputError
from interp_jax.experiments import chunk as chunk_module
from interp_jax.experiments.frozen import made_by
from interp_jax.experiments.job import run_job
from interp_jax.experiments.plan import thaw
from interp_jax.experiments.worker import main as worker
from interp_jax.experiments.worker import parse_shard
from tests.experiments.line import digest_of

ROOT = Path(__file__).parents[2]
CONFIG = str(Path(__file__).parent / "line_config.py")


def job(directory, sweeps=("none",), rerun=False, config=CONFIG, **overrides):
    console = Console(record=True, width=500, file=open(os.devnull, "w"))
    values = {"output.directory": str(directory), **{k: str(v) for k, v in overrides.items()}}
    report = run_job(config, values, sweeps, rerun, "./launch/local …", console)
    return report, console.export_text()


def chunks(directory):
    return {p.parent.name: json.loads(p.read_text()) for p in Path(directory).glob("chunks/*/manifest.json")}


def command(directory, *words):
    return [sys.executable, "-m", "interp_jax.experiments.main", "--config", CONFIG,
            f"--config.output.directory={directory}", *words]  # fmt: skip


def environment(devices=1):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}


def test_results_and_manifest(tmp_path):
    job(tmp_path, ["rates", "seeds"])
    assert len(json.loads((tmp_path / "weights.json").read_text())) == 6
    ((_, manifest),) = chunks(tmp_path).items()
    assert len(manifest["members"]) == 6 and manifest["diverged_at"] == [-1] * 6
    assert {"config", "git", "versions", "device", "seconds", "matmul_precision", "batch"} <= manifest.keys()


def test_finished_members_are_skipped_and_a_widened_sweep_runs_what_is_missing(tmp_path):
    job(tmp_path, ["rates"])
    before = chunks(tmp_path)
    _, said = job(tmp_path, ["rates"])
    assert "3 of 3 runs are finished (by commit" in said
    assert chunks(tmp_path) == before
    _, said = job(tmp_path, ["rates", "seeds"])
    assert "3 of 6 runs are finished" in said and "3 runs in 1 chunks" in said
    new = {k: v for k, v in chunks(tmp_path).items() if k not in before}
    assert [len(m["members"]) for m in new.values()] == [3]
    assert len(json.loads((tmp_path / "weights.json").read_text())) == 6


def test_rerun_does_it_again(tmp_path):
    job(tmp_path, ["rates"])
    seen = {p: p.stat().st_mtime_ns for p in tmp_path.glob("chunks/*/metrics.jsonl")}
    contents = digest_of(tmp_path)
    job(tmp_path, ["rates"], rerun=True)
    assert all(p.stat().st_mtime_ns > t for p, t in seen.items())
    assert digest_of(tmp_path) == contents


def test_rerun_of_one_member_keeps_the_others(tmp_path):
    job(tmp_path, ["seeds"])
    job(tmp_path, ["none"], rerun=True, seed=1)
    assert sorted(len(m["members"]) for m in chunks(tmp_path).values()) == [1, 2]
    _, said = job(tmp_path, ["seeds"])
    assert "2 of 2 runs are finished" in said


def test_an_interrupted_rerun_keeps_what_was_there_and_goes_on(tmp_path, monkeypatch):
    job(tmp_path, ["seeds"], **{"engine.chunk": 1})
    before = {name: m["redo"] for name, m in chunks(tmp_path).items()}
    run_chunk, runs = chunk_module.run_chunk, []

    def fails_at_the_second(one):
        runs.append(one.id)
        if len(runs) == 2:
            raise KeyboardInterrupt
        return run_chunk(one)

    monkeypatch.setattr(chunk_module, "run_chunk", fails_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        job(tmp_path, ["seeds"], rerun=True, **{"engine.chunk": 1})
    kept = {h for m in chunks(tmp_path).values() for h in m["members"]}
    assert len(kept) == 2
    job(tmp_path, ["seeds"], rerun=True, **{"engine.chunk": 1})
    assert len(runs) == 3 and runs[1] == runs[2]
    assert set(before.values()) == {""} and len({m["redo"] for m in chunks(tmp_path).values()}) == 1
    assert not list(tmp_path.glob("chunks/*.old"))


def test_chunks_and_single_runs_agree(tmp_path):
    job(tmp_path / "one", ["rates", "seeds"])
    job(tmp_path / "cut", ["rates", "seeds"], **{"engine.chunk": 2})
    assert len(chunks(tmp_path / "cut")) == 3
    np.testing.assert_allclose(final(tmp_path / "cut"), final(tmp_path / "one"), rtol=1e-6)
    job(tmp_path / "batch", ["rates", "seeds"], **{"engine.batch": 2})
    np.testing.assert_allclose(final(tmp_path / "batch"), final(tmp_path / "one"), rtol=1e-5)


def final(directory):
    """Final weights of all members, by hash."""
    found = {}
    for path in Path(directory).glob("chunks/*/manifest.json"):
        last = max((path.parent / "observations").glob("*.npz"))
        found |= dict(zip(json.loads(path.read_text())["members"], np.load(last)["w"], strict=True))
    return np.stack([found[h] for h in sorted(found)])


@pytest.mark.slow
def test_any_number_of_devices_gives_the_same_results(tmp_path):
    for n in (1, 2, 4):
        words = ["--sweep", "rates", "--sweep", "seeds", "--config.engine.batch=1"]
        subprocess.run(command(tmp_path / str(n), *words), env=environment(n), check=True, capture_output=True)
    for n in (2, 4):
        np.testing.assert_array_equal(final(tmp_path / str(n)), final(tmp_path / "1"))


def test_a_diverged_member_leaves_the_others_alone(tmp_path):
    job(tmp_path / "both", ["rates"], **{"data.noise": 0.5})
    config = tmp_path / "wild_config.py"
    config.write_text(Path(CONFIG).read_text() + "\n\ndef sweep_wild():\n"
                      "    for rate in (0.03, 3e38, 0.1, 0.3):\n        yield {'learning_rate': rate}\n")  # fmt: skip
    job(tmp_path / "wild", ["wild"], config=str(config), **{"data.noise": 0.5})
    ((_, manifest),) = chunks(tmp_path / "wild").items()
    assert manifest["diverged_at"] == [-1, 1, -1, -1]
    path = next((tmp_path / "wild").glob("chunks/*/observations/00000040.npz"))
    with_wild, alone = (
        np.load(path)["w"],
        np.load(next((tmp_path / "both").glob("chunks/*/observations/00000040.npz")))["w"],
    )
    np.testing.assert_allclose(with_wild[[0, 2, 3]], alone, rtol=1e-5)
    assert np.isfinite(with_wild).all()
    before = np.load(next((tmp_path / "wild").glob("chunks/*/observations/00000008.npz")))["w"]
    np.testing.assert_array_equal(with_wild[1], before[1])
    with pytest.raises(InputError, match="non-finite at step 1"):
        job(tmp_path / "stop", ["wild"], config=str(config), on_nan="stop")


def test_all_diverged_ends_early(tmp_path):
    job(tmp_path, ["none"], learning_rate="3e38")
    ((name, manifest),) = chunks(tmp_path).items()
    lines = (tmp_path / "chunks" / name / "metrics.jsonl").read_text().splitlines()
    assert manifest["diverged_at"] == [1] and len(lines) < 5


def test_out_of_memory_says_how_to_chunk(tmp_path):
    with pytest.raises(InputError, match="out of device memory with 3 members.*engine.batch=1 or .*engine.chunk=1"):
        job(tmp_path, ["rates"], **{"data.examples": 2**31 - 1, "model.width": 100_000, "engine.batch": 3})


@pytest.mark.slow
def test_two_workers_at_once_write_everything_once(tmp_path):
    words = ["--sweep", "rates", "--sweep", "seeds", "--sweep", "widths", "--config.engine.chunk=2"]
    both = [
        subprocess.Popen(command(tmp_path, *words), env=environment(), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ends = [(p.communicate()[1], p.returncode) for p in both]
    assert all(code == 0 or (code == 2 and "another worker" in said) for said, code in ends), ends
    assert 0 in [code for _, code in ends]
    found = [h for m in chunks(tmp_path).values() for h in m["members"]]
    assert len(found) == len(set(found)) == 12


def test_a_directory_of_another_experiment_is_refused(tmp_path):
    job(tmp_path, ["none"])
    other = tmp_path / "other_config.py"
    other.write_text(Path(CONFIG).read_text().replace('"tests.experiments.line"', '"tests.experiments.other_line"'))
    with pytest.raises(
        InputError, match="holds results of tests.experiments.line, not of tests.experiments.other_line"
    ):
        job(tmp_path, ["none"], config=str(other))


def test_changed_data_is_refused_on_resume(tmp_path):
    job(tmp_path, ["none"])
    chunk = next(tmp_path.glob("chunks/*"))
    (chunk / "manifest.json").unlink()
    (chunk / "chunk.json").write_text((chunk / "chunk.json").read_text().replace('"shared": "', '"shared": "0'))
    with pytest.raises(InputError, match="changed since they began"):
        job(tmp_path, ["none"])


def test_an_edited_sweep_is_refused(tmp_path):
    job(tmp_path, ["none"])
    text = (tmp_path / "sweep.json").read_text()
    (tmp_path / "sweep.json").write_text(text.replace("0.1", "0.2"))
    with pytest.raises(InputError, match="changed after it was frozen"):
        thaw(tmp_path / "sweep.json")


def test_results_say_which_command_made_them(tmp_path):
    assert made_by(tmp_path) == {}
    job(tmp_path, ["none"])
    content = json.loads((tmp_path / "sweep.json").read_text())
    told = made_by(tmp_path)
    assert told["command"] == content["source"] and told["commit"] == (content["git"] or {}).get("commit", "unknown")


def test_shards(tmp_path):
    assert parse_shard("1/4") == (1, 4)
    for wrong in ("4/4", "x", "1", "-1/2"):
        with pytest.raises(InputError, match="i/n"):
            parse_shard(wrong)
    with pytest.raises(InputError, match="no frozen sweep"):
        worker([str(tmp_path / "sweep.json")])


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(3))
def test_kill_9_and_resume_is_bit_exact(tmp_path, trial):
    """Interrupted at random moments, again and again, the job ends with the bytes of the uninterrupted one."""
    words = [
        "--sweep",
        "seeds",
        "--config.steps=400",
        "--config.engine.checkpoint_seconds=0",
        "--config.engine.batch=1",
    ]
    subprocess.run(command(tmp_path / "whole", *words), env=environment(), check=True, capture_output=True)
    rng = random.Random(trial)
    kills = 0
    while True:
        process = subprocess.Popen(
            command(tmp_path / "cut", *words), env=environment(), stderr=subprocess.PIPE, text=True
        )
        before = progress(tmp_path / "cut")
        while process.poll() is None and progress(tmp_path / "cut") <= before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        if kills < 4:
            process.send_signal(signal.SIGKILL)
            kills += 1
        _, errors = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors
    assert kills >= 2
    assert digest_of(tmp_path / "cut") == digest_of(tmp_path / "whole")


def progress(directory):
    """How far the job's metrics have come, in lines."""
    return sum(len(p.read_bytes().splitlines()) for p in Path(directory).glob("chunks/*/metrics.jsonl"))


@pytest.mark.slow
def test_a_flipped_bit_is_named_and_the_checkpoint_before_it_is_used(tmp_path):
    words = ["--config.steps=80", "--config.engine.batch=1"]
    subprocess.run(command(tmp_path / "whole", *words), env=environment(), check=True, capture_output=True)
    subprocess.run(command(tmp_path / "hurt", *words), env=environment(), check=True, capture_output=True)
    next(tmp_path.glob("hurt/chunks/*/manifest.json")).unlink()
    newest = max((tmp_path / "hurt").glob("chunks/*/checkpoints/*"), key=lambda p: int(p.name))
    victim = max(
        (p for p in newest.rglob("*") if p.is_file() and "json" not in p.suffix), key=lambda p: p.stat().st_size
    )
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    done = subprocess.run(
        command(tmp_path / "hurt", *words), env=environment(), check=True, capture_output=True, text=True
    )
    assert "80" in done.stderr and victim.name in done.stderr
    assert digest_of(tmp_path / "hurt") == digest_of(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "configs/no.py"], "no config file configs/no.py"),
        (["--config", CONFIG + ":shrot"], "did you mean 'short'"),
        (["--config", CONFIG, "--config.modle.width=3"], "did you mean 'model.width'"),
        (["--config", CONFIG, "--config.steps=0"], "steps must be at least 1"),
        (["--config", CONFIG, "--config.output.directory=/dev/null/x"], "/dev/null is not a directory"),
        (["--config", CONFIG, "--confg.steps=3"], "not understood"),
        (["--sweep", "x"], "which experiment"),
    ],
)
def test_bad_input_is_one_line_and_status_2(words, message, tmp_path):
    main = [sys.executable, "-m", "interp_jax.experiments.main"]
    done = subprocess.run([*main, *words], env=environment(), capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.slow
def test_a_full_disk_loses_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        words = ["--config.steps=80", "--config.engine.batch=1"]
        full = subprocess.run(command(disk, *words), env=environment(), capture_output=True, text=True)
        assert full.returncode == 2, full.stderr
        assert "disk full while writing" in full.stderr.splitlines()[-1] and "Traceback" not in full.stderr
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        subprocess.run(command(disk, *words), env=environment(), check=True, capture_output=True)
        subprocess.run(command(tmp_path / "whole", *words), env=environment(), check=True, capture_output=True)
        assert digest_of(disk) == digest_of(tmp_path / "whole")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
