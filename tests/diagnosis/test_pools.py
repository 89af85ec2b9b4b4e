"""Pools: nothing held out was trained on, nothing is lost, and labels are drawn alike."""

import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.diagnosis.family_io import load_family
from interp_jax.diagnosis.pools import pools_of
from interp_jax.diagnosis.student import Arm, lesson


def rows(x):
    return {tuple(row) for row in np.asarray(x).tolist()}


@pytest.mark.parametrize("name", ["parity", "leak", "brackets", "table"])
def test_nothing_held_out_was_trained_on(name):
    family = load_family(name)
    pools = pools_of(family, n=4_000)
    bare = lambda x: rows(family.without_nuisances(np.asarray(x)))
    assert not rows(pools.id_train.x) & rows(pools.id_held.x)
    assert not rows(pools.conflict_train.x) & rows(pools.conflict_held_g.x)
    assert not bare(pools.conflict_train.x) & bare(pools.conflict_held.x)
    if family.table_g:
        assert bare(pools.conflict_held_g.x) <= bare(pools.conflict_train.x)
    else:
        assert rows(pools.conflict_held_g.x) == rows(pools.conflict_held.x)
    assert (pools.id_train.f == pools.id_train.g).all() and (pools.conflict_held.f != pools.conflict_held.g).all()


def test_all_inputs_are_there_where_they_are_enumerated():
    pools = pools_of(load_family("parity"))
    parts = [rows(one.x) for one in (pools.id_train, pools.id_held, pools.conflict_train, pools.conflict_held)]
    assert len(set().union(*parts)) == sum(map(len, parts)) == 2**12
    assert 0.45 < len(parts[0]) / 2**11 < 0.55


def test_labels_of_d_id_are_drawn_alike_and_every_row_is_reached():
    pool = pools_of(load_family("brackets")).id_train
    u = jnp.asarray(np.random.default_rng(0).random((2, 20_000)), jnp.float32)
    drawn = np.asarray(pool.balanced(u))
    share = np.asarray(pool.f)[drawn].mean()
    assert abs(share - 0.5) < 5 * 0.5 / np.sqrt(20_000)  # of 132 in 3,304
    assert len(np.unique(drawn)) > 0.95 * len(pool.f)
    ones = np.bincount(drawn, minlength=len(pool.f))[np.asarray(pool.f) == 1]
    assert ones.min() > 0 and ones.std() < 2 * np.sqrt(ones.mean())
    assert set(np.asarray(pool.any(u[0]))) <= set(range(len(pool.f)))


def test_arms_differ_in_the_labels_of_conflicts_alone():
    family = load_family("leak")
    pools = pools_of(family)
    one = lambda step=7, seed=3, **told: lesson(jnp.int32(seed), jnp.int32(step), pools, Arm(**told), 4_000)
    learned, cheated, mixed = one(), one(learned=0.0), one(learned=0.3)
    for other in (cheated, mixed, one(learned=0.3, changed_at=3)):
        np.testing.assert_array_equal(learned.x, other.x)
    f, g = (np.asarray(family.rule(w).answer(np.asarray(learned.x))) for w in "fg")
    np.testing.assert_array_equal(learned.label, f)
    np.testing.assert_array_equal(cheated.label, g)
    conflict = f != g
    assert abs(conflict.mean() - 0.25) < 0.03
    assert abs((np.asarray(mixed.label) == f)[conflict].mean() - 0.3) < 0.06
    np.testing.assert_array_equal(one(changed_at=7).label, g)
    np.testing.assert_array_equal(one(changed_at=8).label, f)
    assert (one(conflict=0.0).label == np.asarray(family.rule("g").answer(np.asarray(one(conflict=0.0).x)))).all()
    assert (np.asarray(one(step=8).x) != learned.x).any() and (np.asarray(one(seed=4).x) != learned.x).any()
