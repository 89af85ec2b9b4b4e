"""Tellings of a rule heard at once say what they say in turn, as far as variables are not asked for."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.diagnosis.declared import declare
from interp_jax.diagnosis.diagnosers_io import every_diagnoser, load_diagnoser
from interp_jax.diagnosis.family_io import load_family
from interp_jax.diagnosis.pools import pools_of
from interp_jax.diagnosis.student import Student, model_config
from interp_jax.diagnosis.tellings import Looked, in_turn, side_by_side
from interp_jax.diagnosis.view import View
from interp_jax.models import transformer

FAMILY = load_family("leak")
CFG = model_config(FAMILY, Student(d_model=8, n_heads=2, d_mlp=8))
KEY = jax.random.key(3)
CHEAP = [
    one.name.replace(" ", "_") for one in every_diagnoser() if one.fit is None and one.cost < 30 and not one.on_host
]
ASKS = {
    "amnesic_reliance",
    "mahalanobis",
    "quantum_entropy",
    "spectral_signature",
    "variable_geometry",
    "variable_probes",
}


@cache
def told():
    """A model, examples, and both rules."""
    params = jax.tree.map(lambda leaf: 2 * leaf, transformer.init(jax.random.key(0), CFG))
    x = np.asarray(pools_of(FAMILY).id_held.x)[::60]
    return params, x, [jax.tree.map(jnp.asarray, declare(FAMILY, which, x)) for which in "fg"]


def heard(name, of):
    """What a diagnoser says of both."""
    diagnoser, (params, x, both) = load_diagnoser(name), told()
    view = lambda params: View(params, CFG, FAMILY.labels, x, diagnoser.tier, name)
    said = lambda params: of(lambda declared: jnp.asarray(diagnoser.score(view(params), declared, KEY)), both)
    return np.asarray(jax.jit(said)(params))


@pytest.mark.parametrize("name", sorted(set(CHEAP) - ASKS))
def test_at_once_is_in_turn(name):
    at_once, turns = heard(name, side_by_side), heard(name, in_turn)
    assert at_once.shape == turns.shape == (2,)
    np.testing.assert_allclose(at_once, turns, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(ASKS))
def test_who_asks_for_variables_is_noticed(name):
    with pytest.raises(Looked):
        heard(name, side_by_side)


def test_what_does_not_depend_on_the_rule_is_the_same_number_twice():
    for name in ("loss", "weight_norm", "behaviour"):
        at_once = heard(name, side_by_side)
        assert at_once[0] == at_once[1]
