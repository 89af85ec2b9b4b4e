"""A store gives back what was written, in every dtype and across shards; a killed writer goes on; what is damaged is named."""

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from interp_jax.activations.harvest import Place
from interp_jax.activations.order import Order, row_numbers
from interp_jax.activations.store_index_io import INDEX, About
from interp_jax.activations.store_io import open_store
from interp_jax.activations.store_writer_io import Writer, different, write_store
from interp_jax.errors import InputError

ROOT = Path(__file__).parents[2]
PLACES = {"read": Place("blocks.mlp.in", 1), "write": Place("blocks.mlp.out", 1)}
ABOUT = About("a model", "f00d", PLACES, {"read": 5, "write": 3}, settings={"stream_seed": 4, "excluded": (0,)})
ROWS = 8  # of a stretch


def stretch(b, dtype=np.float32):
    """Two batches of four rows: what is read is drawn, what is said is twice its first columns."""
    x = np.random.default_rng(b).normal(size=(2, 4, 5)).astype(dtype)
    return {"read": x, "write": 2 * x[..., :3]}


def every(n):
    """The rows of n stretches."""
    made = [stretch(b) for b in range(n)]
    return {name: np.concatenate([x[name].reshape(ROWS, -1) for x in made]) for name in PLACES}


def files_of(directory):
    return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


@pytest.fixture
def written(tmp_path):
    """Five stretches in shards of two."""
    write_store(tmp_path / "store", ABOUT, stretch, 5, per_shard=2)
    return tmp_path / "store"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_dtype_comes_back(tmp_path, dtype):
    store = write_store(tmp_path, dataclasses.replace(ABOUT, dtype=dtype), stretch, 5, per_shard=2)
    expected = {name: x.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype) for name, x in every(5).items()}
    got = store.take(np.arange(40)[::-1])
    for name, x in expected.items():
        assert got[name].dtype == x.dtype and store.shapes[name] == x.shape
        assert got[name][::-1].tobytes() == x.tobytes()
    public = safetensors.numpy.load_file(tmp_path / "00000001.safetensors")
    assert {name: x.tobytes() for name, x in public.items()} == {n: x[16:32].tobytes() for n, x in expected.items()}


def test_rows_of_a_shard_are_views_of_its_file(written):
    store, expected = open_store(written), every(5)
    assert [shard.rows for shard in store.shards] == [16, 16, 8] and store.n_rows == 40
    inside, across = store.rows(17, 4), store.rows(14, 20)
    for name, x in expected.items():
        np.testing.assert_array_equal(inside[name], x[17:21])
        np.testing.assert_array_equal(across[name], x[14:34])
        assert not inside[name].flags.owndata and not inside[name].flags.writeable
    with pytest.raises(InputError, match="has the rows 0 to 39, not 35 to 42"):
        store.rows(35, 8)


def test_shuffled_rows_are_those_of_the_order_and_go_together(written):
    store, expected = open_store(written), every(5)
    order = Order(tuple(shard.rows for shard in store.shards), 2, seed=1)
    numbers = row_numbers(order, 30, 25)  # over the end of an epoch
    got = store.take(numbers)
    np.testing.assert_array_equal(got["read"], expected["read"][numbers])
    np.testing.assert_array_equal(got["write"], 2 * got["read"][:, :3])
    assert set(store.take(numbers, ("write",))) == {"write"}


def test_a_description_survives(tmp_path):
    scale = {name: float(np.float32(1 / 3)) for name in PLACES}
    mean = {name: np.float32([0.1, -2e-9]).tolist() for name in PLACES}
    write_store(tmp_path, dataclasses.replace(ABOUT, scale=scale, mean=mean), stretch, 1)
    about = open_store(tmp_path).about
    assert about.places == PLACES and about.widths == ABOUT.widths and about.settings["excluded"] == [0]
    assert np.float32(about.scale["read"]) == np.float32(1 / 3)
    assert np.float32(about.mean["read"]).tobytes() == np.float32([0.1, -2e-9]).tobytes()


WRITER = """
import os, signal, sys
from interp_jax import atomic_io
from interp_jax.activations import store_writer_io
from tests.activations.test_store import ABOUT, stretch

directory, killed_at, when = sys.argv[1], int(sys.argv[2]), sys.argv[3]
writes, real = [], os.replace

def replace(old, new):
    writes.extend([new] if str(new).endswith(("safetensors", "store.json")) else [])
    mine = len(writes) > killed_at
    if mine and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    real(old, new)
    if mine:
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = replace
store_writer_io.write_store(directory, ABOUT, stretch, 5, per_shard=2)
"""


