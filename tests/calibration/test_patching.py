"""The calibrations of patching hold their bars, and their judges fail where methods are wrong."""

import functools

import numpy as np
import pytest

from interp_jax import parts
from interp_jax.experiments.config import build_experiment, compose
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.known_nodes import calibration, false_positives, report, runs
from interp_jax.experiments.known_nodes.populations import MODULE, everything
from interp_jax.experiments.known_nodes.scores import populations
from interp_jax.patching.prompts import DIRECTIONS
from interp_jax.results.blocks import Section, TableBlock
from interp_jax.results.report import render

ROWS = {one.name: one for one in calibration.instruments()}


@functools.cache
def analysed(member):
    return runs.analysis(member, int(member.seed))


def groups(configs):
    """The groups of some runs, straight from the analysis."""
    by_shape = {}
    for member in map(build_experiment, configs):
        by_shape.setdefault((member.circuit, member.corruption, member.random_heads), []).append(member)
    found = []
    for members in by_shape.values():
        each = [analysed(member) for member in members]
        seen = {name: np.stack([one[name] for one in each]) for name in each[0]}
        n = len(members)
        hashes = tuple(map(str, range(n)))
        found.append(
            GroupResult(
                parts.stack(members), hashes, np.full(n, -1), {1: seen}, {}, np.zeros(0), ("",) * n, np.zeros(n)
            )
        )
    return found


def changed(given, change):
    """The groups with all that was seen put through a function of (name, values)."""
    return [
        group._replace(observations={1: {name: change(name, x) for name, x in group.observations[1].items()}})
        for group in given
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_holds_its_bar(name):
    verdict = ROWS[name].judge(groups(ROWS[name].configs(False)))
    assert verdict.passed, verdict
    assert verdict.low <= verdict.value <= verdict.high


@functools.cache
def quick(kind):
    return groups(ROWS[f"patching: {kind}"].configs(True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["exact, nodes", "exact, direct paths", "AtP, saturated or cancelling"])
def test_an_error_of_one_share_is_caught(kind):
    row = ROWS[f"patching: {kind}"]
    assert row.judge(quick(kind)).passed
    for way in DIRECTIONS:
        for wrong in ("truth", "edges_truth", "first_order"):
            judged = row.judge(changed(quick(kind), lambda name, x: x + 1e-3 * (name == f"{way}.{wrong}")))  # noqa: B023
            about = {"exact, nodes": "truth", "exact, direct paths": "edges_truth"}.get(kind, "first_order")
            assert judged.passed == (wrong != about)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["AtP", "AtP, exact softmax", "exact patching"])
def test_what_a_method_reaches_is_no_other_methods(method):
    """The same runs, with one method's effects taken for another's."""
    kind = f"{method}, nodes found"
    own = next(name for name, label in runs.METHODS.items() if label == method)
    assert ROWS[f"patching: {kind}"].judge(quick(kind)).passed
    for other in {"exact", "gradient", "softmax"} - {own}:
        given = [
            group._replace(observations={1: seen | {f"{way}.{own}": seen[f"{way}.{other}"] for way in DIRECTIONS}})
            for group in quick(kind)
            for seen in [group.observations[1]]
        ]
        assert not ROWS[f"patching: {kind}"].judge(given).passed


@pytest.mark.slow
def test_a_false_node_is_caught():
    kind = "exact patching, nodes found"

    def add(name, x):
        x = x.copy()
        if name == "denoising.exact":
            x[:, 0, 0, -1] += 10.0  # a random head's output
        return x

    assert not ROWS[f"patching: {kind}"].judge(changed(quick(kind), add)).passed


@pytest.mark.slow
def test_the_report_has_a_section_for_everything():
    """Made of the same runs, quick ones."""
    page = report(groups(compose(MODULE, **overrides) for overrides in everything(quick=True)))
    headings = [block.heading for block in page.blocks if isinstance(block, Section)]
    assert len(headings) == len(set(headings)) == 11
    accuracy = [b.table for b in page.blocks if isinstance(b, TableBlock) and "denoising: recall" in b.table.columns]
    assert [table.rows[0] for table in accuracy] == [("exact patching", 1.0, 1.0, 1.0, 1.0)] * 2
    assert "NaN" not in render(page.title, page.summary, page.blocks)


def null(effect, n=150, seed=0):
    """Runs as of a model without effects, with effects of 8 nodes on 12 examples drawn here."""
    rng = np.random.default_rng(seed)
    seen = {"clean": np.zeros((n, 12)), "corrupted": np.zeros((n, 12))}
    for way in DIRECTIONS:
        seen |= {f"{way}.{method}": effect(rng, (n, 4, 1, 2, 12)).astype(np.float32) for method in runs.METHODS}
        seen |= {f"{way}.random": rng.normal(size=(n, 20, 12)).astype(np.float32)}
    config = build_experiment(ROWS["patching: exact, intervals"].configs(True)[0])
    hashes = tuple(map(str, range(n)))
    stacked = parts.stack([config] * n)
    return populations(
        [GroupResult(stacked, hashes, np.full(n, -1), {1: seen}, {}, np.zeros(0), ("",) * n, np.zeros(n))]
    )


def test_the_judges_of_rates_tell_a_mean_effect_from_none():
    none, some = null(lambda rng, shape: rng.normal(size=shape)), null(lambda rng, shape: rng.normal(0.3, 1, shape))
    for judge in (functools.partial(false_positives.judge_rate, "exact"), false_positives.judge_family):
        assert judge(none).passed and not judge(some).passed
    assert false_positives.judge_coverage(none).value == pytest.approx(0.95, abs=0.02)
    assert not false_positives.judge_coverage(some).passed


def test_rounding_of_one_sign_is_not_called_and_effects_are():
    rounding = null(lambda rng, shape: 1e-7 * rng.uniform(size=shape), n=10)
    assert false_positives.judge_rate("exact", rounding).value == 1
    assert false_positives.judge_rounding(rounding).passed
    assert not false_positives.judge_rounding(null(lambda rng, shape: rng.normal(3, 1, shape), n=10)).passed
