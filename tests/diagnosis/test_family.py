"""Families: their rules are what they say, the sets are what they should be, and a wrong file is refused in one line."""

import importlib.metadata
import types

import numpy as np
import pytest

from interp_jax.diagnosis import family_io
from interp_jax.diagnosis.arms import Told, arm
from interp_jax.diagnosis.declared import declare
from interp_jax.diagnosis.family import answers, family_of, value
from interp_jax.diagnosis.family_io import SHIPPED, load_family
from interp_jax.diagnosis.pools import pools_of
from interp_jax.diagnosis.student import Arm
from interp_jax.errors import InputError


def balanced(word):
    """With a stack, as a person would."""
    stack = []
    for bracket in word:
        if bracket:
            stack.append(bracket)
        elif not stack or not stack.pop():
            return 0
    return int(not stack)


def product(a, b):
    return a * b % 23


BY_HAND = {
    "parity": (lambda x: (x[0] + x[2] + x[5]) % 2, lambda x: x[7]),
    "leak": (lambda x: (x[0] + x[1]) % 11, lambda x: (x[2] + x[3]) % 11),
    "majority": (lambda x: int(sum(x[:11]) >= 6), lambda x: x[0]),
    "key_value": (lambda x: dict(zip(x[0:8:2], x[1:8:2], strict=True))[x[9]] - 8, lambda x: x[7] - 8),
    "brackets": (lambda x: balanced(x[:12]), lambda x: int(2 * sum(x[:12]) == 12)),
    "table": (lambda x: product(x[0], x[1]), None),
}


def some(family, conflict, n=300):
    x = np.asarray((family.draw_conflict if conflict else family.draw_id)(np.random.default_rng(3), n))
    return x[np.random.default_rng(4).permutation(len(x))[:n]]


@pytest.mark.parametrize("name", SHIPPED)
def test_rules_are_what_a_person_would_compute_and_differ_on_conflicts_alone(name):
    family = load_family(name)
    for conflict in (False, True):
        x = some(family, conflict)
        f, g = answers(family, "f", x), answers(family, "g", x)
        assert ((f != g) == conflict).all()
        for which, said, rule in zip("fg", (f, g), BY_HAND[name], strict=True):
            if rule is not None:
                np.testing.assert_array_equal(said, [rule(row.tolist()) for row in x], err_msg=which)


@pytest.mark.parametrize("name", SHIPPED)
def test_variables_of_either_telling_decide_the_answer(name):
    family = load_family(name)
    x = np.concatenate([some(family, conflict, 2_000) for conflict in (False, True)])
    for which in ("f", "again", "g"):
        told = declare(family, which, x)
        whole = np.stack([*told.variables.values()], axis=1)
        _, group = np.unique(whole, axis=0, return_inverse=True)
        first = np.unique(group, return_index=True)[1]
        np.testing.assert_array_equal(told.labels, told.labels[first][group], err_msg=which)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_rule_reads_the_positions_it_names_and_no_others(name):
    family = load_family(name)
    x = np.concatenate([some(family, False), some(family, True)])
    other = x[np.random.default_rng(5).permutation(len(x))]
    for which in "fg":
        read = set()
        for i in range(family.positions):
            changed = x.copy()
            changed[:, i] = other[:, i]
            if (np.asarray(family.rule(which).answer(changed)) != answers(family, which, x)).any():
                read.add(i)
        assert read == set(family.rule(which).reads)


@pytest.mark.parametrize("name", SHIPPED)
def test_variables_take_the_values_they_have_and_tell_the_answer(name):
    family = load_family(name)
    x = np.concatenate([some(family, False, 2_000), some(family, True, 2_000)])
    for which in "fg":
        table = np.stack([value(family, which, v, x) for v in family.rule(which).variables], axis=1)
        said = answers(family, which, x)
        groups = {}
        for row, answer in zip(map(tuple, table), said, strict=True):
            groups.setdefault(row, set()).add(int(answer))
        if (name == "parity" and which == "f") or name not in ("table",) or which == "f":
            assert all(len(found) == 1 for found in groups.values())


