"""One transformer over several devices and processes: it goes on where there are others, and ends as it would on one device."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.experiments.frozen_lines import ROOT, chunks, environment, freeze_lines
from tests.experiments.small_transformer import STOP_AT
from tests.launch.slurm_cluster import free_ports

CONFIG = str(ROOT / "tests/experiments/small_transformer_config.py")
pytestmark = pytest.mark.slow


def freeze(directory, **overrides):
    freeze_lines(directory, ["seeds"], config=CONFIG, **overrides)
    return directory


def start(directory, devices, stop_at="", words=()):
    command = [sys.executable, "-m", "interp_jax.experiments.worker", str(directory), *words]
    here = environment(devices) | ({STOP_AT: str(stop_at)} if stop_at else {})
    return subprocess.Popen(command, env=here, stderr=subprocess.PIPE, text=True)


def run(directory, devices, stop_at="", processes=1, status=0):
    """Work on a sweep with so many devices of so many processes; ends where it is asked to stop, or when all is done."""
    (port,) = free_ports(1)
    words = [("--coordinator", f"127.0.0.1:{port}", "--process", f"{i}/{processes}") for i in range(processes)]
    several = processes > 1
    started = [start(directory, devices, stop_at, words[i] if several else ()) for i in range(processes)]
    ends = [(process.communicate(timeout=400)[1], process.returncode) for process in started]
    assert {code for _, code in ends} == {130 if stop_at else status}, ends
    return [said for said, _ in ends]


def losses(directory):
    """Steps [T] and losses [T R] of the one chunk, and the last observation."""
    (file,) = directory.glob("chunks/*/metrics.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    seen = np.load(max(file.parent.glob("observations/*.npz")))["held_out"]
    return [line["step"] for line in lines], np.array([line["loss"] for line in lines]), seen


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What one device makes of it."""
    directory = freeze(tmp_path_factory.mktemp("whole"))
    run(directory, 1)
    return losses(directory)


def alike(directory, whole):
    for found, wanted in zip(losses(directory), whole, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-4)
    assert whole[1][-1].mean() < 0.9 * whole[1][0].mean(), "it learns"


def test_it_goes_on_on_four_devices_and_then_on_one(tmp_path, whole):
    freeze(tmp_path)
    run(tmp_path, 8, stop_at=6)
    run(tmp_path, 4, stop_at=16)
    run(tmp_path, 1)
    alike(tmp_path, whole)


def test_it_goes_on_in_one_process_after_two_and_in_two_after_one(tmp_path, whole):
    freeze(tmp_path)
    run(tmp_path, 2, stop_at=6, processes=2)
    (saved,) = tmp_path.glob("chunks/*/checkpoints/[0-9]*")
    about = json.loads((saved / "sidecar.json").read_text())["content"]
    assert about["leaves"]["params.blocks.attn.W_Q"]["sha256"] is None, "no process has all of it"
    writers = {path.split("/")[1] for path in about["files"] if path.startswith("default/ocdbt.process_")}
    assert len(writers) == 2, "each process writes its part"
    run(tmp_path, 4, stop_at=16)
    run(tmp_path, 1, processes=2)
    alike(tmp_path, whole)
    (manifest,) = chunks(tmp_path).values()
    assert (manifest["processes"], manifest["device"]["count"]) == (2, 2)


def test_a_process_without_a_part_is_refused(tmp_path):
    freeze(tmp_path, batch_size=7, model_shards=1)
    for said in run(tmp_path, 1, processes=2, status=2):
        assert (
            "2 processes share this run, which divides over 1 devices (1 data × 1 model): none is left for process 1"
            in said
        )


WRITE = """
import sys

from interp_jax.experiments.processes import join

directory, *together = sys.argv[1:]
if together:
    join(*together)

from tests.experiments import stored

stored.write(directory, shard_rows=256)
"""


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A store that one process writes, and one that two write together."""
    made = tmp_path_factory.mktemp("stores")
    (port,) = free_ports(1)
    ways = [("one", ()), *(("two", (f"127.0.0.1:{port}", f"{i}/2")) for i in range(2))]
    command = [sys.executable, "-c", WRITE]
    started = [subprocess.Popen([*command, str(made / name), *words], env=environment(1)) for name, words in ways]
    assert [process.wait(300) for process in started] == [0, 0, 0]
    return made / "one", made / "two"


def test_two_processes_write_the_store_that_one_writes(stores):
    one, two = ({path.name: path.read_bytes() for path in store.iterdir()} for store in stores)
    assert one == two and len(one) == 6


def test_two_processes_train_a_dictionary_over_the_devices_of_both_from_the_store(stores, tmp_path):
    """Its features over two devices and its examples over two."""
    overrides = {"dictionary.feature_shards": 2, "dictionary.products": "dense", "store": stores[1], "steps": 24}
    found = []
    for name, devices, processes in (("one", 1, 1), ("two", 2, 2)):
        freeze_lines(tmp_path / name, ["k"], config=str(ROOT / "tests/experiments/stored_config.py"), **overrides)
        run(tmp_path / name, devices, processes=processes)
        (file,) = (tmp_path / name).glob("chunks/*/metrics.jsonl")
        found.append([json.loads(line) for line in file.read_text().splitlines()])
    for alone, spread in zip(*found, strict=True):
        assert alone["step"] == spread["step"]
        np.testing.assert_allclose(spread["loss"], alone["loss"], rtol=1e-3)
