"""A file is its previous version or its new one: full disks, failures in the middle, forbidden directories."""

import errno
import json
import os
import shutil
import subprocess

import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.atomic_io import atomic, ensure_writable, write_bytes, write_json, write_npz, write_text
from interp_jax.errors import InputError


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.name != "posix" or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root; the simulated full disk is tested in any case")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_new_content_replaces_old(tmp_path):
    path = tmp_path / "made" / "on" / "the" / "way.txt"
    write_text(path, "one")
    write_text(path, "two é")
    assert path.read_bytes() == "two é".encode()
    assert names(path.parent) == ["way.txt"]


def test_an_exception_in_the_middle_leaves_the_previous_version(tmp_path):
    path = tmp_path / "a.bin"
    write_bytes(path, b"previous")
    with pytest.raises(ZeroDivisionError), atomic(path) as file:
        file.write(b"half of the new")
        file.flush()
        raise ZeroDivisionError
    assert path.read_bytes() == b"previous"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_simulated_full_disk(tmp_path, monkeypatch, number):
    path = tmp_path / "a.bin"
    write_bytes(path, b"previous")

    def full(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError) as caught:
        write_bytes(path, b"new")
    assert str(caught.value) == (
        f"disk full while writing {path}; the previous version is intact, free space and start the same command again"
    )
    assert path.read_bytes() == b"previous"
    assert names(tmp_path) == ["a.bin"]


def test_a_real_full_disk(tiny_disk):
    path = tiny_disk / "a.bin"
    write_bytes(path, b"x" * 20_000)
    with pytest.raises(InputError, match=f"disk full while writing {path}"):
        write_bytes(path, b"y" * 60_000)
    assert path.read_bytes() == b"x" * 20_000
    assert names(tiny_disk) == ["a.bin"]
    write_bytes(path, b"z" * 30_000)  # the space of the failed write is free again
    with pytest.raises(InputError, match="disk full"):
        write_npz(tiny_disk / "b.npz", {"w": np.zeros(20_000)})
    assert names(tiny_disk) == ["a.bin"]


def test_ensure_writable_makes_the_directory_and_leaves_nothing_in_it(tmp_path):
    assert ensure_writable(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    assert names(tmp_path / "a" / "b") == []


def test_a_file_in_the_way_of_the_directory_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=f"{tmp_path / 'file'} is not a directory") as caught:
            ensure_writable(directory)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_forbidden_directory_is_named(tmp_path, monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(InputError, match=f"cannot write in {tmp_path}: .*; choose another output directory"):
        write_text(tmp_path / "a.txt", "x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=f"cannot write in {tmp_path}: permission denied"):
        ensure_writable(tmp_path)


def test_json_holds_arrays_and_has_null_for_what_json_cannot_say(tmp_path):
    path = tmp_path / "a.json"
    value = {
        "a": np.float32([0.5, np.nan]),
        "b": (1, True, None, "é"),
        3: jnp.bfloat16(1.5),
        "c": float("inf"),
        "p": tmp_path,
    }
    write_json(path, value)
    expected = {"a": [0.5, None], "b": [1, True, None, "é"], "3": 1.5, "c": None, "p": str(tmp_path)}
    assert json.loads(path.read_text()) == expected


def test_npz_holds_the_arrays_bit_for_bit_and_bfloat16_exactly(tmp_path):
    arrays = {"w": np.float32([[1, -0.0, np.nan]]), "n": np.int32(4), "h": jnp.bfloat16([0.1, 3])}
    write_npz(tmp_path / "a.npz", arrays)
    write_npz(tmp_path / "again.npz", arrays)
    with np.load(tmp_path / "a.npz") as read:
        assert read["w"].tobytes() == arrays["w"].tobytes() and read["n"].dtype == np.int32
        assert read["h"].dtype == np.float32 and (read["h"].astype(jnp.bfloat16) == np.asarray(arrays["h"])).all()
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()
