"""Pages of a dictionary's features: found in a run on disk, measured as NumPy measures them, shown, and refused by name."""

import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from scipy.stats import mannwhitneyu

from interp_jax import taps
from interp_jax.data.probing.source_labels import Tokenised, label_tokens
from interp_jax.dictionaries import dictionary
from interp_jax.errors import InputError
from interp_jax.experiments import features
from interp_jax.experiments.collect import collect
from interp_jax.experiments.config import CONFIGS, load_file
from interp_jax.experiments.dictionaries import runs as trained_runs
from interp_jax.experiments.dictionaries import subject as places
from interp_jax.experiments.dictionaries.kept import load_group
from interp_jax.experiments.dictionaries.subject import Shared
from interp_jax.experiments.features import source
from interp_jax.experiments.features.concepts import names, with_moved
from interp_jax.experiments.features.config import Config, Shown, Source
from interp_jax.experiments.features.source import Text, find, load
from interp_jax.experiments.job import run_job
from interp_jax.experiments.plan import FILE as FILE_OF_PLAN
from interp_jax.experiments.plan import thaw
from interp_jax.experiments.sweep import expand
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig
from interp_jax.results.feature_page import received, unpacked
from interp_jax.results.run_directory import finished_members
from tests.experiments.line_config import __file__ as LINE
from third_party import neuronpedia

CFG = TransformerConfig(n_layers=2, d_model=32, n_heads=4, d_head=8, d_mlp=48, d_vocab=40, n_context=12)
PARAMS = jax.tree.map(lambda x: 2 * x, transformer.init(jax.random.key(0), CFG))
HELD_OUT = np.random.default_rng(1).integers(0, 40, 230)
NAMES = [f"<{i}>" for i in range(40)]
FILE = load_file(CONFIGS / "features.py")


def job(config, directory, sweeps=("none",), **overrides):
    values = {"output.directory": str(directory), **{key.replace("__", "."): str(x) for key, x in overrides.items()}}
    return run_job(str(config), values, sweeps, False, "./launch/local …", Console(file=open(os.devnull, "w")))


def subject(config):
    """A model of random weights and a text of random tokens in place of a grown run."""
    places.check_place(config, CFG, "a model")
    text = jax.random.randint(jax.random.key(1), (3_000,), 0, 40)
    held_out = jnp.asarray(HELD_OUT[:52].reshape(4, 13), jnp.int32)
    return (CFG,), places.prepared(config, (CFG,), Shared((PARAMS,), text, held_out, {}, jnp.zeros(())))


SWEPT = """
from interp_jax.experiments.config import compose

SMALL = {
    "layers": (1, 0), "place": 1, "harvest.largest": 1.1,
    "steps": 2, "batch_size": 64, "stream_steps": 2, "harvest.windows": 4, "measure.windows": 4,
    "measure.at_once": 2, "dictionary.d_in": 32, "dictionary.n_features": 64, "dictionary.k": 4, "engine.batch": 1,
}


def get_config(arg=""):
    return compose("interp_jax.experiments.dictionaries", **SMALL)


def sweep_k():
    for k in (4, 8):
        yield {"dictionary.k": k}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two dictionaries, trained for a moment on layer 0, so that clamping has a way to go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained_runs, "subject", subject)
        patch.setattr(source, "text_of", lambda model: Text(HELD_OUT, NAMES, "random tokens"))
        directory = tmp_path_factory.mktemp("dictionaries")
        (directory / "swept.py").write_text(SWEPT)
        job(directory / "swept.py", directory / "runs", ["k"])
        yield directory / "runs"


def ask(trained, member="topk k=4 width=64", **changes):
    tiny = {key: value for key, value in FILE.TINY.items() if key.startswith("shown.")}
    shown = Shown(**{key.removeprefix("shown."): value for key, value in tiny.items()})
    return Config(dictionary=Source(path=str(trained), member=member), shown=shown, **changes)


@pytest.fixture(scope="module")
def report(trained, tmp_path_factory):
    """The report's directory, with the files for Neuronpedia."""
    where = {"dictionary__path": trained, "dictionary__member": "topk k=4 width=64", "neuronpedia": True}
    return job(CONFIGS / "features.py:tiny", tmp_path_factory.mktemp("features"), **where).parent


