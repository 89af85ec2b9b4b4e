"""Checkpoints in safetensors: bit for bit there and back, little memory on the way, and one line for whatever is wrong."""

import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding
from safetensors.numpy import load_file

from interp_jax.errors import InputError
from third_party import safetensors_io, safetensors_writer_io
from third_party.hub_io import read_config, resolve
from third_party.placement import stack_to_device, to_device
from third_party.safetensors_io import INDEX, SINGLE, open_checkpoint
from third_party.safetensors_writer_io import write_checkpoint

ROOT = Path(__file__).parent.parent.parent
GPT2 = {"wte.weight": (20, 4), "h.0.ln_1.bias": (4,), "h.0.mlp.c_fc.weight": (4, 16)}


def weights(seed=0):
    """Every dtype that NumPy and the format share, filled with arbitrary bits; a scalar, an empty array, a long one."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for code, dtype in safetensors_io.DTYPES.items():
        bits = rng.integers(0, 2 if code == "BOOL" else 256, 6 * np.dtype(dtype).itemsize, np.uint8)
        tensors[f"bits.{code}"] = bits.view(dtype).reshape(2, 3)
    tensors |= {"scalar": np.float32(-0.0), "empty": np.zeros((0, 5), np.float16), "row": np.arange(1000)}
    return {name: np.asarray(value) for name, value in tensors.items()}


def assert_same_bits(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def small(directory, **options):
    tensors = {name: np.arange(np.prod(shape), dtype=np.float32).reshape(shape) for name, shape in GPT2.items()}
    write_checkpoint(directory, tensors, {"model_type": "gpt2"}, **options)
    return tensors


def raw(header, data=b""):
    """The bytes of a file, by the published description of the format."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(content).to_bytes(8, "little") + content + data