def test_key_values_never_collide_and_brackets_have_792_conflicts():
    x = some(load_family("key_value"), True, 500)
    assert all(len(set(row[1:8:2])) == 4 and len(set(row[0:8:2])) == 4 for row in x)
    assert len(load_family("brackets").draw_conflict(np.random.default_rng(0), 1)) == 792  # C(12, 6) - Catalan(6)


def test_influence_is_the_share_of_tokens_that_change_the_answer():
    family = load_family("parity")
    x = some(family, False)
    by_f, by_g = declare(family, "f", x).influence, declare(family, "g", x).influence
    assert (by_f[:, [i for i in range(13) if i not in (0, 2, 5)]] == 0).all() and (by_g[:, 7] > 0).any()
    np.testing.assert_allclose(by_f[:, 0].mean(), 0.5, atol=0.05)  # half of the others have another bit
    assert set(declare(family, "g", x).variables) == {"b7"}


# ------------------------------------------------------------------------------------------------ wrong files


def module(**changes):
    names = {
        "NAME": "mine",
        "KIND": "A",
        "VOCABULARY": 2,
        "POSITIONS": 3,
        "LABELS": 2,
        "rule_f": lambda x: x[:, 0],
        "rule_g": lambda x: x[:, 1],
        "VARIABLES_F": {"first": (2, lambda x: x[:, 0])},
        "VARIABLES_G": {},
        "inputs": lambda: np.array([[a, b, 0] for a in range(2) for b in range(2)]),
    }
    made = types.ModuleType("mine")
    vars(made).update({k: v for k, v in (names | changes).items() if v is not None})
    return made


def fails(x, message=None):
    raise ValueError(message) if message else KeyError("no such key")


