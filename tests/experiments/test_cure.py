"""Treatments of patients built by hand, kept as they are found, and the record made of them."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.atomic_io import jsonable
from interp_jax.diagnosis.acceptance import Measures
from interp_jax.diagnosis.cures import cut, fine_tune, hide
from interp_jax.diagnosis.detection import Scored
from interp_jax.diagnosis.examination import Diagnoser
from interp_jax.diagnosis.pools import pools_of
from interp_jax.diagnosis.treatment import cure_of
from interp_jax.errors import InputError
from interp_jax.experiments.config import load_config
from interp_jax.experiments.exam import record_page, treatment
from interp_jax.experiments.exam.cohort import Cohort
from interp_jax.experiments.known_answers.patients import two_bits, ward
from interp_jax.experiments.sweep import expand
from interp_jax.models.rival_circuit import CFG, rival_circuit
from interp_jax.results.blocks import Figure, Section, TableBlock, Text


def weight_of_cue(view, *_):
    """By how much the cue moves the answers."""
    stream, slope = view.input_gradient(lambda logits: logits[:, 1] - logits[:, 0])
    return jnp.abs((slope * (stream - stream.mean(0))).sum(-1))[:, 5].mean()


PERFECT = Diagnoser("perfect", 1, 1, weight_of_cue, lambda *a: jnp.eye(9)[5])
CURES = [cure_of(module)._replace(steps=0, release=None) for module in (cut, hide, fine_tune)]


@pytest.fixture(scope="module")
def cohort():
    """Two that learned, one that is infected, one that cheated."""
    made, healthy, n = two_bits(), rival_circuit(shortcut=0.0), 4
    own = ward(healthy, healthy, rival_circuit(), rival_circuit(learned=False))
    by_f, seed = np.array([1.0, 1.0, 0.0, 0.0]), np.array([0, 1, 0, 0], np.int32)
    return Cohort(
        name="two bits",
        family=made,
        task=0,
        cfg=CFG,
        params=own.params,
        arm=np.array(["learned"] * 2 + ["infected", "cheated"]),
        seed=seed,
        hashes=np.array([f"{i}" for i in range(n)]),
        refused=np.full(n, ""),
        measures=Measures(np.ones(n), np.zeros(n), by_f, 1 - by_f, 1 - by_f, by_f, 1 - by_f),
        first_weights=seed,
        order=seed,
        pools=pools_of(made),
    )


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("cure")


def test_treatments_are_what_the_hand_built_patients_allow_and_are_kept(cohort, directory, monkeypatch):
    (one,) = treatment.records([cohort], PERFECT, PERFECT, CURES, directory)
    assert one.cohort.arm.tolist() == ["infected", "cheated"] and one.oracle.tolist() == [1, 1]
    assert (one.before.conflict_accuracy == 0).all() and (one.before.id_accuracy == 1).all()
    cut_, none = one.treatments["cut"], one.treatments["fine tune"]
    assert cut_.counts == (1, 2, 5) and none.counts == (0,) and cut_.dose.tolist() == [0, 0]
    assert (cut_.after.conflict_accuracy[0] == 1).all() and (cut_.worth.score[0] > 0.5).all()
    assert one.score("cut")[1] < 0.7 and (none.worth.score == 0).all()
    assert one.prescribed == ["cut"] * 2 and (one.score(one.prescribed) == one.score("cut")).all()
    assert (one.found > 1).all() and (cut_.found < 1e-5).all() and (none.found == one.found).all()
    assert one.kept == ["cut"] * 2 and one.apparent["cut"][0] > 0.7 and (one.apparent["hide"] == 0).all()
    assert set(one.foreseen) == {"infected", "cheated"} and one.foreseen["infected"].min() > one.foreseen["cheated"][0]
    monkeypatch.setattr(treatment, "treated", None)  # what is kept is not done again
    monkeypatch.setattr(treatment.prognosis, "prospects", None)
    (again,) = treatment.records([cohort], PERFECT, PERFECT, CURES, directory)
    np.testing.assert_array_equal(again.treatments["cut"].worth.score, cut_.worth.score)
    np.testing.assert_array_equal(again.prospect, one.prospect)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="mappings are counted on Linux")
def test_programs_are_given_back_family_by_family(cohort, tmp_path):
    """Those of six families at once were more than a process may map."""
    mapped = lambda: len(Path("/proc/self/maps").read_text().splitlines())
    treatment.forget_programs()
    before = mapped()
    treatment.records([cohort], PERFECT, PERFECT, CURES, tmp_path)
    assert mapped() < before + 300


def test_nobody_is_treated_where_nobody_learned(cohort, directory):
    assert treatment.records([cohort.of(np.arange(2, 4))], PERFECT, PERFECT, CURES, directory) == []
    blocks, data = record_page.medical_record([cohort.of(np.arange(2))], {}, [], directory, PERFECT, PERFECT, CURES)
    assert "There is no patient" in blocks[0].text and data == {}


def test_the_record_says_who_what_where_and_what_came_of_it(cohort, directory):
    score = np.array([[0.1, 0.9], [0.2, 0.8], [0.9, 0.2], [0.15, 0.1]])
    found = {"perfect": {"two bits": Scored(score, cohort.arm, cohort.seed, np.zeros(4))}}
    blocks, data = record_page.medical_record([cohort], found, [PERFECT], directory, PERFECT, PERFECT, CURES)
    headings = [block.heading for block in blocks if isinstance(block, Section)]
    assert headings == [
        "What came of it",
        "Record: two bits",
        "Where it sits, by the referee",
        "Curable, or never learned?",
        "The instruments",
    ]
    tables = [block.table for block in blocks if isinstance(block, TableBlock)]
    first = dict(zip(tables[1].columns, tables[1].rows[0], strict=True))
    assert first["patient"] == "infected\u00a00" and first["where"] == 5 and first["shortcut"] == 1.0
    assert first["prescribed"] == "cut, 1" and first["verdict"] == "cheats" and tables[1].rows[1][3] == "not told"
    # of the truthful entries .1, .2 (learned, f declared) and .1 (cheated, g declared) none has .9; one is above .15
    assert tables[1].rows[0][2] == "0 of 3 (0.00\u00a0…\u00a00.71)" and tables[1].rows[1][2].startswith("1 of 3")
    checkup = dict(zip(tables[2].columns, tables[2].rows[0], strict=True))
    assert checkup["given"] == checkup["best by the check-up"] == "cut" and checkup["as high"] == "3 of 3"
    course = dict(zip(tables[3].columns, tables[3].rows[0], strict=True))
    assert course["by f on D_X before"] == 0.0 and course["after"] == course["its twin"] == 1.0
    assert len([block for block in blocks if isinstance(block, Figure)]) == 4
    assert not [block for block in blocks if isinstance(block, Text)]
    assert data["two bits"]["prognosis_auroc"] == 1.0 and data["two bits"]["cures"]["cut"]["touched"] == [1, 2, 5]
    place = data["two bits"]["ndcg"]["positions"]  # no conflict is answered by g where the cue's is not there
    assert place["diagnosis"][0] == 1.0 > place["chance"] > 0
    assert tables[4].columns[2:4] == ("positions", "positions, by chance")
    json.dumps(jsonable(data))


def test_what_may_be_prescribed_must_be_given(cohort, directory):
    with pytest.raises(InputError, match="hide may be prescribed"):
        treatment.records([cohort], PERFECT, PERFECT, [CURES[0]], directory)


def test_a_twin_is_of_the_same_seed_else_all_that_learned(cohort):
    other = cohort._replace(measures=cohort.measures._replace(by_f=np.array([0.9, 0.7, 0, 0])))
    alone = other.of(np.array([2, 3, 3]))._replace(seed=np.array([0, 1, 7]))
    np.testing.assert_allclose(treatment.twins(other, alone), [0.9, 0.7, 0.8])


def test_members_are_of_every_kind_that_a_record_needs():
    for arg in ("tiny", ""):
        config, module, _ = load_config(f"configs/cure.py:{arg}" if arg else "configs/cure.py")
        members = expand(config, module, arg=arg)
        kinds = {(one.part.family, float(one.part.arm.learned), one.part.further > 0) for one in members}
        for family_ in {one.part.family for one in members}:
            assert kinds >= {(family_, 1.0, False), (family_, 0.0, False), (family_, 1.0, True)}
    assert jax.tree.leaves(members[0].part)
