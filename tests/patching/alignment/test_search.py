"""Searches for subspaces find what is there, nothing where nothing is, and are one program."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching.alignment.config import AlignmentConfig, sweep
from interp_jax.patching.alignment.controls import evaluate, known_alignment
from interp_jax.patching.alignment.rotations import principal_angles, shared_dimensions
from interp_jax.patching.alignment.search import train_alignment
from interp_jax.train.optimizer import Optimizer
from tests.patching.alignment.relay import HELD, pairs, relay

SEARCH = AlignmentConfig(k=1, width=3, steps=200)
BOUNDLESS = AlignmentConfig(variant="boundless", steps=400, price=2.0)
EVERYWHERE = {"layer": (0, 1), "place": (0, 1, 2), "seed": (0, 1)}
BOTH = {"layer": (0, 1)}  # twelve members of both layers in all of these tests: one program for each variant
NEVER_READ = (1, 1)  # position 2 after layer 1


@cache
def subject(d, bystander=0.0):
    """The relay of a variable of d dimensions, pairs to train on, and others."""
    return relay(d, bystander), pairs(512, d, 0), pairs(256, d, 1)


def searched(d, members, bystander=0.0):
    """Subspaces that were found, and their accuracy on held-out pairs."""
    model, train, held_out = subject(d, bystander)
    found = train_alignment(model.params, model.cfg, train, members)
    return found, evaluate(model.params, model.cfg, found, held_out).accuracy


def known(model, plane, members):
    return known_alignment(jnp.asarray(model.truth.planes[plane], jnp.float32), members)


def where(member):
    return member.layer, member.place


@pytest.mark.parametrize("d", [1, 3])
def test_the_truth_works_where_it_is_and_nowhere_else(d):
    model, _, held_out = subject(d)
    nothing = (held_out.counterfactual == held_out.answer).mean()
    members = sweep(SEARCH, EVERYWHERE)
    for plane in (1, 2):
        accuracy = evaluate(model.params, model.cfg, known(model, plane, members), held_out).accuracy
        for member, right in zip(members, accuracy, strict=True):
            assert right == (1.0 if HELD.get(where(member)) == plane else nothing)


@pytest.mark.parametrize("d", [1, 3])
def test_a_search_finds_the_plane_where_it_is_and_nothing_elsewhere(d):
    model, _, held_out = subject(d)
    members = sweep(dataclasses.replace(SEARCH, k=d), EVERYWHERE)
    found, accuracy = searched(d, members)
    nothing = (held_out.counterfactual == held_out.answer).mean()
    for i, member in enumerate(members):
        plane = HELD.get(where(member))
        if plane:
            assert accuracy[i] == 1.0 and found.losses[i, -1] < 0.4
            assert principal_angles(model.truth.planes[plane], found.subspace(i)).max() < 0.15
        else:
            assert accuracy[i] < nothing + 0.1 and found.losses[i, -1] > 3.0  # three standard errors
        if where(member) == NEVER_READ:
            assert accuracy[i] == nothing
    assert (found.dimensions == d).all() and (np.asarray(found.diverged_at) == -1).all()


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 3])
def test_boundless_finds_how_many_dimensions_there_are(d):
    model, *_ = subject(d)
    members = sweep(BOUNDLESS, EVERYWHERE)
    found, accuracy = searched(d, members)
    for i, member in enumerate(members):
        plane = HELD.get(where(member))
        if plane:
            assert accuracy[i] == 1.0 and found.dimensions[i] == d
            assert principal_angles(model.truth.planes[plane], found.subspace(i)).max() < 0.15
        if where(member) == NEVER_READ:
            assert found.dimensions[i] == 0


@pytest.mark.slow
def test_a_high_price_buys_fewer_dimensions():
    members = sweep(dataclasses.replace(BOUNDLESS, place=1), BOTH | {"price": (0.0, 0.3, 100.0), "seed": (0, 1)})
    none, low, high = searched(3, members)[0].dimensions[:6].reshape(3, 2)
    assert (none > low).all() and (low >= 3).all() and (high == 0).all()


def test_a_direction_that_is_never_read_takes_part_and_accuracy_does_not_tell():
    """Makelov et al. 2023, with known truth: a copy of the variable that nothing reads, three times as large.

    Its difference is moved into the direction that is read, further than the truth moves it, so the loss is lower still.
    """
    model, _, held_out = subject(1, 3.0)
    members = sweep(dataclasses.replace(SEARCH, place=1), BOTH | {"seed": range(6)})
    found, accuracy = searched(1, members, 3.0)
    assert (accuracy[:6] == 1.0).all()
    shares = [shared_dimensions(model.truth.bystander, found.subspace(i)) for i in range(6)]
    assert min(shares) > 0.1 and np.mean(shares) > 0.4
    learned = evaluate(model.params, model.cfg, found, held_out).losses.mean(1)
    truth = evaluate(model.params, model.cfg, known(model, 1, members), held_out).losses.mean(1)
    assert (learned[:6] < 0.8 * truth[:6]).all()


@pytest.mark.slow
def test_low_rank_is_all_columns_of_its_width():
    """In float64: they are two programs."""
    with jax.enable_x64(True):
        model, train, _ = subject(3)
        params = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), model.params)
        low_rank, wide = (
            train_alignment(params, model.cfg, train, sweep(dataclasses.replace(SEARCH, **options), BOTH))
            for options in ({"variant": "low_rank", "k": 0}, {"k": 3})
        )
    np.testing.assert_allclose(low_rank.basis, wide.basis, atol=1e-12)
    np.testing.assert_array_equal(low_rank.mask, np.ones((2, 3)))


@pytest.mark.slow
def test_members_equal_their_single_runs_in_any_batch_and_width():
    """In float64, where the order of a sum matters little; alone, a member has no more columns than it uses."""
    with jax.enable_x64(True):
        model, train, _ = subject(3)
        params = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), model.params)
        config = dataclasses.replace(SEARCH, width=0, steps=30)
        members = sweep(config, {"layer": (0, 1), "k": (1, 3), "seed": (0, 7)})
        together = train_alignment(params, model.cfg, train, members, batch=2)
        for i in (1, 4):
            assert members[i].k == 1 and together.basis.shape == (8, 16, 3)
            alone = train_alignment(params, model.cfg, train, members[i : i + 1])
            assert alone.basis.shape == (1, 16, 1)
            np.testing.assert_allclose(together.subspace(i), alone.subspace(0), atol=1e-8)
            np.testing.assert_allclose(together.losses[i], alone.losses[0], rtol=1e-8)
        gram = jnp.einsum("rdk,rdl->rkl", together.basis, together.basis)
        np.testing.assert_allclose(gram, jnp.broadcast_to(jnp.eye(3), gram.shape), atol=1e-12)


def test_layers_places_seeds_dimensions_and_rates_are_one_program(compilations):
    model, train, _ = subject(1)
    names = {"layer": (0, 1), "place": (0, 1, 2), "seed": (0, 1), "k": (1, 4), "optimizer.learning_rate": (0.01, 0.1)}
    config = dataclasses.replace(SEARCH, steps=3, examples=5, width=4)  # shapes that no other test compiles
    with compilations() as programs:
        train_alignment(model.params, model.cfg, train, sweep(config, names))
        train_alignment(model.params, model.cfg, train, sweep(config, names | {"k": (2, 3), "seed": (5, 6)}))
        train_alignment(model.params, model.cfg, pairs(512, 1, 9), sweep(config, names), shuffled=True)
    assert programs.count("on_device") == 1


def test_a_member_that_diverges_says_when_and_leaves_the_others_alone():
    rates = (float("inf"), *(0.1,) * 5)
    members = sweep(dataclasses.replace(SEARCH, place=1), BOTH | {"optimizer.learning_rate": rates})
    found, accuracy = searched(1, members)
    np.testing.assert_array_equal(found.diverged_at, [0, -1, -1, -1, -1, -1] * 2)
    assert np.isfinite(found.basis).all() and (accuracy[1:6] == 1.0).all() and accuracy[0] < 1.0


@pytest.mark.slow
def test_other_sites_are_searched_in_their_own_width():
    """Neurons of an MLP, and the embedding, which has no layer."""
    cfg = TransformerConfig(n_layers=2, d_model=6, n_heads=2, d_head=3, d_mlp=10, d_vocab=24, n_context=4)
    params = transformer.init(jax.random.key(0), cfg)
    for site, width in (("blocks.mlp.post", 10), ("embed", 6)):
        config = dataclasses.replace(SEARCH, site=site, steps=2)
        found = train_alignment(params, cfg, pairs(32, 1, 0), [config])
        assert found.basis.shape == (1, width, 3) and np.isfinite(found.losses).all()


def test_sweep_is_a_product():
    members = sweep(SEARCH, {"layer": (0, 1), "optimizer.learning_rate": (0.1, 0.2)})
    assert [(m.layer, m.optimizer.learning_rate) for m in members] == [(0, 0.1), (0, 0.2), (1, 0.1), (1, 0.2)]
    assert sweep(SEARCH, {}) == [SEARCH]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "boundles"}, "alignment.variant: unknown 'boundles'; did you mean 'boundless'?"),
        (
            {"site": "blocks.resid_pos"},
            "alignment.site: 'blocks.resid_pos' is not a vector per position here; did you",
        ),
        ({"site": "blocks.attn.z"}, "alignment.site: 'blocks.attn.z' is not a vector per position here"),
        ({"k": 17, "width": 0}, "alignment.k = 17: a subspace of 'blocks.resid_post' has 1 to 16 dimensions here"),
        ({"k": 4}, "alignment.k = 4: a subspace of 'blocks.resid_post' has 1 to 3 dimensions here"),
        ({"k": 0}, "alignment.k = 0: a subspace of 'blocks.resid_post' has 1 to 3"),
        ({"width": 17}, "alignment.width = 17: 'blocks.resid_post' has 16 dimensions"),
        ({"variant": "boundless"}, "alignment.k = 1: 'boundless' has none; leave it 0"),
        ({"variant": "low_rank", "k": 0, "width": 0}, "alignment.width = 0: 'low_rank' needs its rank"),
        ({"layer": 2}, "alignment.layer = 2: it goes from 0 to 1"),
        ({"site": "embed", "layer": 1}, "alignment.layer = 1: it goes from 0 to 0"),
        ({"place": 3}, "alignment.place = 3: it goes from 0 to 2"),
        ({"steps": 0}, "alignment: steps = 0, examples = 32: at least 1, and 0"),
        ({"last_temperature": 0.0}, "alignment: temperatures must be positive, the price not negative"),
        ({"optimizer": Optimizer(name="adem")}, "optimizer.name: unknown 'adem'; did you mean 'adam'"),
    ],
)
def test_impossible_members(changes, message):
    model, train, _ = subject(1)
    with pytest.raises(InputError) as error:
        train_alignment(model.params, model.cfg, train, [dataclasses.replace(SEARCH, **changes)])
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_impossible_populations():
    model, train, _ = subject(1)
    with pytest.raises(InputError, match="no members"):
        train_alignment(model.params, model.cfg, train, [])
    with pytest.raises(InputError, match="differ in hypers only"):
        train_alignment(model.params, model.cfg, train, [SEARCH, dataclasses.replace(SEARCH, steps=4)])
    with pytest.raises(InputError, match="alignment has no 'layers'; did you mean 'layer'"):
        sweep(SEARCH, {"layers": (0,)})