@pytest.fixture(scope="module")
def seen(report):
    """What was observed of the one dictionary."""
    (place,) = finished_members(report).values()
    return {name: value[0] for name, value in place.directory.observations()[1].items()}


@pytest.fixture(scope="module")
def own(trained):
    """Windows, which tokens count, features and scale of that dictionary, one operation after the other."""
    found = find(Source(path=str(trained), member="topk k=4 width=64"))
    windows = HELD_OUT[np.linspace(0, 230 - 12, 16).astype(int)[:, None] + np.arange(12)]
    params, scale = load(found), scales(trained)
    counts = counting_in_blocks(windows, 4)
    assert 0.6 < counts.mean() < 0.8
    return windows, counts, encode(found, params, scale, windows) * counts[..., None], params, scale, found


def scales(trained):
    """By what activations are divided."""
    return {name: 1 / by.forward[0] for name, by in features.experiment(ask(trained)).shared.subject.normal.items()}


def stream(windows, layer=0):
    """After a layer, [W P D]; dictionaries read it after layer 0."""
    site = "blocks.resid_post"
    return taps.record(lambda t: transformer.apply(PARAMS, t, CFG), {site: (layer,)})(windows)[1][site][0]


def counting(windows):
    """Which tokens of windows that are looked at together count: not the first, ends of text, or what is 1.1 medians long.

    Long is what is long at the first of the places that were harvested, after layer 1.
    """
    counts = (np.arange(windows.shape[1]) >= 1) & (windows != 0)
    lengths = np.linalg.norm(np.asarray(stream(windows, 1), np.float64), axis=-1)
    return counts & (lengths <= 1.1 * np.median(lengths[counts]))


def counting_in_blocks(windows, at_once):
    """The same of so many windows at once."""
    return np.concatenate([counting(windows[b : b + at_once]) for b in range(0, len(windows), at_once)])


def encode(found, params, scale, windows):
    x = stream(windows).reshape(-1, 32) / scale["read"]
    return np.asarray(dictionary.encode(params, x, found.trained.dictionary)).reshape(*windows.shape, -1)


def test_density_and_examples_are_those_of_all_activations(seen, own):
    windows, counts, f, *_ = own
    assert seen["n"] == counts.sum()
    np.testing.assert_array_equal(seen["fired"], (f != 0).sum((0, 1)))
    assert seen["histogram"].sum() == (f != 0).sum()
    best = np.sort(np.abs(f).max(1), axis=0)[::-1][:3].T
    np.testing.assert_allclose(np.abs(seen["strongest.value"]), best, rtol=1e-4)
    for i, e in zip(*np.nonzero(seen["strongest.window"] >= 0), strict=True):
        w, p = seen["strongest.window"][i, e], seen["strongest.position"][i, e]
        assert f[w, p, i] == pytest.approx(seen["strongest.value"][i, e], rel=1e-4)
        at = p - 4 + np.arange(8)
        tokens = np.where((at >= 0) & (at < 12), windows[w, np.clip(at, 0, 11)], -1)
        np.testing.assert_array_equal(seen["strongest.tokens"][i, e], tokens)
        expected = np.where(tokens >= 0, f[w, np.clip(at, 0, 11), i], 0)
        np.testing.assert_allclose(seen["strongest.around"][i, e], expected, atol=1e-4)
    together = ((f != 0)[..., None] & (f[..., seen["neighbours.feature"]] != 0)).sum((0, 1))
    np.testing.assert_array_equal(seen["neighbours.together"], together)