@pytest.mark.parametrize(
    ("killed_at", "when", "left"), [(3, "before", [2, 3, 4]), (3, "after", [2, 3, 4]), (4, "before", [4])]
)
def test_a_killed_writer_goes_on_and_ends_with_the_same_bytes(tmp_path, written, killed_at, when, left):
    """Killed as the second shard, or the index after it, takes its name; by then the shard has its record."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WRITER, str(tmp_path / "cut"), str(killed_at), when]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with pytest.raises(InputError, match="cut: 2 of 5 stretches are written"):
        open_store(tmp_path / "cut")
    np.testing.assert_array_equal(open_store(tmp_path / "cut", partly=True).rows(0, 16)["read"], every(2)["read"])
    assert list((tmp_path / "cut").glob(".*.tmp")) or when == "after"
    asked = []
    write_store(tmp_path / "cut", ABOUT, lambda b: asked.append(b) or stretch(b), 5, per_shard=2)
    assert asked == left
    assert files_of(tmp_path / "cut") == files_of(written)


def together(directory, n, ends=None):
    """What each of n writers at once was asked for; one ends where it is asked for a stretch, `ends` = (writer, stretch)."""
    barrier, under_way, asked = threading.Barrier(n), threading.Event(), [[] for _ in range(n)]

    def run(i):
        def watched(b):
            if (i, b) == ends:
                assert under_way.wait(30)
                barrier.abort()
                raise RuntimeError
            asked[i].append(b)
            if b == 4:
                under_way.set()
            return stretch(b)

        with contextlib.suppress(RuntimeError):  # that of a barrier, too
            write_store(directory, ABOUT, watched, 5, per_shard=2, writer=Writer(i, n, lambda where: barrier.wait(30)))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return asked


def test_two_writers_make_the_bytes_of_one_each_its_shards(tmp_path, written):
    assert together(tmp_path / "two", 2) == [[0, 1, 4], [2, 3]]
    assert files_of(tmp_path / "two") == files_of(written)


def test_what_one_writer_has_recorded_is_not_written_again_where_the_other_ended(tmp_path, written):
    assert together(tmp_path / "cut", 2, ends=(1, 3)) == [[0, 1, 4], [2]]
    with pytest.raises(InputError, match="cut: 2 of 5 stretches are written"):
        open_store(tmp_path / "cut")
    assert together(tmp_path / "cut", 2) == [[2, 3], []]
    assert files_of(tmp_path / "cut") == files_of(written)


def test_a_store_is_widened_and_never_written_twice(written):
    before = files_of(written)
    write_store(written, ABOUT, lambda b: pytest.fail("asked for again"), 3)
    assert files_of(written).keys() == before.keys() and open_store(written).n_rows == 40
    store = write_store(written, ABOUT, stretch, 7, per_shard=2)
    np.testing.assert_array_equal(store.take(np.arange(56))["read"], every(7)["read"])


def test_the_next_stretch_is_asked_for_before_the_last_is_written(tmp_path):
    """At stretch b, what is on disk is that of b - 2."""
    seen = []

    def watched(b):
        seen.append((b, len(list(tmp_path.glob("*.safetensors")))))
        return stretch(b)

    write_store(tmp_path, ABOUT, watched, 4)
    assert seen == [(0, 0), (1, 0), (2, 1), (3, 2)]


def test_another_store_is_not_overwritten(written):
    before = files_of(written)
    for changes, message in (
        ({"parameters": "beef"}, "parameters = 'f00d', not 'beef'"),
        ({"settings": {"stream_seed": 5, "excluded": (0,)}}, "settings.stream_seed = 4, not 5"),
        ({"dtype": "float16"}, "dtype = 'float32', not 'float16'"),
        ({"places": PLACES | {"write": Place("blocks.mlp.out", 0)}}, "places.write.layer = 1, not 0"),
    ):
        with pytest.raises(InputError, match=f"holds another store: {message}"):
            write_store(written, dataclasses.replace(ABOUT, **changes), stretch, 5)
    assert files_of(written) == before
    assert different({"a": [1, 2], "b": {"c": 1}}, {"a": (1, 2), "b": {"c": 1}}) == ""


# --- what is wrong is named


def test_damaged_shards_are_named(written):
    shard = written / "00000001.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-7])
    with pytest.raises(
        InputError, match=f"00000001.safetensors: truncated: {len(whole) - 7} bytes, expected {len(whole)}"
    ):
        open_store(written)
    with pytest.raises(InputError, match="00000001.safetensors: truncated"):
        write_store(written, ABOUT, stretch, 9)
    shard.unlink()
    with pytest.raises(InputError, match=f"00000001.safetensors: is missing; expected {len(whole)} bytes"):
        open_store(written)
    flipped = bytearray(whole)
    flipped[-9] ^= 1
    shard.write_bytes(flipped)
    store = open_store(written)
    store.take(np.arange(10))  # of the first shard
    with pytest.raises(InputError, match="00000001.safetensors: changed since it was written"):
        store.take(np.arange(10, 20))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_not_written(tmp_path, bad):
    def broken(b):
        found = stretch(b)
        if b == 3:
            found["write"][1, 2, 0] = bad
        return found

    message = "00000001.safetensors: row 6 of stretch 3 of blocks.mlp.out of layer 1 is not finite in float32"
    with pytest.raises(InputError, match=message):
        write_store(tmp_path, ABOUT, broken, 5, per_shard=2)
    assert open_store(tmp_path, partly=True).n_rows == 16


def test_what_a_dtype_cannot_hold_is_not_written(tmp_path):
    large = lambda b: {name: 1e6 * x for name, x in stretch(b).items()}
    with pytest.raises(InputError, match="row 0 of stretch 0 of blocks.mlp.in of layer 1 is not finite in float16"):
        write_store(tmp_path, dataclasses.replace(ABOUT, dtype="float16"), large, 1)


def test_rows_that_are_not_finite_are_not_read(written):
    """Written by another hand: the SHA-256 is that of the file."""
    shard, index = written / "00000001.safetensors", json.loads((written / INDEX).read_text())
    tensors = {name: x.copy() for name, x in safetensors.numpy.load_file(shard).items()}
    tensors["write"][3, 1] = np.inf
    shard.write_bytes(safetensors.numpy.save(tensors))
    content = shard.read_bytes()
    index["shards"][1] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (written / INDEX).write_text(json.dumps(index))
    message = "00000001.safetensors: row 3 of blocks.mlp.out of layer 1 is not finite; it is row 19 of the store"
    with pytest.raises(InputError, match=message):
        open_store(written).take(np.array([30, 19, 2]))
    open_store(written).take(np.arange(40), ("read",))


def test_other_places_are_named(written):
    store = open_store(written)
    assert store.named(PLACES["write"], 3) == "write"
    with pytest.raises(
        InputError,
        match="holds blocks.mlp.in of layer 1, blocks.mlp.out of layer 1; blocks.mlp.out of layer 0 was asked for",
    ):
        store.named(Place("blocks.mlp.out", 0), 3)
    with pytest.raises(InputError, match="holds blocks.mlp.in of layer 1, 5 wide; 4 was asked for"):
        store.named(PLACES["read"], 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is no store of activations: it has no store.json; it is empty"),
        ("{", "store.json: not JSON"),
        ('{"format": "x"}', "is no store of activations: the format of its store.json is 'x'"),
        ('{"format": "interp_jax.activations", "version": 2}', "version 2 of the format; this program reads 1"),
        ('{"format": "interp_jax.activations", "version": 1}', r"store.json is damaged \('about'\)"),
    ],
)
def test_what_is_no_store_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / INDEX).write_text(content)
    with pytest.raises(InputError, match=message):
        open_store(tmp_path)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing is no store of activations: no such directory"):
        open_store(tmp_path / "nothing")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="it has no store.json; it holds model.safetensors"):
        open_store(tmp_path)


def test_impossible_stores_are_named(tmp_path):
    with pytest.raises(InputError, match="dtype = 'bfloat61': did you mean 'bfloat16'"):
        dataclasses.replace(ABOUT, dtype="bfloat61")
    with pytest.raises(InputError, match=r"a store of \['read', 'write'\] has widths of \['read'\]"):
        dataclasses.replace(ABOUT, widths={"read": 5})
    with pytest.raises(InputError, match="0 stretches"):
        write_store(tmp_path, ABOUT, stretch, 0)
    with pytest.raises(InputError, match=r"stretch 0 has \['read'\]; the store holds \['read', 'write'\]"):
        write_store(tmp_path, ABOUT, lambda b: {"read": stretch(b)["read"]}, 1)
    with pytest.raises(InputError, match=r"stretch 0: blocks.mlp.out of layer 1 is 5 wide, not 3"):
        write_store(tmp_path, ABOUT, lambda b: {name: stretch(b)["read"] for name in PLACES}, 1)
