"""The examination as an experiment: its members, what is observed when, and a report whose scores are kept."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from interp_jax import parts
from interp_jax.diagnosis import detection, families
from interp_jax.diagnosis.diagnosers_io import load_diagnoser
from interp_jax.diagnosis.examiner import NAME, family_of, fit, judge
from interp_jax.diagnosis.family_io import load_family
from interp_jax.diagnosis.student import ALWAYS
from interp_jax.errors import InputError
from interp_jax.experiments import exam
from interp_jax.experiments.config import load_config, override
from interp_jax.experiments.exam import page, runs, scores
from interp_jax.experiments.exam.cohort import along, cohorts
from interp_jax.experiments.exam.population import acceptance_rows
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.sweep import expand
from interp_jax.results.blocks import TableBlock, Text
from interp_jax.train.population import population
from interp_jax.train.run import Span

CHEAP = ("loss", "weight_norm", "attention")


@pytest.mark.parametrize("arg", ["tiny", "", "arms", "full"])
def test_members_are_few_groups_of_every_arm(arg):
    config, module, _ = load_config(f"configs/exam.py:{arg}" if arg else "configs/exam.py")
    members = expand(config, module, arg=arg)
    groups = {jax.tree.structure(one.part) for one in members}
    families = {one.part.family for one in members}
    assert len(groups) <= 4 * len(families) and {one.part.arm.learned for one in members} >= {0.0, 1.0}
    pairs = [one.part for one in members if one.part.family == "leak" and one.part.arm.changed_at == ALWAYS]
    assert {one.seed for one in pairs if one.arm.learned == 1} >= {one.seed for one in pairs if one.arm.learned == 0}


@pytest.mark.parametrize("name", ["configs/exam.py", "configs/cure.py"])
def test_a_family_of_ones_own_sits_beside_those_of_the_default(name, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text((Path(families.__path__[0]) / "parity.py").read_text().replace('"parity"', '"mine"'))
    config, module, _ = load_config(name)
    config = override(config, {"family": f"leak,{file}"})
    beside = expand(config, module, ["beside"], told=("family",))
    default = {one.hash for one in expand(load_config(name)[0], module)}
    assert default < {one.hash for one in beside}
    own = [one for one in beside if one.hash not in default]
    assert len(own) == len(default) // 6 and {one.part.family for one in own} == {str(file)}


def test_observations_fall_before_an_infection_and_along_a_training():
    assert runs.observation_steps(runs.Config(steps=1_800, further=300)) == (1_500, 1_800)
    steps = runs.observation_steps(runs.Config(steps=1_500, checkpoints=20))
    assert steps[0] == 10 and steps[-1] == 1_500 and len(steps) == 20
    ratios = np.diff(np.log(steps))
    assert ratios.std() < 0.05 * ratios.mean()


def test_wrong_configs_are_refused():
    with pytest.raises(InputError, match="did you mean 'parity'"):
        runs.Config(family="pairity").check()
    with pytest.raises(InputError, match="has digest"):
        runs.Config(source="0" * 16).check()
    with pytest.raises(InputError, match=r"learned = 2.0: a probability"):
        runs.Arm(learned=2.0).check()
    with pytest.raises(InputError, match="did you mean 'learned'"):
        runs.students(["leak"], {"learnt": 1})


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    """Pairs of sums and two that are infected, as the engine leaves them; trained for too short a time."""
    directory = tmp_path_factory.mktemp("exam") / "chunks" / "0"
    student = runs.Student(d_model=8, n_heads=2, d_mlp=8, batch_size=16)
    arms = [runs.Arm(), runs.Arm(learned=0.0), runs.Arm(changed_at=40)]
    members = [
        runs.Config(seed=seed, steps=60, further=20, family="leak", student=student, arm=arm)
        for seed in range(2)
        for arm in arms
    ]
    built, config = runs.experiment(members[0]), parts.stack(members)

    def whole(hypers, span):
        state, _ = built.run.advance(built.run.init(hypers.seed, hypers), hypers, span, built.shared)
        return built.observe(state, hypers, built.shared)

    program, n = population(whole, 1, jax.devices()[:1]), len(members)
    seen = {step: jax.device_get(program(config, Span(0, step))) for step in built.observe_at}
    names = tuple(map(str, range(n)))
    return [GroupResult(config, names, np.full(n, -1), seen, {}, np.zeros(0), (str(directory),) * n, np.zeros(n))]


def test_who_has_not_learned_yet_is_counted_and_not_dropped(groups):
    (one,) = cohorts(groups)
    assert sorted(one.arm) == ["cheated"] * 2 + ["infected"] * 2 + ["learned"] * 2 and (one.refused != "").all()
    rows = acceptance_rows([one])
    assert [row["students"] for row in rows] == [2, 2, 2] and {row["accepted"] for row in rows} == {0}
    assert all("2 wrong on held-out D_ID" in row["refused"] for row in rows)
    told = exam.report(groups)
    assert "nothing to tell apart" in told.blocks[-1].text
    for name, leaf in groups[0].observations[40].items():  # an infected student is its twin until it is infected
        np.testing.assert_array_equal(leaf[0], leaf[2], err_msg=name)
    later = groups[0].observations[60]["params/embed/W_E"]
    assert (later[0] != later[2]).any()
    assert along(groups) == {}


def test_the_report_keeps_scores_and_reads_them_again(groups, monkeypatch):
    monkeypatch.setattr("interp_jax.experiments.exam.cohort.refusal", lambda *rest: "")
    monkeypatch.setattr(page, "every_diagnoser", lambda: [load_diagnoser(n) for n in (*CHEAP, "weight_classifier")])
    monkeypatch.setattr("interp_jax.experiments.exam.figures.DRAWS", 40)
    told = exam.report(groups)
    (unasked,) = [block.text for block in told.blocks if isinstance(block, Text) and "Not asked" in block.text]
    assert unasked.endswith("there are none: the combined examiner, weight classifier.")
    rows = {row[0]: row for block in told.blocks if isinstance(block, TableBlock) for row in block.table.rows}
    figures = json.loads(json.dumps(told.data["exam.json"], default=float))["detection"]
    assert figures["loss"]["macro"] == {"value": 0.5, "low": 0.5, "high": 0.5} and "attention" in rows
    assert figures["weight norm"]["mirrored"]["leak"]["value"] == 0.5
    assert (
        0 <= figures["attention"]["mirrored"]["leak"]["low"] <= figures["attention"]["mirrored"]["leak"]["high"] <= 1
    )
    misled = [
        figures[name]["misled"]["leak"]["value"] for name in ("loss", "attention")
    ]  # they ignore variables: f told otherwise is f
    assert set(misled) <= {0.0, 0.5}  # of two that learned at most the higher one is above all other entries
    assert all(
        figures["attention"][arm]["all"]["n"] == n for arm, n in (("infected", 2), ("false_alarms", 0), ("misled", 2))
    )
    over = figures["attention"]["over_families"]
    assert over["tpr_at_5_fpr"]["value"] == figures["attention"]["tpr_at_5_fpr"]["leak"] and "graded" not in over
    monkeypatch.setattr(scores, "examine", None)  # all of it is on disk
    again = exam.report(groups)
    assert json.dumps(again.data, default=float) == json.dumps(told.data, default=float)
    assert load_family("leak").name in told.data["exam.json"]["acceptance"][0]["family"]


def test_the_combined_examiner_is_the_first_row_where_there_are_two_families(groups, tmp_path, monkeypatch):
    monkeypatch.setattr("interp_jax.experiments.exam.cohort.refusal", lambda *rest: "")
    monkeypatch.setattr(page, "every_diagnoser", lambda: [load_diagnoser(n) for n in CHEAP])
    monkeypatch.setattr("interp_jax.experiments.exam.figures.DRAWS", 40)
    own = Path(families.__path__[0]) / "leak.py"
    file = tmp_path / "again.py"
    file.write_text(own.read_text().replace('NAME, KIND = "leak"', 'NAME, KIND = "again"'))
    again = groups[0]._replace(config=dataclasses.replace(groups[0].config, family=str(file)))
    told = exam.report([*groups, again])
    data = json.loads(json.dumps(told.data["exam.json"], default=float))
    alone = data["examiner_without_sums"]  # of which none took part here
    assert alone["macro"] == data["detection"][NAME]["macro"] and "exchanged tokens" in alone["without"]
    behind = data["detection"]["attention"]["behind_the_examiner"]
    macro = {name: data["detection"][name]["macro"]["value"] for name in (NAME, "attention")}
    assert behind["value"] == pytest.approx(macro[NAME] - macro["attention"])
    figures, weights = data["detection"], data["examiner"]
    assert next(iter(figures)) == NAME and figures[NAME]["tier"] == 1
    assert figures[NAME]["mirrored"].keys() == weights.keys() == {"leak", "again"}
    assert weights["leak"].keys() == {"attention"}  # the others ignore the rule
    rows = [
        row for block in told.blocks if isinstance(block, TableBlock) for row in block.table.rows if row[0] == NAME
    ]
    assert len(rows) == 4 and rows[0][2].low <= rows[0][2].mean <= rows[0][2].high
    names = ["attention"]
    sick = [scores.patients(page.matched(one)) for one in cohorts([*groups, again])]
    found = scores.scores(sick, page.every_diagnoser(), Path(groups[0].directories[0]).parents[1])
    by_hand = judge(fit([family_of(found, "again", names)], names), family_of(found, "leak", names))
    expected = detection.mirrored(found["loss"]["leak"]._replace(score=by_hand))
    assert figures[NAME]["mirrored"]["leak"]["value"] == pytest.approx(expected)