def test_a_clamped_feature_does_what_a_model_with_its_row_added_does(seen, own):
    *_, params, scale, found = own
    tokens = HELD_OUT[np.linspace(0, 230 - 8, 2).astype(int)[:, None] + np.arange(8)]
    counts = counting(tokens)
    f = encode(found, params, scale, tokens)
    i = int(seen["fired"].argmax())
    row = np.asarray(params["W_dec"])[i] * float(scale["write"])
    change = np.where(counts, seen["strongest.value"][i, 0] - f[..., i], 0)[..., None] * row
    model = lambda t: transformer.apply(PARAMS, t, CFG)
    put = lambda x, at: jnp.where(at == 0, x + change, x)
    before, after = (
        np.asarray(x, np.float64) for x in (model(tokens), taps.edit_with(model, {"blocks.resid_post": put})(tokens))
    )
    before, after = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (before, after))
    kl = (np.exp(before) * (before - after)).sum(-1)[counts].mean()
    moved = (np.exp(after) - np.exp(before))[counts].mean(0)
    at = list(seen["clamped.feature"]).index(i)
    assert seen["clamped.kl"][at] == pytest.approx(kl, rel=1e-3) and kl > 1e-4
    assert seen["clamped.rise_ids"][at, 0] == moved.argmax() and seen["clamped.fall_ids"][at, 0] == moved.argmin()
    assert seen["clamped.rise"][at, 0] == pytest.approx(moved.max(), rel=1e-3)
    assert sorted(seen["clamped.feature"]) == list(range(64))


def test_the_page_has_the_features_and_what_they_are_called(report, seen):
    (index,) = report.glob("features/*/index.js")
    told = received(index.read_text())
    density = seen["fired"] / seen["n"]
    np.testing.assert_allclose(unpacked(told["columns"]["density"]), density, rtol=1e-6)
    np.testing.assert_array_equal(unpacked(told["flags"]["dead"]), seen["fired"] == 0)
    np.testing.assert_array_equal(unpacked(told["flags"]["dense"]), density > 0.1)
    rarer = np.minimum(seen["fired"][:, None], seen["fired"][seen["neighbours.feature"]])
    split = ((seen["neighbours.cosine"] >= 0.7) & (seen["neighbours.together"] >= 0.1 * np.maximum(rarer, 1))).any(1)
    np.testing.assert_array_equal(unpacked(told["flags"]["split"]), split & (seen["fired"] > 0))
    kl = unpacked(told["columns"]["clamped KL"])
    np.testing.assert_array_equal(np.isnan(kl), seen["fired"] == 0)
    fired = np.isin(seen["clamped.feature"], np.flatnonzero(seen["fired"]))
    np.testing.assert_allclose(kl[seen["clamped.feature"][fired]], seen["clamped.kl"][fired], rtol=1e-6)
    assert next(iter(told["lists"])) == "makes likely" and set(told["names"]) <= set(NAMES)
    page = (report / "report.html").read_text()
    assert f'data-name="{index.parent.name}"' in page and "topk k=4 width=64 layer=0 seed=0" in page
    assert "NaN" not in page.partition("<script")[0]
    assert "It reads <code>blocks.resid_post</code>, layer 0, of" in page


def test_without_labels_no_feature_is_probed_and_the_page_says_so(report, seen):
    (index,) = report.glob("features/*/index.js")
    told = received(index.read_text())
    assert not any(name.startswith("concepts.") for name in seen) and "concepts" not in told
    assert "probe score" not in told["columns"]
    assert "no document of Python, which alone has labels" in (report / "report.html").read_text()


CODE = "def f(a, b):\n    return [a, (b, 'c')]  # d\nx = f(1, f(2, 3))\n"


