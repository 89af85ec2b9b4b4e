"""Dictionaries trained from a store are those that harvest, bit for bit, also if they are killed; other stores are refused."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest

from interp_jax.activations.store_io import open_store
from interp_jax.dictionaries.config import Dictionary
from interp_jax.errors import InputError
from interp_jax.experiments import store as stores
from interp_jax.experiments.config import CONFIGS, load_file
from interp_jax.experiments.engine import reader
from interp_jax.experiments.layout import ALL, layout_of
from interp_jax.experiments.loop import digest
from interp_jax.experiments.store.page import report
from interp_jax.parts import stack
from interp_jax.results.checkpoints import SIDECAR, CheckpointStore
from interp_jax.results.report import render
from tests.experiments import stored
from tests.experiments.groups import group_of
from tests.experiments.line import digest_of

ROOT = Path(__file__).parents[2]
CONFIG = str(Path(__file__).parent / "stored_config.py")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Of the steps that the runs take: five stretches in shards of two."""
    directory = tmp_path_factory.mktemp("stores") / "activations"
    stored.write(directory)
    return directory


def all_that_is_read(config):
    """Every stretch of a run, on the device."""
    with reader(stored.experiment(config), jax.devices()[:1]) as read:
        return [jax.device_get(read(first)) for first in range(0, config.steps, config.stream_steps)]


@pytest.fixture(scope="module")
def harvested():
    return all_that_is_read(stored.Config())


def test_what_is_read_is_what_is_harvested_bit_for_bit(store, harvested):
    got = all_that_is_read(stored.Config(store=str(store)))
    assert len(got) == 5 and stored.arrays(got) == stored.arrays(harvested)
    assert [shard.stretches for shard in open_store(store).shards] == [2, 2, 1]