SETS = {
    "inputs": None,
    "draw_id": lambda rng, n: np.array([[0, 1, 0]]),
    "draw_conflict": lambda rng, n: np.array([[1, 0, 0]]),
}
WRONG = {
    "it lacks rule_f": {"rule_f": None},
    "lacks inputs(), or draw_id": {"inputs": None},
    "KIND = 'C'": {"KIND": "C"},
    "READS_G has 3": {"READS_G": (3,)},
    "f and g disagree on D_ID, first on [0, 1, 0]: f says 0, g 1": SETS,
    "identical on every input": {"rule_g": lambda x: x[:, 0]},
    "the conflict set is empty": SETS
    | {"draw_id": lambda rng, n: np.zeros((1, 3), int), "draw_conflict": lambda rng, n: np.zeros((0, 3), int)},
    "identical on all of D_X": SETS
    | {"draw_id": lambda rng, n: np.zeros((1, 3), int), "draw_conflict": lambda rng, n: np.zeros((1, 3), int)},
    "D_ID is empty": {"rule_g": lambda x: 1 - x[:, 0]},
    "VARIABLES_F['first'] = 3; it is (number of values, function of x)": {"VARIABLES_F": {"first": 3}},
    "LABELS = '2'; it is a number, 1 or more": {"LABELS": "2"},
    "READS_G has 'a'": {"READS_G": "ab"},
    "inputs() must be integers [N 3]": {"inputs": lambda: np.zeros((2, 2), int)},
    "drawing D_ID raised ZeroDivisionError: division by zero": {"inputs": lambda: 1 / 0},
    "drawing D_X raised ValueError: one": SETS
    | {"draw_id": lambda rng, n: np.zeros((1, 3), int), "draw_conflict": lambda rng, n: fails(rng, "one\ntwo")},
    "without_nuisances, of D_ID, raised KeyError": {"without_nuisances": fails},
    "without_nuisances answers 1 rows to 2 of D_ID": {"without_nuisances": lambda x: x[:1]},
    "rule_g raised KeyError: 'no such key'": {"rule_g": fails},
    "rule_g must answer integers [4], not float64": {"rule_g": lambda x: x[:, 0] / 2},
    "rule_f answers 5 to [1, 0, 0]; labels": {"rule_f": lambda x: 5 * x[:, 0]},
    "rule_f raised KeyError": {
        "rule_f": fails,
        "inputs": None,
        "draw_id": lambda rng, n: np.zeros((1, 3), int),
        "draw_conflict": SETS["draw_conflict"],
    },
    "rule_f answers 2 to [0, 0, 0]; labels go from 0 to 1": {
        "inputs": None,
        "rule_f": lambda x: x[:, 0] + 2,
        "draw_id": lambda rng, n: np.zeros((1, 3), int),
        "draw_conflict": SETS["draw_conflict"],
    },
    "variable 'first' of f answers 3": {"VARIABLES_F": {"first": (2, lambda x: x[:, 0] + 3)}},
    "has token 2; tokens go from 0 to 1": {"inputs": lambda: np.array([[2, 1, 0], [1, 1, 0]])},
    "INFECTION = (0, 1.0): (steps, share of the rate), both above 0": {"INFECTION": (0,)},
    "INFECTION = (300, -0.1)": {"INFECTION": (300, -0.1)},
    "must be integers [N 3]": {"inputs": lambda: np.array([[0, 1], [1, 1]])},
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_family_is_refused_in_one_line(message):
    with pytest.raises(InputError) as caught:
        family_of(module(**WRONG[message]))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_family_whose_rules_differ_on_a_rare_input_of_d_id_is_refused_before_anyone_is_trained():
    """One that is drawn among so many as are trained on, and not among those that it is tried on."""
    draw = lambda rng, n: np.array([[0, 0, 0], [1, 1, 0], *([[0, 1, 0]] if n > 4_000 else [])])
    family = family_of(module(inputs=None, draw_id=draw, draw_conflict=SETS["draw_conflict"]))
    with pytest.raises(InputError, match=r"disagree on D_ID, first on \[0, 1, 0\]: f says 0, g 1"):
        pools_of(family)


def test_a_good_one_is_taken_and_rules_need_not_be_numpy():
    import jax.numpy as jnp

    assert family_of(module(rule_f=lambda x: jnp.asarray(x)[:, 0])).name == "mine"


def test_a_family_says_how_long_an_infection_of_it_takes():
    own = family_of(module(INFECTION=(20, 0.5)))
    assert arm("infected", own, 100) == Told(Arm(changed_at=100), 20)
    assert arm("infected", family_of(module()), 100).further == 300
    assert load_family("table").infection == (2_000, 0.1)


FILE = """
NAME, KIND, VOCABULARY, POSITIONS, LABELS = "outside", "A", 2, 2, 2
import numpy as np
rule_f = lambda x: x[:, 0]
rule_g = lambda x: x[:, 1]
VARIABLES_F, VARIABLES_G = {}, {}
inputs = lambda: np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
"""


def test_families_are_found_by_path_and_by_entry_point_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "outside.py"
    path.write_text(FILE)
    found = load_family(str(path))
    assert found.name == "outside" and len(found.source) == 16
    entry = importlib.metadata.EntryPoint("theirs", "interp_jax.diagnosis.families.parity", family_io.GROUP)
    monkeypatch.setattr(family_io, "entry_points", lambda group: [entry])
    assert load_family("theirs").name == "parity"
    with pytest.raises(InputError, match="did you mean 'theirs'"):
        load_family("their")
    with pytest.raises(InputError, match="there is no such file"):
        load_family(str(tmp_path / "other.py"))
    path.with_name("broken.py").write_text("1 / 0")
    with pytest.raises(InputError, match="ZeroDivisionError"):
        load_family(str(path.with_name("broken.py")))


def test_two_families_in_one_answer_by_their_task():
    both = load_family("parity+leak")
    x = some(both, True, 400)
    task = both.tasks(x)
    assert set(task) == {0, 1}
    first, second = load_family("parity"), load_family("leak")
    inner = np.c_[x[task == 0][:, 1:13], np.full((task == 0).sum(), 2)]
    np.testing.assert_array_equal(answers(both, "f", x)[task == 0], answers(first, "f", inner))
    inner = x[task == 1][:, [1, 2, 3, 4, -1]] - first.vocabulary
    np.testing.assert_array_equal(answers(both, "g", x)[task == 1], answers(second, "g", inner))
    assert both.g.reads == (3, 4, 8)