@pytest.mark.slow
def test_features_are_probed_for_what_python_says_of_source_code(trained, tmp_path, monkeypatch):
    ids = [ord(c) % 40 for c in CODE]
    document = Tokenised("f.py", CODE, ids, [(i, i + 1) for i in range(len(CODE))])
    tokens = np.array([*ids, 0] * 4)
    monkeypatch.setattr(source, "text_of", lambda model: Text(tokens, NAMES, "code", [document] * 4))
    where = {
        "dictionary__path": trained,
        "dictionary__member": "topk k=4 width=64",
        "text__windows": 60,
        "text__at_once": 5,
    }
    place = job(CONFIGS / "features.py:tiny", tmp_path, concepts__least=5, **where).parent
    (chunk,) = finished_members(place).values()
    seen = {name: value[0] for name, value in chunk.directory.observations()[1].items()}
    found = find(Source(path=str(trained), member="topk k=4 width=64"))
    scale = scales(trained)
    n = len(tokens) // 12 // 5 * 5
    at = np.linspace(0, len(tokens) - 12, n).astype(int)[:, None] + np.arange(12)
    f, counts = encode(found, load(found), scale, tokens[at]), counting_in_blocks(tokens[at], 5)
    depth = np.tile(np.append(label_tokens(document).labels["bracket depth"], -1), 4)[at]
    concept = names().index("bracket depth 2+")
    there, without = (depth == 2) & counts, np.isin(depth, (0, 1)) & counts
    assert (seen["concepts.n"][concept], seen["concepts.without"][concept]) == (there.sum(), without.sum())
    for i in range(64):
        expected = mannwhitneyu(f[there, i], f[without, i]).statistic / (there.sum() * without.sum())
        assert seen["concepts.auroc"][concept, i] == pytest.approx(expected, abs=0.03)
    told = received(next(place.glob("features/*/index.js")).read_text())
    best = unpacked(told["columns"]["probe score"])
    enough = np.minimum(seen["concepts.n"], seen["concepts.without"]) >= 5
    np.testing.assert_allclose(best, np.where(seen["fired"] > 0, seen["concepts.auroc"][enough].max(0), np.nan))
    assert told["concepts"]["names"][unpacked(told["concepts"]["ids"])[best == np.nanmax(best)][0]] in names()
    np.testing.assert_array_equal(np.isnan(unpacked(told["columns"]["moved labels"])), seen["fired"] == 0)
    assert "concepts of source code" in (place / "report.html").read_text()


def test_moved_labels_are_the_same_ones_at_other_places():
    labels = jnp.arange(24).reshape(1, 2, 3, 4)
    own, moved = with_moved(jnp.int32(3), labels)
    by = int(moved[0, 0, 0, 0]) % 24
    np.testing.assert_array_equal(own, labels)
    np.testing.assert_array_equal(moved.ravel(), np.roll(np.arange(24), -by))
    assert 4 <= 24 - by <= 20
    assert with_moved(jnp.int32(3), labels[:0]).shape == (2, 0, 2, 3, 4)


def test_the_files_for_neuronpedia_have_its_layout(report, seen):
    (file,) = report.glob("neuronpedia/batch-*.json")
    batch = json.loads(file.read_text())
    neuronpedia.check(batch)
    assert [feature["feature_index"] for feature in batch["features"]] == np.flatnonzero(seen["fired"]).tolist()
    assert batch["layer"] == 0 and batch["features"][0]["dataset"] == "random tokens"


def test_one_of_several_is_found_by_words_or_hash(trained):
    one = find(Source(path=str(trained), member="k=8 topk"))
    again = find(Source(path=str(trained), member=one.member.hash[:9]))
    assert one.trained.dictionary.k == 8 and again.member.hash == one.member.hash and one.name.startswith("topk k=8 ")
    params, other = load(one), load(find(Source(path=str(trained), member="k=4")))
    assert params["W_dec"].shape == (64, 32) and not np.array_equal(params["W_dec"], other["W_dec"])
    moved = find(Source(path=str(trained), member="topk k=4", model="elsewhere"))
    assert moved.trained.model.path == "elsewhere"