def test_several_places_are_written_at_once_and_a_transcoder_reads_two(tmp_path):
    stored.write(tmp_path, sites=("blocks.mlp.in", "blocks.mlp.out"), layers=(0, -1))
    held = open_store(tmp_path).about
    assert list(held.places) == [f"blocks.mlp.{end}.{layer}" for end in ("in", "out") for layer in (0, 1)]
    own = Dictionary(kind="topk", d_in=16, d_out=16, n_features=32, most=8, k=4)
    config = stored.Config(sites=("blocks.mlp.in",), writes="blocks.mlp.out", layers=(0,), dictionary=own, steps=16)
    harvests, reads = (all_that_is_read(dataclasses.replace(config, store=path)) for path in ("", str(tmp_path)))
    for a, b in zip(harvests, reads, strict=True):
        np.testing.assert_array_equal(a.first, b.first)
        np.testing.assert_allclose(a.read, b.read, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(a.write, b.write, rtol=1e-5, atol=1e-6)


def test_members_of_two_layers_read_the_store_as_they_harvest(tmp_path):
    stored.write(tmp_path, layers=(0, -1))
    config = stored.Config(layers=(-1, 0), steps=16)  # in another order than the store's
    harvests, reads = (all_that_is_read(dataclasses.replace(config, store=path)) for path in ("", str(tmp_path)))
    for a, b in zip(harvests, reads, strict=True):
        assert a.read.shape == (2, 8, 32, 16) and np.abs(a.read[0] - a.read[1]).max() > 0.1
        np.testing.assert_allclose(a.read, b.read, rtol=1e-5, atol=1e-6)


def test_shuffled_anew_every_row_comes_once_in_an_epoch_and_then_in_another_order(store, harvested):
    """The store has 1,280 rows, which 40 steps of 32 read once."""
    config = stored.Config(store=str(store), reshuffle=2, steps=80)
    rows = np.concatenate([x.read.reshape(-1, 16) for x in all_that_is_read(config)])
    written = np.concatenate([x.read.reshape(-1, 16) for x in harvested])
    by_bytes = lambda rows: sorted(row.tobytes() for row in rows)
    first, second = rows[:1280], rows[1280:]
    assert by_bytes(first) == by_bytes(second) == by_bytes(written)
    assert (first != second).any() and (first != written).any()
    with reader(stored.experiment(config), jax.devices()[:1]) as read:
        np.testing.assert_array_equal(read(24).read.reshape(-1, 16), rows[24 * 32 : 32 * 32])


def test_rows_are_rounded_as_the_store_says(tmp_path, harvested):
    stored.write(tmp_path, dtype="bfloat16")
    got = all_that_is_read(stored.Config(store=str(tmp_path)))
    made = stored.experiment(stored.Config())
    scale = np.asarray(made.shared.normal["read"].back)
    for a, b in zip(got, harvested, strict=True):
        assert a.read.dtype == np.float32
        rounded = (b.read * scale).astype(ml_dtypes.bfloat16).astype(np.float32) / scale
        np.testing.assert_allclose(a.read, rounded, rtol=2**-7)
        assert (a.read != b.read).any()


def test_nothing_is_computed_anew_or_waited_for_at_a_step(store, compilations):
    """One program makes every stretch, whose rows are asked for once, whatever the number of spans within."""
    made, loads = stored.experiment(stored.Config(store=str(store), reshuffle=2)), []
    counted = made._replace(load=lambda first: loads.append(first) or made.load(first))
    with reader(counted, jax.devices()[:1]) as read:
        read(0)
        with compilations() as names:
            for step in range(40):
                read(step)
    assert not names
    assert loads == [0, 8, 16, 24, 32]


# --- whole jobs


STOPPED = """
import os
import sys

from interp_jax.experiments.exit import exit_cleanly
from interp_jax.experiments.main import main
from interp_jax.results.metrics import MetricLog

number, lines = int(sys.argv.pop(1)), int(sys.argv.pop(1))
append = MetricLog.append

def append_and_stop(self, step, metrics):
    append(self, step, metrics)
    if step == lines:
        os.kill(os.getpid(), number)

MetricLog.append = append_and_stop
exit_cleanly(main)
"""


def run(directory, *words, stopped=None, sweep="k", devices=1):
    """A job, which a signal (number, step) stops as the metrics of a step are written."""
    begin = ["-c", STOPPED, *map(str, stopped)] if stopped else ["-m", "interp_jax.experiments.main"]
    options = [f"--config.output.directory={directory}", "--config.engine.batch=1", *words]
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}
    command = [sys.executable, *begin, "--config", CONFIG, "--sweep", sweep, *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def checkpoints(directory):
    (chunk,) = Path(directory).glob("chunks/*/checkpoints")
    return CheckpointStore(chunk, chunk.parent.name)


def results(directory):
    """All bytes that must be repeated: metrics, observations, and the SHA-256 of every leaf of the last checkpoint."""
    sidecar = checkpoints(directory).directory / "40" / SIDECAR
    leaves = json.loads(sidecar.read_text())["content"]["leaves"]
    assert len(leaves) > 5 and checkpoints(directory).check(40) is None
    return [*digest_of(directory).values(), leaves]


SHARDED = ("--config.dictionary.feature_shards=2", "--config.dictionary.products=dense")


@pytest.mark.slow
def test_dictionaries_over_four_devices_go_on_bit_for_bit_and_are_those_of_one_device(tmp_path):
    for directory, words, devices in (("one", SHARDED[1:], 1), ("four", SHARDED, 4)):
        done = run(tmp_path / directory, *words, devices=devices)
        assert done.returncode == 0, done.stderr
    one, four = (json.loads((tmp_path / name / "dictionaries.json").read_text()) for name in ("one", "four"))
    for alone, spread in zip(one, four, strict=True):
        assert spread["explained"] == pytest.approx(alone["explained"], abs=1e-3), spread
    cut = tmp_path / "cut"
    killed = run(cut, *SHARDED, "--config.engine.checkpoint_seconds=0", stopped=(signal.SIGKILL, 10), devices=4)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert 0 < max(checkpoints(cut).steps()) < 40
    assert run(cut, *SHARDED, devices=4).returncode == 0
    assert results(cut) == results(tmp_path / "four")
    for words, message in (
        (("--config.dictionary.feature_shards=3", SHARDED[1]), "3 does not divide n_features = 32"),
        (SHARDED[:1], "dictionary.products = 'auto'"),
    ):
        refused = run(tmp_path / "refused", *words, devices=4)
        assert refused.returncode == 2 and message in refused.stderr, refused.stderr


@pytest.mark.slow
def test_a_dictionary_over_four_devices_goes_on_on_one(tmp_path):
    whole, moved = tmp_path / "whole", tmp_path / "moved"
    assert run(whole, *SHARDED, devices=4).returncode == 0
    stopped = run(moved, *SHARDED, stopped=(signal.SIGINT, 16), devices=4)
    assert stopped.returncode == 130 and 16 <= max(checkpoints(moved).steps()) < 40, stopped.stderr
    done = run(moved, *SHARDED, devices=1)
    assert done.returncode == 0, done.stderr
    four, one = (json.loads((path / "dictionaries.json").read_text()) for path in (whole, moved))
    for stayed, went in zip(four, one, strict=True):
        assert went["explained"] == pytest.approx(stayed["explained"], abs=1e-3), went


@pytest.fixture
def sharded():
    """A group whose members lie over the four devices of the tests."""
    own = dataclasses.replace(stored.Config().dictionary, feature_shards=2, products="dense")
    config = stored.Config(dictionary=own)
    return config, stored.experiment(config)


def test_each_device_has_its_part_of_a_dictionary(sharded):
    config, made = sharded
    layout = layout_of(made, stack([config, dataclasses.replace(config, seed=1)]))
    hypers = layout.hypers(stack([config, dataclasses.replace(config, seed=1)]))
    begin = lambda hypers, _: (made.run.init(hypers.seed, hypers), hypers)
    states, _ = layout.lift(begin, 1, ALL)(hypers, ())
    for name, shape in (("W_enc", (2, 16, 16)), ("W_dec", (2, 16, 16)), ("b_dec", (2, 16))):
        assert {part.data.shape for part in states.params[name].addressable_shards} == {shape}
    assert {part.data.shape for part in states.memory.silent.addressable_shards} == {(2, 16)}
    assert len(layout.devices) == 4
    with pytest.raises(InputError, match="windows that go through the model are on one device"):
        dataclasses.replace(config, objective="end_to_end").check()


@pytest.mark.slow
def test_a_job_on_a_store_ends_as_one_that_harvests_also_if_it_is_killed_and_interrupted(tmp_path, store):
    words = [f"--config.store={store}"]
    for directory, more in (("harvests", []), ("reads", words)):
        done = run(tmp_path / directory, *more)
        assert done.returncode == 0, done.stderr
    assert results(tmp_path / "reads") == results(tmp_path / "harvests")
    killed = run(tmp_path / "cut", *words, "--config.engine.checkpoint_seconds=0", stopped=(signal.SIGKILL, 10))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert max(checkpoints(tmp_path / "cut").steps()) == 9
    interrupted = run(tmp_path / "cut", *words, stopped=(signal.SIGINT, 25))
    assert interrupted.returncode == 130 and "goes on from the last checkpoint" in interrupted.stderr
    assert max(checkpoints(tmp_path / "cut").steps()) == 26, "an interrupt saves the span that it fell into"
    assert run(tmp_path / "cut", *words).returncode == 0
    assert results(tmp_path / "cut") == results(tmp_path / "reads")


@pytest.mark.slow
@pytest.mark.parametrize("sweep", ["revived", "controlled"])
def test_what_is_kept_besides_parameters_is_kept_when_a_job_is_killed(tmp_path, store, sweep):
    """Counters of dead features, thresholds, the control's factor: the same bytes, whether rows are harvested or read."""
    whole = run(tmp_path / "whole", sweep=sweep)
    assert whole.returncode == 0, whole.stderr
    (file,) = (tmp_path / "whole").glob("chunks/*/metrics.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    moved = {"revived": ("dead", 0.0), "controlled": ("l0", 4.0)}[sweep]
    assert max(np.max(line[moved[0]]) for line in lines) > moved[1], "dead features, or fewer than were active"
    for feed, words in (("harvests", []), ("reads", [f"--config.store={store}"])):
        stops = [*words, "--config.engine.checkpoint_seconds=0"]
        killed = run(tmp_path / feed, *stops, stopped=(signal.SIGKILL, 10), sweep=sweep)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert max(checkpoints(tmp_path / feed).steps()) == 9
        assert run(tmp_path / feed, *words, sweep=sweep).returncode == 0
        assert results(tmp_path / feed) == results(tmp_path / "whole"), feed


# --- what is wrong is named


def refused(config, message):
    with pytest.raises(InputError, match=message):
        stored.experiment(config)


def test_stores_of_something_else_are_refused(store, tmp_path):
    config = stored.Config(store=str(store))
    refused(
        dataclasses.replace(config, layers=(0,)),
        "activations holds blocks.resid_post of layer 1; blocks.resid_post of layer 0 was asked for",
    )
    refused(
        dataclasses.replace(config, harvest=dataclasses.replace(config.harvest, skip_first=3)),
        "activations was harvested otherwise: harvest.skip_first = 1, not 3",
    )
    refused(dataclasses.replace(config, stream_seed=7), "harvested otherwise: stream_seed = 0, not 7")
    stored.experiment(dataclasses.replace(config, stream_seed=7, reshuffle=1))
    refused(dataclasses.replace(config, store=str(tmp_path)), "is no store of activations")
    stored.write(tmp_path / "other", seed=5)
    refused(
        dataclasses.replace(config, store=str(tmp_path / "other")),
        "other holds activations of a model, parameters .{12}; those of another model, parameters .{12}, were asked for",
    )
    with pytest.raises(InputError, match="reshuffle = 2: must be at least 0, and 0 without a store"):
        stored.Config(reshuffle=2).check()


def test_a_store_that_changes_under_a_run_is_told_from_the_one_before(store, tmp_path):
    """What all members read has what tells the store apart, so that a resumed run refuses another."""
    stored.write(tmp_path, rows=64 * 32)
    shared = [stored.experiment(stored.Config(store=str(path))).shared for path in (store, tmp_path)]
    assert digest(shared[0]) != digest(shared[1])
    assert digest(shared[0]._replace(store=())) == digest(shared[1]._replace(store=()))


def test_a_shard_that_is_damaged_is_named_while_training(tmp_path):
    stored.write(tmp_path)
    file = tmp_path / "00000002.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 64
    file.write_bytes(content)
    with reader(stored.experiment(stored.Config(store=str(tmp_path))), jax.devices()[:1]) as read:
        read(0)
        with pytest.raises(InputError, match="00000002.safetensors: changed since it was written"):
            read(32)


# --- the experiment that writes


FILE = load_file(CONFIGS / "store.py")


@pytest.mark.parametrize("arg", ["", "tiny"])
def test_what_it_harvests_is_what_dictionaries_read(arg):
    """Every setting that both have has the same value, so that a store by default is one that dictionaries take."""
    of = load_file(CONFIGS / "dictionaries.py").get_config(arg)
    own = FILE.get_config(arg)
    for name in ("batch_size", "stream_steps", "stream_seed", "harvest"):
        assert own[name] == of[name], name
    assert own.rows >= of.batch_size * of.steps and own.sites == of.sites and own.layers == of.layers


def test_it_writes_once_and_the_report_says_what(tmp_path):
    seen = stored.write(tmp_path / "a")
    config = dataclasses.replace(stored.STORE, store=str(tmp_path / "a"))
    group = group_of(config, [seen])
    page = report([group])
    assert page.data["stores.json"][0]["rows"] == seen["rows"] == 1280
    text = render(page.title, page.summary, page.blocks)
    assert "1,280 rows in float32, 3 shards" in text and "blocks.resid_post of layer 1" in text
    stored.write(tmp_path / "a")
    assert open_store(tmp_path / "a").identity == seen["identity"].tobytes()
    (tmp_path / "a" / "00000000.safetensors").unlink()
    with pytest.raises(InputError, match="00000000.safetensors: is missing.*--rerun writes it again"):
        report([group])


def test_impossible_values_of_it_are_named():
    for message, changes in {
        "give the directory to write": {"store": ""},
        "steps = 2: nothing is trained": {"steps": 2},
        "rows, shard_rows": {"rows": 0},
        "dtype = 'float64': did you mean 'float": {"dtype": "float64"},
        "sites = ": {"sites": ()},
        "layers = ": {"layers": ("1",)},
    }.items():
        with pytest.raises(InputError, match=message):
            dataclasses.replace(stored.STORE, **{"store": "x", **changes}).check()
    for message, changes in {
        "layer = 2: a model has 2 layers": {"layers": (2,)},
        "'blocks.resid_pots': not a site of vectors.*did you mean 'blocks.resid_post'": {
            "sites": ("blocks.resid_pots",)
        },
    }.items():
        with pytest.raises(InputError, match=message):
            stored.write("x", **changes)
    with pytest.raises(InputError, match="give the directory of a finished configs/grow.py"):
        stores.experiment(dataclasses.replace(stored.STORE, store="x"))
