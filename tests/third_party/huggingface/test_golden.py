"""Without PyTorch: output, sites and gradients are those that the reference gave, stored in `golden/`.

`./launch/test --peers` makes them again and compares; `python -m third_party.huggingface.parity golden` rewrites them. What is
stored of a site, `third_party/huggingface/parity/golden.py` says.
"""

import jax
import numpy as np
import pytest

from interp_jax.models.sites import sites
from tests.third_party.huggingface.faults import faults_of, is_invisible, with_table
from third_party import huggingface
from third_party.huggingface.parity import golden, ours
from third_party.huggingface.parity.batches import padded
from third_party.huggingface.parity.cases import CASES, PLAIN
from third_party.huggingface.parity.comparison import BARS, OUTPUT

CLEAR = 100 * BARS["float32"]
SOME_SLOW = [
    pytest.param(name, dtype, marks=() if name in PLAIN and dtype == "float32" else pytest.mark.slow)
    for name in CASES
    for dtype in BARS
]
KINDS = ("two heads swapped", "dropped", "exchanged", "not transposed")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A case's directory, written once."""
    directories = {}

    def directory(name):
        if name not in directories:
            directories[name] = tmp_path_factory.mktemp("model")
            golden.write_checkpoint_by_seed(directories[name], golden.read(name).config)
        return directories[name]

    return directory


def run_of(directory, dtype):
    with jax.enable_x64(dtype == "float64"):
        params, cfg = huggingface.load(directory, dtype=dtype)
        return ours.run(params, padded(cfg.d_vocab), cfg)


def errors_of(name, directory, dtype="float32"):
    stored = golden.read(name)
    return golden.errors(run_of(directory, dtype), stored, padded(stored.config["vocab_size"]))


@pytest.mark.parametrize(("name", "dtype"), SOME_SLOW)
def test_output_sites_and_gradients_are_those_of_the_reference(name, dtype, written):
    errors = errors_of(name, written(name), dtype)
    assert {site: error for site, error in errors.items() if not error <= BARS[dtype]} == {}


@pytest.mark.parametrize("name", CASES)
def test_all_that_the_reference_shows_is_stored(name):
    stored = golden.read(name)
    names = {site.name for site in sites(huggingface.configure(stored.config))}
    hidden = {site for site in names if site.endswith(".scale") or site == "blocks.attn.result"}
    gradients = {ours.GRADIENT + site for site in ours.STREAM}
    assert set(stored.seen) == (names - hidden - {"logits"}) | gradients | {OUTPUT}


def test_a_change_of_any_number_is_seen_where_it_is(written):
    """Of every site, one number at random: changed by a thousandth of the largest."""
    stored, rng = golden.read("gemma3"), np.random.default_rng(0)
    run, batch = run_of(written("gemma3"), "float64"), padded(stored.config["vocab_size"])
    real, pairs = batch.real.copy(), stored.pairs
    for site in sorted(stored.seen.keys() - {OUTPUT}):
        x = run.sites[site]
        shown = np.zeros(x.shape, bool)
        if site in ("blocks.attn.scores", "blocks.attn.pattern"):
            shown[...] = pairs[:, :, None]
        else:
            shown[...] = real.reshape(*real.shape, *[1] * (x.ndim - 2 - ("blocks." in site)))
        place = tuple(rng.choice(np.argwhere(shown)))
        changed = x.copy()
        changed[place] += 1e-3 * np.abs(x).max()
        errors = golden.errors(run._replace(sites=run.sites | {site: changed}), stored, batch)
        assert {name for name, error in errors.items() if error > BARS["float64"]} == {site}, place
        assert errors[site] > BARS["float32"], place


@pytest.mark.parametrize("name", PLAIN)
def test_a_fault_in_the_table_fails_the_comparison(name, written, monkeypatch):
    """One of each kind; `tests/parity/test_faults.py` plants all of them."""
    adapter = huggingface.adapter_for(golden.read(name).config)
    cfg = huggingface.configure(golden.read(name).config)
    table = adapter.table(cfg)
    possible = faults_of(name, table, cfg)
    faults = [next((fault for fault in possible if kind in fault.what), None) for kind in KINDS]
    assert faults[0] and faults[2] and faults[3]
    for fault in filter(None, faults):
        faulty = with_table(adapter, fault.plant(table))
        monkeypatch.setitem(huggingface.ADAPTERS, adapter.architecture, faulty)
        assert errors_of(name, written(name))[OUTPUT] > CLEAR, fault.what


def test_a_fault_that_the_output_does_not_show_is_seen_at_its_site(written, monkeypatch):
    """A bias of keys adds the same to all of a query's scores."""
    adapter, cfg = huggingface.adapter_for(golden.read("gpt2").config), huggingface.load(written("gpt2"))[1]
    table = adapter.table(cfg)
    (fault, *_) = [fault for fault in faults_of("gpt2", table, cfg) if is_invisible(fault, cfg)]
    monkeypatch.setitem(huggingface.ADAPTERS, adapter.architecture, with_table(adapter, fault.plant(table)))
    errors = errors_of("gpt2", written("gpt2"))
    wrong = {site for site, error in errors.items() if error > BARS["float32"]}
    assert wrong == {"blocks.attn.k", "blocks.attn.scores"}


def test_what_is_stored_is_small():
    assert sum(file.stat().st_size for file in golden.DIRECTORY.iterdir()) <= 2_000_000


def test_every_stored_file_belongs_to_a_case():
    expected = {f"{golden.file_name(name)}{suffix}" for name in CASES for suffix in (".json", ".npz")}
    assert {file.name for file in golden.DIRECTORY.iterdir()} == expected
