"""The benchmark of rates: what a row says, and that as many members are computed at once as fit."""

import jax
import pytest

from interp_jax.dictionaries.config import Dictionary
from third_party.peers import _dictionary_rates as rates

SIZES = rates.TINY._replace(updates=2)


def test_a_row_says_how_many_activations_a_second_and_their_share_of_the_matrix_rate():
    row = rates.measure("standard", (16, 64), 2, SIZES, 1e9)
    assert row["members"] == row["at_once"] == 2 and row["products"] == 4
    assert row["activations"] == pytest.approx(2 * 32 / row["seconds"])
    assert row["share"] == pytest.approx(2 * 4 * 2 * 32 * 16 * 64 / row["seconds"] / 1e9)


def test_as_many_members_are_computed_at_once_as_fit(monkeypatch):
    asked = []

    def short_of_memory(cfg, members, at_once, batch, updates):
        asked.append(at_once)
        if at_once > most:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return [1.0, 2.0, 4.0]

    monkeypatch.setattr(rates, "seconds_of", short_of_memory)
    most = 2
    row = rates.measure("topk", (16, 64), 8, SIZES, 1e9)
    assert asked == [8, 4, 2] and row["at_once"] == 2 and row["seconds"] == 2.0 and row["activations"] == 8 * 32 / 2
    most = 0
    assert "seconds" not in rates.measure("topk", (16, 64), 8, SIZES, 1e9)


def test_products_that_touch_only_what_is_active_are_not_counted_as_dense():
    own = dict(kind="topk", d_in=16, n_features=64, most=4, k=4)
    assert rates.products(Dictionary(**own, products="sparse")) == 1
    assert rates.products(Dictionary(**own, products="dense")) == 4
    assert rates.products(Dictionary(kind="gated", d_in=16, n_features=64)) == 7
