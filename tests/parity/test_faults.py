"""The comparison notices a fault in an adapter's table: in each architecture, each row read wrongly makes it fail.

A table says how published tensors become parameters. A fault is planted in it, and the model loaded and compared as always.
Some are planted without the reference too, against what is stored of it: `tests/third_party/huggingface/test_golden.py`.
"""

import jax.numpy as jnp
import pytest
import torch

from tests.third_party.huggingface.faults import ATTENTION, SPECIAL, faults_of, is_invisible, with_table
from third_party import huggingface
from third_party.huggingface.parity import batches, comparison, golden, ours, theirs
from third_party.huggingface.parity.cases import CASES, PLAIN
from third_party.huggingface.parity.comparison import BARS, OUTPUT

CLEAR = 100 * BARS["float32"]
BIASED = ("llama, yarn, biases", "bert, untied")  # of the architectures whose plain member has none, or not all


@pytest.mark.parametrize("name", [*PLAIN, *BIASED])
def test_a_fault_in_the_table_fails_the_comparison(name, written, monkeypatch):
    case, directory = CASES[name], written(name)
    adapter, cfg = huggingface.ADAPTERS[case.architecture], huggingface.load(directory)[1]
    batch = batches.padded(cfg.d_vocab)
    reference = theirs.run(theirs.read_model(case, directory, torch.float32), case, batch, cfg)

    def errors(table):
        monkeypatch.setitem(huggingface.ADAPTERS, case.architecture, with_table(adapter, table))
        mine = ours.run(huggingface.load(directory, dtype=jnp.float32)[0], batch, cfg)
        return comparison.differences(mine, reference, batch.real)

    table = adapter.table(cfg)
    assert max(errors(table).values()) <= BARS["float32"]
    faults = faults_of(name, table, cfg)
    assert len(faults) >= 20
    for fault in faults:
        found = errors(fault.plant(table))
        assert found["blocks.attn.k" if is_invisible(fault, cfg) else OUTPUT] > CLEAR, fault.what
        assert (found[OUTPUT] <= BARS["float32"]) == is_invisible(fault, cfg), fault.what


def test_every_kind_of_fault_is_planted_somewhere():
    """And each architecture gets, among others, heads that are swapped, exchanged maps and a missing transposition."""
    planted = set()
    for name in (*PLAIN, *BIASED):
        adapter = huggingface.ADAPTERS[CASES[name].architecture]
        cfg = huggingface.configure(golden.read(name).config)
        kinds = {fault.what for fault in faults_of(name, adapter.table(cfg), cfg)}
        assert any("two heads" in kind for kind in kinds) and any("not transposed" in kind for kind in kinds)
        assert f"{ATTENTION}W_K and {ATTENTION}W_V exchanged" in kinds
        planted |= kinds
    assert {fault.what for fault in SPECIAL} <= planted