def refusal(action, *arguments):
    with pytest.raises(InputError) as caught:
        action(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("max_shard_bytes", [5e9, 200])
def test_there_and_back_is_exact(tmp_path, max_shard_bytes):
    tensors = weights()
    write_checkpoint(tmp_path, tensors, {"d": 1}, max_shard_bytes=max_shard_bytes)
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.names() == sorted(tensors) and checkpoint.metadata == {"format": "pt"}
        for name, tensor in tensors.items():
            assert checkpoint.shape(name) == tensor.shape and checkpoint.dtype(name) == tensor.dtype
            assert_same_bits(checkpoint.expect(name, tensor.shape), tensor)
    assert_same_bits(checkpoint.read("row"), tensors["row"])
    assert read_config(tmp_path) == {"d": 1}


def test_files_are_as_the_format_says(tmp_path):
    """Known bytes: read from a file made by hand, and written so that a reader by hand finds them."""
    header = {
        "__metadata__": {"by": "hand"},
        "odd": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "w": {"dtype": "BF16", "shape": [2], "data_offsets": [1, 5]},
        "x": {"dtype": "F32", "shape": [1], "data_offsets": [5, 9]},
    }
    file = tmp_path / "by_hand.safetensors"
    file.write_bytes(raw(header, b"\x07" + b"\x80\x3f\x00\xc0" + b"\x00\x00\x20\x41"))
    checkpoint = open_checkpoint(file)
    assert checkpoint.metadata == {"by": "hand"} and checkpoint.file("w") == file
    assert checkpoint.read("odd").tolist() == [7] and checkpoint.read("x").tolist() == [10.0]
    assert checkpoint.read("w").dtype == ml_dtypes.bfloat16 and checkpoint.read("w").tolist() == [1.0, -2.0]
    assert to_device(checkpoint.read("x")).tolist() == [10.0]  # not even aligned to its own dtype

    write_checkpoint(tmp_path, {"x": np.float32([10.0])}, metadata={"format": "pt", "step": "3"})
    written = (tmp_path / SINGLE).read_bytes()
    length = int.from_bytes(written[:8], "little")
    assert json.loads(written[8 : 8 + length]) == {
        "__metadata__": {"format": "pt", "step": "3"},
        "x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
    }
    assert written[8 + length :] == b"\x00\x00\x20\x41"


def test_shards_and_index_are_as_the_hub_has_them(tmp_path):
    tensors = {f"w{n}": np.full(25, n, np.float32) for n in range(5)}
    write_checkpoint(tmp_path, tensors.items(), max_shard_bytes=200)
    shards = [f"model-{n:05d}-of-00003.safetensors" for n in (1, 2, 3)]
    assert sorted(os.listdir(tmp_path)) == [*shards, INDEX]
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"] == {"total_size": 500}
    assert index["weight_map"] == dict(zip(tensors, np.array(shards)[[0, 0, 1, 1, 2]].tolist(), strict=True))
    assert list(load_file(tmp_path / shards[1])) == ["w2", "w3"]
    assert open_checkpoint(tmp_path / INDEX).file("w4") == tmp_path / shards[2]
    assert open_checkpoint(tmp_path / shards[0]).names() == ["w0", "w1"]


def test_a_tensor_larger_than_a_shard_has_one_to_itself(tmp_path):
    write_checkpoint(
        tmp_path, {name: np.zeros(n, np.uint8) for name, n in [("a", 9), ("b", 50), ("c", 9)]}, None, {}, 20
    )
    assert len(list(tmp_path.glob("model-*"))) == 3


def test_strides_byte_order_and_jax_arrays_are_written_as_they_read(tmp_path):
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_checkpoint(
        tmp_path, {"t": base.T, "step": base[:, ::2], "big": base.astype(">f4"), "jax": jnp.bfloat16(base)}
    )
    checkpoint = open_checkpoint(tmp_path)
    for name, expected in [("t", base.T), ("step", base[:, ::2]), ("big", base), ("jax", base.astype("bfloat16"))]:
        assert_same_bits(checkpoint.read(name), expected)


def test_writing_draws_no_more_than_a_shard(tmp_path):
    alive = []

    def stream():
        for n in range(6):
            alive.append(n - len(list(tmp_path.glob(".writing.*/[0-9]"))) * 2)
            yield f"w{n}", np.zeros(100, np.uint8)

    write_checkpoint(tmp_path, stream(), max_shard_bytes=200)
    assert max(alive) == 2 and len(list(tmp_path.glob("model-*"))) == 3


def test_views_cost_no_copy_and_outlive_the_checkpoint(tmp_path):
    tensors = small(tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        view = checkpoint.read("wte.weight")
        assert np.shares_memory(view, checkpoint.read("wte.weight")) and not view.flags.writeable
    shutil.rmtree(tmp_path)
    del checkpoint
    assert_same_bits(view, tensors["wte.weight"])


def test_nothing_stays_open(tmp_path):
    write_checkpoint(tmp_path, {f"w{n}": np.zeros(8) for n in range(20)}, max_shard_bytes=64)
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else pytest.skip("needs /proc")
    for _ in range(2):
        with open_checkpoint(tmp_path) as checkpoint:
            assert sum(checkpoint.read(name).sum() for name in checkpoint.names()) == 0
    open_checkpoint(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_another_checkpoint_takes_the_place_of_the_previous(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    for max_shard_bytes in (5e9, 64, 100, 5e9, 5e9):
        tensors = small(tmp_path, max_shard_bytes=max_shard_bytes)
        checkpoint = open_checkpoint(tmp_path)
        for name, tensor in tensors.items():
            assert_same_bits(checkpoint.read(name), tensor)
        listed = {path.name for path in {checkpoint.file(name) for name in tensors}}
        index = {INDEX} if max_shard_bytes < 5e9 else set()
        assert set(os.listdir(tmp_path)) == listed | index | {"config.json", "tokenizer.json"}


def test_files_are_as_readable_as_others(tmp_path):
    small(tmp_path)
    other = tmp_path / "other"
    other.touch()
    assert stat.S_IMODE((tmp_path / SINGLE).stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


@pytest.mark.parametrize("fails", ["save_file", "_name_shards", "write_json", "_publish"])
def test_a_write_that_fails_leaves_the_previous_one(tmp_path, monkeypatch, fails):
    tensors = small(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(safetensors_writer_io, fails, lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_checkpoint(tmp_path, {name: tensor + 1 for name, tensor in tensors.items()}, {}, max_shard_bytes=64)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        tensors = small(disk)
        message = refusal(write_checkpoint, disk, {"wte.weight": np.ones(10**6)})
        assert f"disk full while writing {disk / SINGLE}; the previous version is intact" in message
        assert_same_bits(open_checkpoint(disk).read("wte.weight"), tensors["wte.weight"])
        assert sorted(os.listdir(disk)) == ["config.json", SINGLE]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_what_cannot_be_written_is_refused(tmp_path):
    assert "tensor 'z' is complex128, which safetensors cannot hold" in refusal(
        write_checkpoint, tmp_path / "a", {"z": np.zeros(2, complex)}
    )
    twice = [("w", np.zeros(2)), ("w", np.ones(2))]
    assert "tensor 'w' is given twice" in refusal(write_checkpoint, tmp_path / "a", twice)
    assert "'__metadata__' has a reserved name" in refusal(write_checkpoint, tmp_path, {"__metadata__": np.zeros(2)})
    assert "no tensor to write" in refusal(write_checkpoint, tmp_path / "a", {})
    (tmp_path / "file").touch()
    assert "file is not a directory" in refusal(write_checkpoint, tmp_path / "file" / "x", {"w": np.zeros(2)})
    assert os.listdir(tmp_path / "a") == []


def test_an_unknown_tensor_and_another_shape_are_named(tmp_path):
    small(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    for use in (checkpoint.read, checkpoint.shape, checkpoint.dtype, checkpoint.file):
        assert f"{tmp_path}: no tensor 'wte.wieght'; did you mean 'wte.weight'?" == refusal(use, "wte.wieght")
    expected = f"{tmp_path / SINGLE}: tensor 'wte.weight' has shape [20, 4], expected [21, 4]"
    assert refusal(checkpoint.expect, "wte.weight", (21, 4)) == expected
    many = {f"{n:030d}": np.zeros(1) for n in range(100)}
    write_checkpoint(tmp_path, many)
    assert "(100 in all)" in refusal(open_checkpoint(tmp_path).read, "wte.weight")


def test_a_dtype_without_whole_bytes_is_named(tmp_path):
    file = tmp_path / "f4.safetensors"
    file.write_bytes(raw({"w": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}, b"\x12"))
    assert f"{file}: tensor 'w' is F4; readable: BOOL, F16, F32" in refusal(open_checkpoint(file).read, "w")


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
DAMAGE = {
    "truncated data": (lambda good: good[:-20], r"truncated: \d+ bytes, expected \d+"),
    "truncated header": (lambda good: good[:100], "truncated: 100 bytes, which end inside the header"),
    "truncated length": (lambda good: good[:5], "truncated: 5 bytes, which end inside the header"),
    "nothing": (lambda _: b"", "truncated: 0 bytes"),
    "too long": (lambda good: good + b"\0" * 3, r"corrupt: \d+ bytes, expected \d+"),
    "not UTF-8": (lambda good: good[:20] + b"\xff\xfe" + good[22:], "corrupt header"),
    "not JSON": (lambda _: raw(b"[" * 40, b"\0" * 8), "corrupt header"),
    "not an object": (lambda _: raw([1, 2], b"\0" * 8), "corrupt header"),
    "unknown dtype": (lambda _: raw({"w": ENTRY | {"dtype": "F33"}}, b"\0" * 8), "corrupt header .*F33"),
    "wrong shape": (lambda _: raw({"w": ENTRY | {"shape": [3]}}, b"\0" * 8), "corrupt header .*shape"),
    "overlap": (lambda _: raw({"v": ENTRY, "w": ENTRY}, b"\0" * 8), "corrupt header"),
    "nested too deeply": (lambda _: raw(b'{"w":' + b"[" * 50_000, b"\0" * 8), "corrupt header"),
    "length of nonsense": (lambda good: b"\xff" * 8 + good[8:], "not safetensors, or a corrupt header"),
    "another format": (lambda _: b"GGUF" + b"\0" * 90, "not safetensors, or a corrupt header"),
    "text": (lambda _: b"<!doctype html>" * 9, "not safetensors, or a corrupt header"),
    "pickle": (lambda _: pickle.dumps({"wte.weight": np.zeros(9)}), "pickle, not safetensors: convert it with https"),
    "git-lfs": (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a git-lfs pointer"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_with_its_damage(tmp_path, damage):
    small(tmp_path)
    change, words = DAMAGE[damage]
    file = tmp_path / SINGLE
    file.write_bytes(change(file.read_bytes()))
    for path in (tmp_path, file):
        with pytest.raises(InputError, match=rf"{SINGLE}: {words}") as caught:
            open_checkpoint(path)
        assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)


def test_a_file_that_begins_like_a_pickle_is_read(tmp_path):
    """The first bytes are the header's length, and 0x0280 bytes of header look like pickle's protocol 2."""
    file = tmp_path / "model.safetensors"
    header = json.dumps({"w": ENTRY}).encode().ljust(0x0280)
    file.write_bytes(raw(header, np.float32([1, 2]).tobytes()))
    assert file.read_bytes().startswith(b"\x80\x02") and open_checkpoint(file).read("w").tolist() == [1.0, 2.0]
    file.write_bytes(file.read_bytes()[:-1])
    assert "truncated: 655 bytes, expected 656" in refusal(open_checkpoint, file)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "encoder.pth", "model.safetensors"])
def test_a_pickle_is_never_opened(tmp_path, name):
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    (tmp_path / "optimizer.pt").touch()  # beside the weights, and not the one to name
    for path in (tmp_path, tmp_path / name):
        message = refusal(open_checkpoint, path)
        assert message.startswith(f"{tmp_path / name}: pickle, not safetensors: convert it with ")


def test_what_is_not_there_is_named(tmp_path):
    assert f"{tmp_path}: neither {SINGLE} nor {INDEX} in this directory; it is empty" == refusal(
        open_checkpoint, tmp_path
    )
    (tmp_path / "sae.safetensors").touch()
    assert "it holds sae.safetensors; name a file" in refusal(open_checkpoint, tmp_path)
    message = refusal(open_checkpoint, tmp_path / "sea.safetensors")
    assert message == f"{tmp_path}/sea.safetensors: no such file or directory; did you mean 'sae.safetensors'?"


def test_index_and_shards_that_contradict_each_other(tmp_path):
    write_checkpoint(tmp_path, {f"w{n}": np.zeros(8) for n in range(3)}, max_shard_bytes=64)
    first, second, _ = (f"model-{n:05d}-of-00003.safetensors" for n in (1, 2, 3))
    good = json.loads((tmp_path / INDEX).read_text())
    index = tmp_path / INDEX

    def listing(**changed):
        index.write_text(json.dumps(good | {"weight_map": good["weight_map"] | changed}))
        return refusal(open_checkpoint, tmp_path)

    expected = f"tensor 'w0' should be in {second}, which lacks it; it is in {first}"
    assert listing(w0=second, w9=first) == f"{index}: {expected}"
    assert listing(w1x=first) == f"{index}: tensor 'w1x' should be in {first}, which lacks it; did you mean 'w1'?"
    assert (
        listing(w0="gone.safetensors")
        == f"{index}: it lists the shard gone.safetensors, which is missing from {tmp_path}"
    )
    for outside in ("../w.safetensors", "", 3):
        assert "tensor 'w0' should be in a file beside the index" in listing(w0=outside)
    for name, reason in (
        ("..", "it is a directory"),
        ("x" * 5000, "file name too long"),
        ("a\0b", "embedded null byte"),
    ):
        assert listing(w0=name).endswith(f", {reason}")
    assert listing(w0="a\nb") == rf"{index}: it lists the shard 'a\nb', which is missing from {tmp_path}"
    index.write_text(json.dumps(good))
    shutil.copy(tmp_path / first, tmp_path / second)
    assert refusal(open_checkpoint, tmp_path) == f"{index}: tensor 'w0' is in both {first} and {second}"
    (tmp_path / second).write_bytes(b"\0" * 4)
    assert f"{tmp_path / second}: truncated" in refusal(open_checkpoint, tmp_path)
    (tmp_path / second).unlink()
    assert f"it lists the shard {second}, which is missing" in refusal(open_checkpoint, tmp_path)
    index.write_text("{")
    assert f"{index}: not JSON: " in refusal(open_checkpoint, tmp_path)
    index.write_text("{}")
    assert f"{index}: expected an object weight_map" in refusal(open_checkpoint, tmp_path)


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    """Of what the hub's cache holds, files are links, and what they lead to may have been cleared away."""
    small(tmp_path)
    for name, open_it in (("config.json", read_config), (SINGLE, open_checkpoint)):
        file = tmp_path / name
        file.unlink()
        file.symlink_to("../blobs/0")
        assert refusal(open_it, tmp_path) == f"cannot read {file}: a symbolic link to ../blobs/0, which is missing"
        file.unlink()
        file.mkdir()
        assert refusal(open_it, tmp_path) == f"cannot read {file}: it is a directory"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for open_it in (open_checkpoint, resolve):
        assert refusal(open_it, tmp_path / "loop") == f"{tmp_path / 'loop'}: too many levels of symbolic links"
        assert refusal(open_it, "x" * 5000).endswith("…: file name too long")
        assert refusal(open_it, "~nobody-of-this-name/x") == "~nobody-of-this-name/x: there is no such home directory"
        assert refusal(open_it, "") == "the path is empty"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_that_may_not_be_read_says_so(tmp_path):
    small(tmp_path)
    (tmp_path / SINGLE).chmod(0)
    assert refusal(open_checkpoint, tmp_path) == f"cannot read {tmp_path / SINGLE}: permission denied"
    tmp_path.chmod(0)
    try:
        assert refusal(open_checkpoint, tmp_path) == f"cannot read {tmp_path / SINGLE}: permission denied"
        assert refusal(read_config, tmp_path) == f"cannot read {tmp_path / 'config.json'}: permission denied"
        assert refusal(resolve, tmp_path / "model") == f"{tmp_path / 'model'}: permission denied"
    finally:
        tmp_path.chmod(0o700)


def test_a_file_that_changed_since_it_was_opened_is_named(tmp_path):
    small(tmp_path)
    first, second, file = open_checkpoint(tmp_path), open_checkpoint(tmp_path), tmp_path / SINGLE
    file.write_bytes(file.read_bytes()[:300])
    assert f"{file}: tensor 'wte.weight' of shape [20, 4] cannot be read: " in refusal(first.read, "wte.weight")
    file.unlink()
    assert f"cannot read {file}: no such file" in refusal(second.read, "wte.weight")


@pytest.mark.parametrize("shape", [[1] * 80, [0, 2**62]])
def test_a_shape_that_numpy_does_not_have_is_named(tmp_path, shape):
    file = tmp_path / SINGLE
    size = 0 if 0 in shape else 4
    file.write_bytes(raw({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}, b"\0" * size))
    assert f"{file}: tensor 'w' of shape [{shape[0]}, " in refusal(open_checkpoint(tmp_path).read, "w")


def test_home_is_home_when_writing_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    small("~/model")
    assert open_checkpoint("~/model").names() == sorted(GPT2) and os.listdir(tmp_path) == ["model"]


def test_config(tmp_path):
    small(tmp_path)
    assert read_config(tmp_path) == read_config(tmp_path / SINGLE) == {"model_type": "gpt2"}
    for content, words in [
        ("{'a': 1}", "not JSON: "),
        ("[1]", "expected a JSON object, got list"),
        ("\xff", "not JSON"),
    ]:
        (tmp_path / "config.json").write_text(content, encoding="latin-1")
        assert f"{tmp_path / 'config.json'}: {words}" in refusal(read_config, tmp_path)
    (tmp_path / "config.json").unlink()
    assert f"{tmp_path}: no config.json" in refusal(read_config, tmp_path)


def mesh():
    if jax.device_count() < 4:
        pytest.skip("needs 4 devices: XLA_FLAGS=--xla_force_host_platform_device_count=4")
    return jax.sharding.Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("a", "b"))


@pytest.mark.parametrize("spec", [None, (), ("a",), (None, "b"), ("a", "b"), (("a", "b"),)])
@pytest.mark.parametrize("dtype", [None, jnp.float32, jnp.bfloat16])
def test_placed_slices_are_the_tensor(tmp_path, monkeypatch, spec, dtype):
    monkeypatch.setattr("third_party.placement.BLOCK", 64)  # so that the blocks are many
    tensors = {f"w{n}": np.random.default_rng(n).normal(size=(8, 12)).astype(np.float16) for n in range(4)}
    write_checkpoint(tmp_path, tensors)
    sharding = spec if spec is None else NamedSharding(mesh(), PartitionSpec(*spec))
    views = [open_checkpoint(tmp_path).read(name) for name in tensors]
    arrays = list(tensors.values())
    for view, array in [(views[0], arrays[0]), (views[1].T, arrays[1].T), (views[2].reshape(4, 8, 3)[:, ::2], None)]:
        array = arrays[2].reshape(4, 8, 3)[:, ::2] if array is None else array
        placed = to_device(view, dtype, sharding)
        assert_same_bits(placed, array.astype(dtype or array.dtype))
        assert sharding is None or placed.sharding == sharding
    assert_same_bits(stack_to_device(views, dtype, sharding), np.stack(arrays).astype(dtype or np.float16))


def test_scalars_empty_arrays_and_plain_arrays_are_placed():
    for array in (np.float32(3), np.zeros((0, 4), np.float32), np.arange(6).reshape(2, 3), np.array([True, False])):
        array = np.asarray(array)
        placed = to_device(array, None, SingleDeviceSharding(jax.devices()[-1]))
        assert placed.shape == array.shape and (np.asarray(placed) == array).all()
        assert stack_to_device([array, array]).shape == (2, *array.shape)
    assert "cannot stack 2 tensors of shapes [[2], [3]]" in refusal(stack_to_device, [np.zeros(2), np.zeros(3)])


def test_a_placed_array_does_not_depend_on_its_file(tmp_path):
    small(tmp_path)
    placed = to_device(open_checkpoint(tmp_path).read("wte.weight"))
    before = np.array(placed)
    with open(tmp_path / SINGLE, "r+b") as file:
        file.write(b"\xff" * (tmp_path / SINGLE).stat().st_size)
    assert_same_bits(placed, before)


READER = """
import sys
import jax, jax.numpy as jnp
from third_party.placement import stack_to_device, to_device
from third_party.safetensors_io import open_checkpoint

def kilobytes(field):
    (line,) = (line for line in open("/proc/self/status") if line.startswith(field))
    return int(line.split()[1])

how, directory, dtype = sys.argv[1:]
to_device(jnp.zeros((3, 3)).__array__(), dtype)
open("/proc/self/clear_refs", "w").write("5")  # the peak starts again from here
before = kilobytes("VmRSS")
checkpoint = open_checkpoint(directory)
names = checkpoint.names()
layers = [name for name in names if name.startswith("layers")]
if how == "stacked":
    held = [stack_to_device([checkpoint.read(name).T for name in layers], dtype)]
    held.append(to_device(checkpoint.read("embed").T, dtype))  # the largest at the worst moment: last
else:
    held = [jnp.asarray(checkpoint.read(name), dtype) for name in names]
print((kilobytes("VmHWM") - before) * 1024 / sum(array.nbytes for array in held))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """200 MB in two shards, a quarter of them in one tensor."""
    directory = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    noise = rng.random((12_500, 1000), np.float32)
    tensors = {"embed": noise} | {f"layers.{n}": np.roll(noise[:3125], n) for n in range(12)}
    write_checkpoint(directory, tensors.items(), max_shard_bytes=1.2e8)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "dtype"), [("stacked", "float32"), ("stacked", "bfloat16"), ("naive", "bfloat16")])
def test_reading_holds_little_more_than_the_weights(large, how, dtype):
    """The peak of everything resident (VmHWM), from just before the checkpoint is opened, over the bytes of the weights.

    Nothing is left out that counts: neither the file's mapped pages, which the kernel could take back at any time, nor
    JAX's own buffers. `getrusage` would not do: on Linux its peak outlives `exec`, so it begins with that of pytest. The
    naive way shows that the measure sees what it should: mapped pages and copies besides the weights (measured: 3.3).
    """
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("needs Linux's /proc")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", READER, how, str(large), dtype]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ratio = float(done.stdout)
    assert ratio <= 1.2 if how == "stacked" else ratio > 1.5


def test_a_local_path_is_taken_as_it_is(tmp_path, monkeypatch):
    small(tmp_path / "org" / "name")
    assert resolve(tmp_path / "org" / "name") == tmp_path / "org" / "name"
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name") == Path("org/name")
    assert "has no revision 'step3000'" in refusal(resolve, "org/name", "step3000")


@pytest.mark.parametrize("reference", ["./runs/gpt2-smal", "gpt2-smal", "runs/2024/gpt2", "/runs/gpt2", "a b/c"])
def test_a_mistyped_path_is_no_hub_id(tmp_path, monkeypatch, reference):
    (tmp_path / "runs" / "gpt2-small").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    message = refusal(resolve, reference)
    assert f"{reference}: no such directory, and no hub id (org/name)" in message
    assert ("; in runs: did you mean 'gpt2-small'?" in message) == reference.startswith("./")


def test_the_hubs_package_may_be_missing(tmp_path, monkeypatch):
    (tmp_path / "runs" / "gpt2-small").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert refusal(resolve, "runs/gpt2-smal") == (
        "runs/gpt2-smal: no such directory; to fetch it from the hub: pip install huggingface_hub; "
        "in runs: did you mean 'gpt2-small'?"
    )


def test_the_hub_is_asked_for_weights_config_and_tokenizer(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    asked = {}

    def download(reference, **options):
        asked.update(options, reference=reference)
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", download)
    no_weights = refusal(resolve, "EleutherAI/pythia-70m", "step3000")
    assert "this hub model has no *.safetensors file at revision 'step3000'" in no_weights
    small(tmp_path)
    assert resolve("EleutherAI/pythia-70m", "step3000") == tmp_path
    assert asked["reference"] == "EleutherAI/pythia-70m" and asked["revision"] == "step3000"
    files = [SINGLE, INDEX, "config.json", "tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model"]
    others = ["pytorch_model.bin", "consolidated.safetensors", "onnx/config.json", "README.md", "flax_model.msgpack"]
    kept = hub.utils.filter_repo_objects(
        files + others, allow_patterns=asked["allow_patterns"], ignore_patterns=asked["ignore_patterns"]
    )
    assert sorted(kept) == sorted(files)


def test_without_a_network_the_cache_is_all_there_is(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert refusal(resolve, "org/nothing-of-the-kind") == (
        "org/nothing-of-the-kind: no such directory; the hub cannot be reached, nor is it in the hub's cache"
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            "GatedRepoError",
            "gated; accept its terms on https://huggingface.co/org/name and log in with: hf auth login",
        ),
        ("RevisionNotFoundError", "this hub model has no revision 'step3'"),
        ("RepositoryNotFoundError", "no such directory, and no such model on the hub"),
        ("HFValidationError", "no such directory, and no such model on the hub"),
        ("LocalEntryNotFoundError", "no such directory; the hub cannot be reached"),
        ("CorruptedCacheException", "fetching it from the hub failed: CorruptedCacheException: one line"),
    ],
)
def test_every_refusal_of_the_hub_is_one_line(monkeypatch, error, words):
    hub = pytest.importorskip("huggingface_hub")
    kind = getattr(hub.errors, error)

    def download(*_, **__):
        failure = kind.__new__(kind)  # most of them want an HTTP response, whose type depends on the hub's client
        failure.args = ("one line\nand another",)
        raise failure

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert f"org/name: {'this hub model is ' if error == 'GatedRepoError' else ''}{words}" in refusal(
        resolve, "org/name", "step3"
    )
