"""Variables as columns, what is left of them, which exchanges have a known answer; probes left out, one by one, in float64."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.diagnosis.declared import Declared, declare
from interp_jax.diagnosis.family_io import load_family
from interp_jax.diagnosis.left_out import PENALTY, partial_r2, read
from interp_jax.diagnosis.pools import pools_of
from interp_jax.diagnosis.swaps import exchanges
from interp_jax.diagnosis.variables import basis, determined, labels_of_cells, one_hot, parted, rest_of_all


def told(name, which="f", step=7):
    family = load_family(name)
    return declare(family, which, np.asarray(pools_of(family).id_held.x)[::step])


def made(labels, **variables):
    n = len(labels)
    values = {name: int(max(v)) + 1 for name, v in variables.items()}
    return Declared(np.asarray(labels), {k: np.asarray(v) for k, v in variables.items()}, values, np.zeros((n, 1)))


def test_what_is_left_of_a_variable_is_what_the_label_and_the_others_do_not_add_up_to():
    u, v = np.array(list(itertools.product(range(3), range(2)))).T.repeat(5, axis=1)
    found = parted(made(u, u=u, v=v, constant=0 * u))
    assert found["u"].share == found["constant"].share == 0.0  # the label itself, and nothing
    assert found["v"].share == pytest.approx(1.0) and np.allclose(found["v"].left, found["v"].columns - 0.5)
    declared = told("leak")
    for one in parted(declared).values():
        assert np.allclose(one.rest.T @ one.rest, np.eye(one.rest.shape[1]))
        assert np.abs(one.rest.T @ one.left).max() < 1e-9
    beside = np.concatenate(
        [np.ones((len(declared.labels), 1)), *(one_hot(declared.variables[k]) for k in ("b", "a + b"))], 1
    )
    fitted = beside @ np.linalg.lstsq(beside, one_hot(declared.variables["a"]), rcond=None)[0]
    np.testing.assert_allclose(parted(declared)["a"].left, one_hot(declared.variables["a"]) - fitted, atol=1e-9)
    assert parted(declared)["a + b"].share == 0.0 < parted(declared)["a"].share < 1.0
    assert np.linalg.matrix_rank(rest_of_all(declared)) == rest_of_all(declared).shape[1] == 1 + 3 * 10


def test_a_basis_leaves_out_what_others_determine():
    assert list(basis(told("leak"))) == ["a", "b"]
    assert list(basis(told("parity"))) == ["b0", "b2", "b5"]
    assert list(basis(told("brackets"))) == ["level", "dips"]
    u, v = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert determined(u ^ v, [u, v]) and not determined(v, [u]) and determined(np.zeros(4, int), [])
    assert labels_of_cells(made([0, 1, 1, 1], u=u), {"u": u}) == {(1,): 1}


@pytest.mark.parametrize("name", ["leak", "parity"])
def test_exchanges_have_the_answer_that_the_rule_gives(name):
    declared = told(name)
    found = exchanges(declared, 40)
    values = {key: np.asarray(v) for key, v in declared.variables.items()}
    by_hand = {
        "a": lambda n, m: (values["a"][m] + values["b"][n]) % 11,
        "b": lambda n, m: (values["a"][n] + values["b"][m]) % 11,
        "b0": lambda n, m: values["b0"][m] ^ values["b2"][n] ^ values["b5"][n],
        "b2": lambda n, m: values["b0"][n] ^ values["b2"][m] ^ values["b5"][n],
        "b5": lambda n, m: values["b0"][n] ^ values["b2"][n] ^ values["b5"][m],
    }
    assert set(found) == {"leak": {"a", "b"}, "parity": {"b0", "b2", "b5"}}[name]
    for variable, pairs in found.items():
        assert len(pairs.base) == 40 and (pairs.target == by_hand[variable](pairs.base, pairs.source)).all()
        assert (pairs.target != np.asarray(declared.labels)[pairs.base]).all()


def test_a_variable_whose_exchange_is_no_example_is_not_exchanged():
    assert exchanges(told("brackets"), 40) == {}  # level words that dip are conflicts, and level is the label
    assert exchanges(made([0, 0, 0, 0], u=[0, 1, 0, 1]), 10) == {}
    u, v = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert exchanges(made(u, u=u, v=v), 10) == {}  # the label under another name, and what does not change it
    assert set(exchanges(made(u & v, u=u, v=v), 10)) == {"u", "v"}


def test_partial_r2_is_that_of_fits_without_each_example():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(40, 5)), rng.integers(0, 3, 40)
    v = rng.integers(0, 2, 40)
    x[:, 0] += v
    one = parted(made(labels, v=v))["v"]
    rest = one.rest
    project = lambda a: a - rest @ (rest.T @ a)
    ridge = PENALTY * np.square(project(x)).mean() * len(x)
    error, before = 0.0, 0.0
    for n in range(40):
        rows = np.arange(40) != n
        design = np.concatenate([rest, project(x)], axis=1)[rows]
        penalty = np.diag([0.0] * rest.shape[1] + [ridge] * 5)
        w = np.linalg.solve(design.T @ design + penalty, design.T @ one.left[rows])
        error += np.square(one.left[n] - np.concatenate([rest, project(x)], axis=1)[n] @ w).sum()
        alone = np.linalg.lstsq(rest[rows], one.left[rows], rcond=None)[0]
        before += np.square(one.left[n] - rest[n] @ alone).sum()
    got = partial_r2(jnp.asarray(x, jnp.float32), jnp.asarray(one.left, jnp.float32), jnp.asarray(rest, jnp.float32))
    assert float(got) == pytest.approx(1 - error / before, abs=2e-3)


def test_a_planted_variable_is_read_and_one_that_is_not_there_is_not():
    rng = np.random.default_rng(1)
    labels, v = rng.integers(0, 2, (2, 400))
    there, nothing = rng.normal(size=(2, 400, 6))
    there[:, 2] += 6 * v
    said = np.asarray(read(jnp.asarray(np.stack([there, nothing]), jnp.float32), parted(made(labels, v=v))["v"]))
    assert said[0] > 0.8 and -0.1 < said[1] < 0.05
    label_only = rng.normal(size=(1, 400, 6)) + 6 * labels[None, :, None]
    assert (
        np.abs(np.asarray(read(jnp.asarray(label_only, jnp.float32), parted(made(labels, v=labels ^ v))["v"]))).max()
        < 0.1
    )
