"""Chunks of groups that read one stream go on in step: it is made once, and each chunk is as if it were alone."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.experiments import built, loop
from interp_jax.experiments.frozen import Chunk, read_frozen
from interp_jax.experiments.in_step import alone, during, in_step
from interp_jax.experiments.plan import in_waves
from interp_jax.experiments.progress import progress
from interp_jax.experiments.worker import main as worker
from interp_jax.launch.plan import said_of_waves
from interp_jax.results.run_directory import finished_members
from tests.experiments import tally
from tests.experiments.frozen_lines import freeze_lines
from tests.experiments.line import digest_of

CONFIG = str(Path(__file__).parent / "tally_config.py")


@pytest.fixture
def told(tmp_path, monkeypatch):
    """What was loaded and read, how often."""
    log = tmp_path / "told"
    monkeypatch.setenv(tally.LOG, str(log))
    built._built.cache_clear(), built._read.cache_clear()
    return lambda: Counter(log.read_text().splitlines())


def freeze(directory, sweeps, **overrides):
    freeze_lines(directory, sweeps, CONFIG, **overrides)
    return read_frozen(directory)


def sums(directory):
    """{(width, seed): what a run added up}."""
    found = {}
    for hash, run in finished_members(directory).items():
        config = read_frozen(directory).configs[hash]
        last = max(run.directory.observations().items())[1]
        found[config["width"], config["seed"]] = float(last["sum"][run.index])
    return found


def test_a_stream_is_made_once_for_all_groups_that_read_it(tmp_path, told):
    plan = freeze(tmp_path / "one", ["widths"])
    assert [(len(chunk.members), chunk.wave) for chunk in plan.chunks] == [(2, 0)] * 3
    assert said_of_waves(plan.chunks) == " in 1 wave, each over one stream"
    worker([str(tmp_path / "one")])
    assert told() == {"reading": 1, "stretch 0": 1, "stretch 4": 1, "stretch 8": 1}
    assert sums(tmp_path / "one") == {(width, seed): 66.0 for width in (1, 2, 3) for seed in range(2)}
    assert [chunk.wave for chunk in freeze(tmp_path / "cut", ["widths"], **{"engine.chunk": 2}).chunks] == [0, 1, 2]
    worker([str(tmp_path / "cut")])
    assert told()["stretch 4"] == 4 and digest_of(tmp_path / "cut") == digest_of(tmp_path / "one")


def test_groups_of_another_stream_wait(tmp_path, told):
    plan = freeze(tmp_path / "runs", ["streams", "widths"])
    assert [chunk.wave for chunk in plan.chunks] == [0, 0, 0, 1, 1, 1]
    worker([str(tmp_path / "runs")])
    assert told()["stretch 8"] == 2 and {s.state for s in progress(plan)} == {"finished"}


def test_chunks_on_other_devices_read_the_same(tmp_path, told):
    """One run lies on one device, two of another width on two."""
    plan = freeze(tmp_path / "runs", ["uneven"])
    assert [(len(chunk.members), chunk.wave) for chunk in plan.chunks] == [(1, 0), (2, 0)]
    worker([str(tmp_path / "runs")])
    assert sums(tmp_path / "runs") == {(1, 0): 66.0, (2, 0): 66.0, (2, 1): 66.0} and told()["stretch 4"] == 2


def test_more_than_memory_has_room_for_wait():
    chunks = [Chunk(name, ("m",)) for name in "abcdef"]
    shares = [0.5, 0.5, 0.2, 1.0, 0.4, 0.4]
    waves = [c.wave for c in in_waves(list(zip(chunks, shares, "ssssss", strict=True)), 3)]
    assert waves == [3, 3, 4, 5, 6, 6], "a wave that is full is closed"
    assert [c.wave for c in in_waves([(c, 0.1, None) for c in chunks], 0)] == list(range(6)), "nothing is shared"
    assert [c.wave for c in in_waves([(c, 1 / 6, "s") for c in chunks], 0)] == [0] * 6
    assert [c.wave for c in in_waves(list(zip(chunks, [0.2] * 6, "ststst", strict=True)), 0)] == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("where", ["building", "middle"])
def test_a_chunk_that_fails_leaves_those_in_step_alone(tmp_path, told, monkeypatch, where):
    plan = freeze(tmp_path / "whole", ["widths"])
    worker([str(tmp_path / "whole")])
    of_width = tally.experiment
    failing = lambda config: config.__class__(**{**vars(config), "fails": where if config.width == 2 else ""})
    monkeypatch.setattr(tally, "experiment", lambda config, read: of_width(failing(config), read))
    built._built.cache_clear()
    (directory := tmp_path / "runs").mkdir()
    (directory / "sweep.json").write_bytes((tmp_path / "whole" / "sweep.json").read_bytes())
    with pytest.raises(InputError, match="this width cannot"):
        worker([str(directory)])
    assert [s.state for s in progress(read_frozen(directory))] == ["finished", "failed", "finished"]
    whole = digest_of(tmp_path / "whole")
    ours = {name: data for name, data in digest_of(directory).items() if not name.startswith(plan.chunks[1].id)}
    assert ours and ours == {name: data for name, data in whole.items() if not name.startswith(plan.chunks[1].id)}


@pytest.mark.parametrize("after", [1, 5, 8])
def test_an_interrupt_saves_all_that_are_in_step(tmp_path, told, monkeypatch, after):
    freeze(tmp_path / "whole", ["widths"])
    worker([str(tmp_path / "whole")])
    plan, looks = freeze(tmp_path / "cut", ["widths"]), []

    def asked():
        looks.append(0)
        return len(looks) >= after

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "asked_to_stop", asked)
        worker([str(tmp_path / "cut")])
    assert len(looks) == after
    steps = [s.step for s in progress(plan)]
    saved = [newest(tmp_path / "cut", chunk) for chunk in plan.chunks]
    assert saved == steps and max(steps) > 0 and max(steps) - min(steps) <= 2, "in step, and nothing is lost"
    worker([str(tmp_path / "cut")])
    assert digest_of(tmp_path / "cut") == digest_of(tmp_path / "whole")


def newest(directory, chunk):
    steps = (directory / "chunks" / chunk.id / "checkpoints").glob("[0-9]*")
    return max((int(path.name) for path in steps), default=0)


def test_who_is_behind_goes_first_and_what_is_spent_is_counted_by_turns():
    order, spent = [], Counter()

    def chunk(name, steps):
        for step in steps:
            yield step
            order.append((name, step))
        return name

    class Turn:
        def __enter__(self):
            spent["begun"] += 1

        def __exit__(self, *_):
            spent["ended"] += 1

    ended, error = [], lambda i, error: pytest.fail(str(error))
    in_step([during(Turn, chunk("a", (0, 4, 8))), chunk("b", (4, 6))], lambda i, name: ended.append((i, name)), error)
    assert order == [("a", 0), ("a", 4), ("b", 4), ("b", 6), ("a", 8)] and ended == [(1, "b"), (0, "a")]
    assert spent == {"begun": 4, "ended": 4}
    assert alone(chunk("c", (1,))) == "c" and np.array(order[-1]).tolist() == ["c", "1"]
    with pytest.raises(ZeroDivisionError):
        alone(1 / 0 for _ in range(1))


def test_a_chunk_that_cannot_save_stops_no_other_from_saving():
    saved = []

    def chunk(name):
        try:
            yield 0
        except KeyboardInterrupt:
            if name == "full":
                raise OSError("no space left") from None
            saved.append(name)
            raise

    def interrupted():
        yield 0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_step([interrupted(), chunk("full"), chunk("b")], lambda *_: None, lambda i, error: pytest.fail(str(error)))
    assert saved == ["b"]
