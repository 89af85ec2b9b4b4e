"""Checkpoints: exact, verified, kept in order, and whole whatever happens to the process that writes them."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from interp_jax.errors import InputError
from interp_jax.results import checkpoints
from interp_jax.results.checkpoints import BadCheckpoint, CheckpointStore
from interp_jax.train.population import run_mesh

ROOT = Path(__file__).parent.parent.parent


@flax.struct.dataclass
class State:
    seed: jax.Array
    params: dict
    opt_state: tuple


def state(seed=0, members=4):
    """A population's state with every dtype that may occur, and numbers that only bits tell apart."""
    rng = np.random.default_rng(seed)
    params = {
        "W": jnp.asarray(rng.normal(size=(members, 5, 3)), jnp.float32),
        "b": jnp.asarray(rng.normal(size=(members, 5)), jnp.bfloat16),
        "zero": -jnp.zeros((members, 7)),
        "nan": jnp.asarray(np.full((members, 2), 0x7FC01234, np.uint32).view(np.float32)),
        "empty": jnp.zeros((members, 0)),
        "mask": jnp.asarray(rng.integers(0, 2, (members, 6)), bool),
        "codes": jnp.asarray(rng.integers(0, 255, (members, 3)), jnp.uint8),
    }
    floats = {name: params[name] for name in ("W", "b")}
    init = optax.chain(optax.clip(1.0), optax.adamw(1e-3)).init
    numbers = jnp.arange(members, dtype=jnp.int32)
    return jax.vmap(lambda n, p, f: State(n, p, init(f)))(numbers, params, floats)


def assert_same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints", "hash-a")


def test_restore_is_exact_and_newest(store):
    assert store.restore(state()) is None and store.steps() == []
    store.save(10, state(1))
    store.save(20, state(2))
    restored = store.restore(jax.eval_shape(state))
    assert restored.step == 20
    assert_same_bits(restored.tree, state(2))
    assert_same_bits(store.load(10, state()), state(1))


def test_like_decides_between_numpy_and_jax_and_where(store):
    store.save(1, {"a": jnp.arange(4), "b": jnp.arange(4)})
    tree = store.load(1, {"a": np.zeros(4, np.int32), "b": jnp.zeros(4, jnp.int32)})
    assert type(tree["a"]) is np.ndarray and isinstance(tree["b"], jax.Array) and not tree["b"].committed


@pytest.mark.parametrize(("saved_on", "restored_on"), [(1, 2), (2, 1), (4, 1), (1, 4), (4, 4), (2, 4)])
def test_members_move_between_device_counts(store, saved_on, restored_on):
    if jax.device_count() < max(saved_on, restored_on):
        pytest.skip("needs 4 devices: XLA_FLAGS=--xla_force_host_platform_device_count=4")

    def laid_out(tree, n):
        return jax.device_put(tree, NamedSharding(run_mesh(jax.devices()[:n]), PartitionSpec("run")))

    store.save(1, laid_out(state(1), saved_on))
    like = laid_out(state(), restored_on)
    restored = store.restore(like).tree
    assert_same_bits(restored, state(1))
    assert [x.sharding for x in jax.tree.leaves(restored)] == [x.sharding for x in jax.tree.leaves(like)]


def test_the_last_and_the_kept_stay(store):
    for step in range(6):
        store.save(step, {"a": jnp.int32(step)}, keep=step in (0, 2))
    assert store.steps() == [0, 2, 4, 5]
    CheckpointStore(store.directory, "hash-a", keep_last=1).save(6, {"a": jnp.int32(6)})
    assert store.steps() == [0, 2, 6]
    assert sorted(os.listdir(store.directory)) == ["0", "2", "6"]


def test_saving_a_step_again_replaces_it(store):
    store.save(3, {"a": jnp.int32(1)})
    store.save(3, {"a": jnp.int32(2)})
    assert store.load(3, {"a": jnp.int32(0)})["a"] == 2