def test_the_report_of_a_population_says_how_features_lie(trained, monkeypatch):
    """Of what the last checkpoint holds; the two members of the job differ in more than their seed."""
    text = (trained / "report.html").read_text()
    assert (
        "How features lie: blocks.resid_post, layer 0" in text and "No two members differ in their seed alone" in text
    )
    finished = finished_members(trained)
    members = [m for m in thaw(trained / FILE_OF_PLAN).members.values() if m.hash in finished]
    (group,) = collect(members, trained)
    params = load_group(group)
    for member, own in zip(members, params, strict=True):
        one = load(find(Source(path=str(trained), member=member.hash)))
        np.testing.assert_array_equal(own["W_dec"], one["W_dec"])


def test_what_is_no_dictionary_is_named(trained, tmp_path):
    for member, message in (
        ("", r"dictionary.member = '' is 2 of its 2 dictionaries: give .* of 'topk k=4 width=64 layer=0 seed=0' \(\w{6}\)"),
        ("topk k=5", "dictionary.member = 'topk k=5' is none of its 2 dictionaries"),
        ("topk", "dictionary.member = 'topk' is 2 of its 2 dictionaries"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            find(Source(path=str(trained), member=member))
    for path in ("", str(tmp_path / "nowhere")):
        with pytest.raises(InputError, match="give the directory of a finished configs/dictionaries.py"):
            find(Source(path=path))
    job(LINE, tmp_path / "lines")
    with pytest.raises(InputError, match="holds runs of tests.experiments.line, which are no dictionaries"):
        find(Source(path=str(tmp_path / "lines")))
    for manifest in Path(tmp_path / "lines").glob("chunks/*/manifest.json"):
        manifest.unlink()
    with pytest.raises(InputError, match="none of its 1 runs is finished; to go on: ./launch/local"):
        find(Source(path=str(tmp_path / "lines")))


def test_a_dictionary_that_diverged_or_is_damaged_is_named(trained, tmp_path):
    import shutil

    broken = shutil.copytree(trained, tmp_path / "broken")
    of = Source(path=str(broken), member="topk k=4")
    chunk = find(of).place.directory
    (file,) = (chunk.checkpoints / "2").glob("default/_METADATA")
    file.write_bytes(b"{}")
    with pytest.raises(InputError, match="last checkpoint, of step 2, cannot be read .* train the dictionary again"):
        load(find(of))
    manifest = json.loads(chunk.manifest.read_text())
    chunk.manifest.write_text(json.dumps({**manifest, "diverged_at": [3] * len(manifest["diverged_at"])}))
    with pytest.raises(InputError, match="topk k=4 .* became non-finite at step 3"):
        find(of)


def test_impossible_values_are_named(trained):
    for message, changes in {
        "shown.quantiles = 9 are taken of fewer": {"shown": Shown(quantiles=9, drawn=8)},
        "text.at_once = 0: must be at least 1": {"text": Config().text.__class__(at_once=0)},
        "shown.low = 5.0 must be above 0 and below shown.high": {"shown": Shown(low=5.0, high=1.0)},
        "shown.before = -1: must be at least 0": {"shown": Shown(before=-1)},
        "steps = 2: nothing is trained": {"steps": 2},
    }.items():
        with pytest.raises(InputError, match=message):
            Config(**changes).check()
    with pytest.raises(InputError, match="shown.neighbours = 64: the dictionary has 64 features"):
        features.experiment(Config(dictionary=ask(trained).dictionary, shown=Shown(neighbours=64)))
    with pytest.raises(InputError, match="text.at_once = 20: the held-out text has 19 windows of 12 tokens"):
        features.experiment(ask(trained, text=Config().text.__class__(at_once=20)))


def test_variants_are_valid():
    for arg in FILE.VARIANTS:
        assert len(expand(FILE.get_config(arg), FILE, [])) == 1
