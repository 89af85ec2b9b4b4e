"""The report's geometry and stability: of features that fire, of members that differ in their seed alone, beside chance."""

import dataclasses

import jax
import numpy as np
import pytest

from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.measures.stability import nearest_by_chance
from interp_jax.experiments.dictionaries import directions
from interp_jax.experiments.dictionaries.config import Config
from interp_jax.parts import stack
from interp_jax.results.blocks import Figure, Section, TableBlock, Text
from interp_jax.results.report import render
from tests.experiments.groups import group_of

F, D = 40, 16
CONFIG = Config(steps=1, dictionary=Dictionary(kind="topk", d_in=D, n_features=F, most=8, k=4))


def rows(seed):
    W = np.random.default_rng(seed).normal(size=(F, D)).astype(np.float32)
    return W / np.linalg.norm(W, axis=1, keepdims=True)


def made(monkeypatch, decoders, ks, fired=None):
    """The blocks of members with these decoders, seeds 0, 1, …, and values of k."""
    fired = np.ones((len(decoders), 1, F), int) if fired is None else fired
    seen = [{"sums.fired": one, "sums.n": np.array([100])} for one in fired]
    group = group_of(CONFIG, seen)
    members = [
        dataclasses.replace(CONFIG, seed=i, dictionary=dataclasses.replace(CONFIG.dictionary, k=k))
        for i, k in enumerate(ks)
    ]
    group = group._replace(config=stack(members), directories=("there",) * len(ks))
    monkeypatch.setattr(directions, "load_group", lambda group: [{"W_dec": W, "W_enc": W} for W in decoders])
    blocks = directions.blocks_of("a place", [group])
    assert "NaN" not in render("t", "s", blocks)
    return blocks


def tables(blocks):
    return [block.table for block in blocks if isinstance(block, TableBlock)]


def test_members_that_differ_in_their_seed_alone_are_matched(monkeypatch):
    W = rows(0)
    order = np.random.default_rng(5).permutation(F)
    blocks = made(monkeypatch, [W, W[order], rows(1)], ks=(4, 4, 8))
    lying, alike = tables(blocks)
    assert len(lying.rows) == 3 and len(alike.rows) == 1, "k = 8 has one seed"
    told = dict(zip(alike.columns, alike.rows[0], strict=True))
    assert told["told"] == "k = 4" and told["seeds"] == 2
    assert told["matched cosine"] == pytest.approx(1, abs=1e-5) and told["found again"] == 1
    chance = nearest_by_chance(F, D)
    assert (told["by chance"], told["95% by chance"]) == (chance.mean, chance.quantile)
    (_, curve) = [block.figure.data for block in blocks if isinstance(block, Figure)][-1]
    assert sum(curve.y) == pytest.approx(1, abs=1e-6) and curve.name == "by chance, nearest"
    assert np.sum(np.multiply(curve.x, curve.y)) == pytest.approx(chance.mean, abs=0.01)


def test_random_decoders_have_what_chance_gives_them(monkeypatch):
    blocks = made(monkeypatch, [rows(0), rows(1)], ks=(4, 4))
    lying, alike = tables(blocks)
    for row in (dict(zip(lying.columns, row, strict=True)) for row in lying.rows):
        assert row["nearest cosine"] == pytest.approx(row["by chance"], abs=0.05)
    told = dict(zip(alike.columns, alike.rows[0], strict=True))
    assert told["nearest"] == pytest.approx(told["by chance"], abs=0.04) and told["matched cosine"] < told["nearest"]
    assert told["found again"] < 0.1


def test_features_that_never_fired_are_left_out_of_the_geometry(monkeypatch):
    W = rows(0)
    W[1] = W[0]  # said twice, but one of the two never fires
    fired = np.ones((2, 1, F), int)
    fired[1, 0, 1] = 0
    lying, _ = tables([*made(monkeypatch, [W, W], ks=(4, 8), fired=fired), TableBlock(None)])
    close = [row[lying.columns.index("above 0.7")] for row in lying.rows]
    assert [row[3] for row in lying.rows] == [F, F - 1] and close[0] - close[1] * (F - 1) / F == pytest.approx(2 / F)


def test_what_cannot_be_matched_is_said(monkeypatch):
    said = lambda blocks: [block.text for block in blocks if isinstance(block, Text)]
    assert "add `--sweep seeds`" in said(made(monkeypatch, [rows(0)], ks=(4,)))[0]
    monkeypatch.setattr(directions, "MOST_MATCHED", F - 1)
    blocks = made(monkeypatch, [rows(0), rows(1)], ks=(4, 4))
    assert f"more than {F - 1} features, {F} here, are not matched" in said(blocks)[0]
    assert [b.heading for b in blocks if isinstance(b, Section)][-1].endswith("finds the same: a place")
    assert jax.tree.leaves(directions.blocks_of("a place", [])) == []