def files_of(store, step):
    return sorted(path for path in (store.directory / str(step)).rglob("*") if path.is_file())


def test_any_flipped_bit_in_any_file_is_found(store):
    store.save(1, state())
    assert store.check(1) is None
    draw = random.Random(0)
    for path in files_of(store, 1):
        good = path.read_bytes()
        for _ in range(4):
            place = draw.randrange(len(good))
            path.write_bytes(good[:place] + bytes([good[place] ^ 1 << draw.randrange(8)]) + good[place + 1 :])
            assert path.name in store.check(1)
        path.write_bytes(good)
    assert store.check(1) is None


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "missing": lambda path: path.unlink(),
    "a flipped bit": lambda path: path.write_bytes(path.read_bytes()[:-20] + b"\xff" + path.read_bytes()[-19:]),
    "not text": lambda path: path.write_bytes(b"\xff\xfe{"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("which", ["data", "sidecar"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(store, caplog, damage, which):
    store.save(1, state(1))
    store.save(2, state(2))
    largest = max(files_of(store, 2), key=lambda path: path.stat().st_size * (path.name != checkpoints.SIDECAR))
    path = largest if which == "data" else store.directory / "2" / checkpoints.SIDECAR
    DAMAGE[damage](path)
    with pytest.raises(BadCheckpoint, match=path.name):
        store.load(2, state()) if path.exists() or which == "data" else store._read(2)
    first_look = store.newest() if which == "data" else store.restore(state()).step
    assert first_look == 1 and store.newest() == 1
    restored = store.restore(state())
    assert restored.step == 1
    assert_same_bits(restored.tree, state(1))
    (record,) = [r for r in caplog.records if r.levelname == "WARNING"]
    assert "checkpoint 2 " in record.getMessage() and path.name in record.getMessage()
    assert "\n" not in record.getMessage()
    assert store.steps() == [1] and (store.directory / "2.bad").is_dir()
    store.save(2, state(2))
    assert_same_bits(store.restore(state()).tree, state(2))
    assert sorted(os.listdir(store.directory)) == ["1", "2"]


def test_a_leaf_that_orbax_wrote_wrongly_is_named(store, monkeypatch):
    """What only the leaves' own hashes can see: files that are as they were written, around a wrong number."""
    read = checkpoints.ocp.CheckpointManager.restore
    store.save(1, state())

    def wrong(*args, **kwargs):
        leaves = read(*args, **kwargs)
        leaves["params.W"] = leaves["params.W"] + np.float32(1e-7)
        return leaves

    monkeypatch.setattr(checkpoints.ocp.CheckpointManager, "restore", wrong)
    assert "leaf params.W" in store.check(1)


def test_all_bad_is_none(store):
    store.save(1, state())
    (store.directory / "1" / checkpoints.SIDECAR).unlink()
    assert store.steps() == [] and store.restore(state()) is None


def test_a_damaged_older_checkpoint_does_not_stop_a_save(store):
    for step in (1, 2):
        store.save(step, state())
        (store.directory / str(step) / checkpoints.SIDECAR).write_text("{")
    store.save(3, state(3))
    assert store.restore(state()).step == 3


def test_another_config_is_refused_with_both_hashes(store):
    store.save(1, state())
    other = CheckpointStore(store.directory, "hash-b")
    for use in (other.restore, lambda like: other.load(1, like)):
        with pytest.raises(InputError, match=r"hash-a.*hash-b.*choose another directory") as caught:
            use(state())
        assert str(store.directory) in str(caught.value) and "\n" not in str(caught.value)
    assert store.check(1) is None


def test_another_tree_is_refused_by_leaf(store):
    store.save(1, {"a": jnp.zeros(3), "b": jnp.zeros(3)})
    for like, reason in [
        ({"a": jnp.zeros(3)}, "leaf b is not in this program's state"),
        ({"a": jnp.zeros(3), "b": jnp.zeros(3), "c": jnp.zeros(3)}, "leaf c is not in it"),
        ({"a": jnp.zeros(4), "b": jnp.zeros(3)}, r"leaf a is float32\[3\], not float32\[4\]"),
        ({"a": jnp.zeros(3, jnp.int32), "b": jnp.zeros(3)}, r"leaf a is float32\[3\], not int32\[3\]"),
    ]:
        with pytest.raises(InputError, match=reason):
            store.restore(like)


@pytest.mark.parametrize("fails", ["write_json", "file_digests", "sync_directory"])
def test_a_save_that_fails_at_any_point_leaves_a_usable_store(store, monkeypatch, fails):
    store.save(1, state(1))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, fails, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.save(2, state(2))
    restored = store.restore(state())
    assert_same_bits(restored.tree, state(restored.step))
    assert restored.step == (2 if fails == "sync_directory" else 1)
    assert not (store.directory / checkpoints.WRITING).exists()


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        store = CheckpointStore(disk / "checkpoints", "hash")
        noise = np.random.default_rng(0).integers(0, 2**32, 300_000, np.uint32)
        store.save(1, {"a": noise})
        with pytest.raises(
            InputError, match=r"disk full while writing .*/checkpoints/2; the previous version"
        ) as caught:
            store.save(2, {"a": noise})
        assert "\n" not in str(caught.value)
        restored = store.restore({"a": noise})
        assert restored.step == 1 and (restored.tree["a"] == noise).all()
        store.save(2, {"a": noise[:1000]})
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_sixty_four_members_save_fast(store):
    tree = {f"w{i}": jnp.ones((64, 20, 5)) for i in range(10)}
    store.save(0, tree)
    seconds = []
    for step in range(1, 4):
        start = time.perf_counter()
        store.save(step, tree)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.0  # about 0.06 on two idle cores; 64 single saves would take 4


WRITER = """
import sys, numpy as np
from interp_jax.results.checkpoints import CheckpointStore
store = CheckpointStore(sys.argv[1], "hash")
restored = store.restore({"a": np.zeros(200_000, np.int32)})
step = restored.step if restored else 0
assert restored is None or (restored.tree["a"] == step).all()
print("from", step, flush=True)
while True:
    step += 1
    store.save(step, {"a": np.full(200_000, step, np.int32)}, keep=step % 10 == 0)
    print("saved", step, flush=True)
"""


@pytest.mark.slow
def test_kill_minus_nine_at_random_moments(tmp_path):
    draw = random.Random(0)
    saved = 0
    for _ in range(8):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-c", WRITER, str(tmp_path / "checkpoints")]
        writer = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        first = writer.stdout.readline().split()
        assert first[:1] == ["from"], writer.communicate()[1]
        assert int(first[1]) in (saved, saved + 1)  # killed after the rename, before it could say so
        time.sleep(draw.uniform(0.05, 0.6))
        os.kill(writer.pid, signal.SIGKILL)
        output, errors = writer.communicate()
        assert errors == ""
        lines = [line.split() for line in output.splitlines(keepends=True) if line.endswith("\n")]
        saved = int(lines[-1][1]) if lines else int(first[1])
    store = CheckpointStore(tmp_path / "checkpoints", "hash")
    assert all(store.check(step) is None for step in store.steps())
    assert saved > 8 and [step for step in store.steps() if step % 10 == 0] == list(range(10, saved + 1, 10))


def test_the_sidecar_is_readable_json(store):
    store.save(1, state())
    content = json.loads((store.directory / "1" / checkpoints.SIDECAR).read_text())["content"]
    assert content["config_hash"] == "hash-a" and content["keep"] is False
    assert content["leaves"]["params.b"]["shape"] == [4, 5] and content["leaves"]["params.b"]["dtype"] == "bfloat16"


def test_a_branch_is_read_without_the_rest(store):
    store.save(5, state(3))
    assert_same_bits(store.load_branch(5, "params", state(3).params), state(3).params)
    with pytest.raises(InputError, match="leaf W is not in it"):
        store.load_branch(5, "par", {"W": state(3).params["W"]})
