"""Models by their path: a run that was grown here is loaded as it was at its last step, and what is no model is named."""

import json
import os
import shutil

import jax
import numpy as np
import pytest
from rich.console import Console

from interp_jax.errors import InputError
from interp_jax.experiments.grow.runs import observe
from interp_jax.experiments.grow.stream import shared_arrays
from interp_jax.experiments.job import run_job
from interp_jax.experiments.subjects.grown import find_run, is_run_directory
from interp_jax.experiments.subjects.model import Model, load_params, subject_of
from interp_jax.train.run import RunState
from tests.experiments.line_config import __file__ as LINE
from third_party import huggingface
from third_party.huggingface.parity import golden

SWEPT = """
from interp_jax.experiments.config import compose

SMALL = {
    "stream": "repeats", "steps": 3, "batch_size": 2, "model.d_model": 8, "model.n_heads": 2, "model.d_head": 4,
    "model.d_vocab": 12, "model.n_context": 16, "measure.observations": 1, "measure.windows": 2, "measure.snippet": 4,
    "measure.samples": 1, "measure.sample_length": 2,
}


def get_config(arg=""):
    return compose("interp_jax.experiments.grow", **SMALL)


def sweep_seeds():
    for seed in (3, 5):
        yield {"seed": seed}
"""


def job(config, directory, sweeps=("none",), **overrides):
    values = {"output.directory": str(directory), **{key: str(value) for key, value in overrides.items()}}
    run_job(str(config), values, sweeps, False, "./launch/local …", Console(file=open(os.devnull, "w")))


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A tiny model, grown on random tokens; and two more in one chunk, by a later command that does not name the first."""
    directory = tmp_path_factory.mktemp("grown")
    (directory / "swept.py").write_text(SWEPT)
    job(directory / "swept.py", directory / "runs", seed=4)
    job(directory / "swept.py", directory / "runs", ["seeds"])
    return directory / "runs"


@pytest.mark.slow
def test_a_grown_model_is_the_one_that_was_measured_last(grown):
    for seed in (4, 5):
        model = Model(path=str(grown), run=str(seed))
        subject, params = subject_of(model), load_params(model)
        run = find_run(str(grown), str(seed))
        assert subject.cfg == run.member.part.model and subject.name == f"runs (seed {seed})"
        assert subject.tokenizer is None and "stand for no text" in subject.lacks
        state = RunState(np.int32(seed), params, (), np.int32(-1))
        seen = jax.jit(observe)(state, run.member.part, shared_arrays(run.member.part))
        kept = run.place.directory.observations()[3]
        assert float(seen["held_out_loss"]) == pytest.approx(float(kept["held_out_loss"][run.place.index]), rel=1e-6)


@pytest.mark.slow
def test_one_of_several_runs_is_chosen_by_seed_or_hash(grown):
    with pytest.raises(
        InputError, match=r"has 3 runs: give --config.model.run a seed or hash of seed 3 \(\w{6}\), seed 5"
    ):
        find_run(str(grown))
    with pytest.raises(InputError, match=r"--config.model.run = '9' is none of its runs: .* seed 5"):
        find_run(str(grown), "9")
    by_seed = find_run(str(grown), "3")
    assert find_run(str(grown), by_seed.member.hash[:8]).member.hash == by_seed.member.hash
    assert by_seed.member.part.seed == 3 and by_seed.place.index == 0


@pytest.mark.slow
def test_damaged_and_diverged_runs_are_named(grown, tmp_path):
    broken = shutil.copytree(grown, tmp_path / "broken")
    chunk = find_run(str(broken), "4").place.directory
    (file,) = (chunk.checkpoints / "3").glob("default/_METADATA")
    file.write_bytes(b"{}")
    with pytest.raises(InputError, match="last checkpoint, of step 3, cannot be read .file default/_METADATA"):
        load_params(Model(path=str(broken), run="4"))
    manifest = json.loads(chunk.manifest.read_text())
    chunk.manifest.write_text(json.dumps({**manifest, "diverged_at": [2]}))
    with pytest.raises(InputError, match=r"broken \(seed 4\) became non-finite at step 2"):
        load_params(Model(path=str(broken), run="4"))
    with pytest.raises(InputError, match=r"is a chunk of .*broken: give that directory"):
        is_run_directory(str(chunk.path))


def test_runs_of_other_things_and_unfinished_ones_are_named(tmp_path):
    job(LINE, tmp_path / "lines")
    with pytest.raises(InputError, match="holds runs of tests.experiments.line, whose models are no transformers"):
        subject_of(Model(path=str(tmp_path / "lines")))
    (manifest,) = (tmp_path / "lines").glob("chunks/*/manifest.json")
    manifest.unlink()
    with pytest.raises(InputError, match="none of its 1 runs is finished; to go on: ./launch/local"):
        subject_of(Model(path=str(tmp_path / "lines")))


def test_what_is_no_directory_of_runs_takes_no_run(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="--config.model.run = '3': .* is no directory of runs"):
        subject_of(Model(path=str(tmp_path), run="3"))


# --- revisions of what is on the hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with one model, whose weights differ by revision; what it was asked for, in order."""
    package = pytest.importorskip("huggingface_hub")
    asked = []

    def download(reference, revision=None, **_):
        asked.append((reference, revision))
        if revision == "step9":
            failure = package.errors.RevisionNotFoundError.__new__(package.errors.RevisionNotFoundError)
            raise failure  # made without the HTTP response that it wants
        directory = tmp_path / "cache" / (revision or "main")
        golden.write_checkpoint_by_seed(directory, golden.read("gpt_neox").config, {None: 0, "step3": 3}[revision])
        return str(directory)

    monkeypatch.setattr(package, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    return asked


def test_a_revision_is_asked_of_the_hub(hub, tmp_path):
    model = Model(path="org/name", revision="step3")
    subject, params = subject_of(model), load_params(model)
    assert hub == [("org/name", "step3")] * 2
    assert subject.name == "org/name at step3" and subject.title == "name at step3"
    expected = huggingface.load(tmp_path / "cache" / "step3")[0]
    assert jax.tree.all(jax.tree.map(np.array_equal, params, expected))
    main = load_params(Model(path="org/name"))
    assert hub[2:] == [("org/name", None)] and subject_of(Model(path="org/name")).title == "name"
    assert not np.array_equal(params["embed"]["W_E"], main["embed"]["W_E"])


def test_a_revision_of_what_has_none_is_named(hub, tmp_path):
    golden.write_checkpoint_by_seed(tmp_path / "org" / "here", golden.read("gpt2").config)
    for act in (subject_of, load_params):
        with pytest.raises(InputError) as error:
            act(Model(path="org/here", revision="step3"))
        assert str(error.value) == (
            "--config.model.path with --config.model.revision: "
            "org/here is a local directory or file, which has no revision 'step3'"
        )
        with pytest.raises(InputError, match="org/name: this hub model has no revision 'step9'"):
            act(Model(path="org/name", revision="step9"))
    (tmp_path / "sweep.json").write_text("{}")
    for act in (subject_of, load_params):
        with pytest.raises(InputError, match="model.revision = 'step3': .* is a directory of runs, which has no rev"):
            act(Model(path=str(tmp_path), revision="step3"))
    with pytest.raises(
        InputError, match=r"model.revision = 'step3': needs the id of a model on the hub as model.path"
    ):
        Model(revision="step3").check()
