"""The engine against loops by hand in NumPy: fits of every split, choices of nested ones, controls, weights, devices."""

import itertools
import warnings
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.probes import bilinear, l1, logistic, mlp, ridge
from interp_jax.probes.everywhere import Examples, balanced, everywhere
from interp_jax.probes.linear import Linear, predict
from interp_jax.probes.moments import moments_like
from interp_jax.probes.positive import solve
from interp_jax.probes.probe import Probe
from interp_jax.probes.splits import cross_validation, held_out
from interp_jax.probes.targets import LABELS, REAL

RNG = np.random.default_rng(0)
B, D, PENALTIES = 60, 3, np.array([0.1, 10.0, 1000.0])
X = RNG.normal(size=(2, 2, B, D)).astype(np.float32) + 2
Y = np.stack([X[0, 0, :, 0] + 0.3 * RNG.normal(size=B), X[1, 1, :, 1] - X[1, 1, :, 2]])
TYPES = RNG.integers(0, 7, B)
UNTRAINED = RNG.normal(size=X.shape).astype(np.float32)
ELSEWHERE = np.arange(B) >= 50
AXES = {"layer": (0, 1), "position": ("first", "last")}


def least_squares(x, y, w, penalty):
    rows = np.r_[np.sqrt(w)[:, None] * np.c_[x, np.ones(len(x))], np.sqrt(penalty) * np.eye(D, D + 1)]
    return np.linalg.lstsq(rows, np.r_[np.sqrt(w) * y, np.zeros(D)], rcond=None)[0]


def r2(z, y):
    return 1 - np.square(z - y).sum() / np.square(y - y.mean()).sum()


@pytest.fixture(scope="module")
def plain():
    splits = cross_validation(B, 3, elsewhere=ELSEWHERE, seeds=2)
    examples = Examples(X, Y, types=TYPES, untrained=UNTRAINED)
    return everywhere(ridge.PROBE, examples, splits, ridge.Hypers(PENALTIES), axes=AXES, labels=("a", "b"))


def by_hand(x, y, fold, penalty, n_folds=3):
    """R² by fold, and scores by example; those of no fold by the fit of all folds."""
    scores, measures = np.full(len(y), np.nan), []
    for f in range(n_folds + 1):
        w = ((fold != f) & (fold < n_folds)).astype(float)
        z = np.c_[x, np.ones(len(x))] @ least_squares(x, y, w, penalty)
        scores[fold == f] = z[fold == f]
        measures.append(r2(z[fold == f], y[fold == f]))
    sizes = np.bincount(fold)[:n_folds]
    return np.average(measures[:-1], weights=sizes), measures[-1], scores


def test_controls_that_are_not_there_are_warned_of_unless_that_is_said():
    run = lambda **more: everywhere(
        ridge.PROBE,
        Examples(X[0, 0], Y[0], **more.pop("given", {})),
        cross_validation(B, 3),
        ridge.Hypers(1.0),
        **more,
    )
    with pytest.warns(UserWarning, match=r"no control 'types' \(give `types`, .* and 'untrained' \(give `untrained`"):
        run()
    with pytest.warns(
        UserWarning, match=r"no control 'untrained' .*; without=\('untrained',\) says that this is meant"
    ):
        run(given={"types": TYPES})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = run(without=("types", "untrained"))
    assert got.axes["control"] == ("true", "shuffled", "direction")
    with pytest.raises(InputError, match="without = 'shuffled', a control that is always there"):
        run(without=("shuffled",))


def test_a_sweep_is_one_program_and_further_sweeps_compile_none(compilations):
    """Other activations, labels, folds, penalties and seeds of the same shapes are data."""
    options = {"axes": AXES, "without": ("untrained",)}
    with compilations() as names:
        for n in range(3):
            examples = Examples(X + n, Y[:, ::-1].copy() if n else Y, types=TYPES)
            splits = cross_validation(B, 3, seeds=2, seed=n)
            everywhere(ridge.PROBE, examples, splits, ridge.Hypers(PENALTIES * (n + 1)), seed=n, **options)
            if not n:
                first = len(names)
    assert names.count("on_device") == 1 and len(names) == first, names[first:]


def test_names_and_shapes(plain):
    assert list(plain.axes) == ["layer", "position", "seed", "label", "control", "hyper"]
    assert plain.axes["control"] == ("true", "shuffled", "types", "direction", "untrained")
    assert plain.measures.r2.shape == tuple(map(len, plain.axes.values())) == (2, 2, 2, 2, 5, 3)
    assert plain.scores.shape == (2, 2, 2, 2, 5, 3, B) and plain.params.weights.shape == (2, 2, 2, 2, 3, D)
    assert plain.unconverged() == [] and (plain.chosen == -1).all()


@pytest.mark.parametrize("control", ["true", "shuffled", "types", "untrained"])
def test_every_member_is_the_fit_that_a_loop_makes(plain, control):
    targets = plain.targets(control)
    x = UNTRAINED if control == "untrained" else X
    k = plain.control(control)
    for i, j, seed, label in itertools.product(range(2), repeat=4):
        for h, penalty in enumerate(PENALTIES):
            y = targets[i, j, seed, label]
            inside, outside, scores = by_hand(x[i, j], y, plain.splits.fold[seed], penalty)
            np.testing.assert_allclose(plain.measures.r2[i, j, seed, label, k, h], inside, atol=1e-3)
            np.testing.assert_allclose(plain.elsewhere.r2[i, j, seed, label, k, h], outside, atol=2e-3)
            np.testing.assert_allclose(plain.scores[i, j, seed, label, k, h], scores, atol=1e-3)


def test_a_random_direction_says_as_much_as_one_column(plain):
    """The scores are linear in one direction of x, of each fold its own line, and the same direction for all labels."""
    fold, k = plain.splits.fold[0], plain.control("direction")
    rows = np.c_[X[0, 0], np.ones(B)][fold == 0]
    lines = [np.linalg.lstsq(rows, plain.scores[0, 0, 0, c, k, 0, fold == 0], rcond=None)[0][:D] for c in range(2)]
    one, other = (line / np.linalg.norm(line) for line in lines)
    np.testing.assert_allclose(abs(one @ other), 1, atol=1e-4)


def test_controls_have_the_targets_that_they_should(plain):
    shuffled, typed = plain.targets("shuffled"), plain.targets("types")
    for seed in range(2):
        for part in (ELSEWHERE, ~ELSEWHERE):
            np.testing.assert_array_equal(np.sort(shuffled[0, 0, seed, 0, part]), np.sort(np.float32(Y[0, part])))
        for kind in np.unique(TYPES):
            assert len(set(typed[0, 0, seed, 0, kind == TYPES])) == 1
    assert (shuffled[0, 0, 0] != shuffled[0, 0, 1]).any() and len(set(typed[0, 0, 0, 0])) > 3
    np.testing.assert_allclose(plain.selectivity(), plain.measure("r2") - plain.measure("r2", "types"))


def test_params_are_of_the_fit_of_all_folds(plain):
    want = least_squares(X[1, 0], Y[1], (~ELSEWHERE).astype(float), PENALTIES[1])
    np.testing.assert_allclose(plain.params.weights[1, 0, 0, 1, 1], want[:D], atol=1e-4)
    np.testing.assert_allclose(plain.params.bias[1, 0, 1, 1, 1], want[D], atol=1e-4)


def test_nested_splits_choose_without_seeing_what_they_are_scored_on():
    splits = cross_validation(B, 3, elsewhere=ELSEWHERE, nested=True)
    fold = splits.fold[0]
    got = everywhere(ridge.PROBE, Examples(X[0, 0], Y[0]), splits, ridge.Hypers(PENALTIES))
    assert got.measures.r2.shape == (1, 1, 4 - 1, 1)
    for k, control in enumerate(("true", "shuffled")):
        y = got.targets(control)[0, 0]
        merit = lambda out, on, p, y=y: r2(
            (np.c_[X[0, 0], np.ones(B)] @ least_squares(X[0, 0], y, (~np.isin(fold, [*out, 3])).astype(float), p))[
                fold == on
            ],
            y[fold == on],
        )
        for f in range(3):
            others = [g for g in range(3) if g != f]
            inner = [np.mean([merit((f, g), g, p) for g in others]) for p in PENALTIES]
            assert got.chosen[0, 0, k, f] == np.argmax(inner)
        chosen = got.chosen[0, 0, k]
        want = np.average([merit((f,), f, PENALTIES[chosen[f]]) for f in range(3)], weights=np.bincount(fold)[:3])
        np.testing.assert_allclose(got.measures.r2[0, 0, k, 0], want, atol=1e-3)
        whole = [np.average([merit((f,), f, p) for f in range(3)], weights=np.bincount(fold)[:3]) for p in PENALTIES]
        assert chosen[3] == np.argmax(whole)
    want = least_squares(X[0, 0], Y[0], (fold < 3).astype(float), PENALTIES[got.chosen[0, 0, 0, 3]])
    np.testing.assert_allclose(got.params.weights[0, 0, 0], want[:D], atol=1e-4)


def by_products(key, x, y, w, hypers):
    """Ridge regression without LAPACK, which programs of several CPU devices cannot call."""
    m = moments_like(x, y, w)
    weights = solve(m.scatter + hypers.penalty * jnp.eye(x.shape[1]), m.cross[:, None])[:, 0]
    return Linear(weights, m.target_mean - weights @ m.mean)


def test_a_probe_of_forty_lines_goes_through_rows_and_agrees_with_the_one_from_moments():
    """The same ridge without `from_moments`; labels with weights of their own; two devices; few splits at once."""
    rows = ridge.PROBE._replace(from_moments=None)
    splits = cross_validation(B, 3)
    w = np.stack([RNG.integers(0, 2, B), np.ones(B)]).astype(float)
    run = lambda probe, w, **more: everywhere(
        probe, Examples(X, Y, w), splits, ridge.Hypers(PENALTIES), axes=AXES, **more
    )
    ones = np.ones((2, B))
    by_rows = run(rows, ones, splits_at_once=2)
    np.testing.assert_allclose(by_rows.scores, run(ridge.PROBE, None).scores, atol=1e-3)
    spread = run(Probe(by_products, ridge.predict, REAL), w, devices=jax.devices()[:2])
    with pytest.raises(InputError, match="2 CPU devices never end so; give 1"):
        run(ridge.PROBE, w, devices=jax.devices()[:2])
    fold = splits.fold[0]
    for label, f in itertools.product(range(2), range(3)):
        want = least_squares(X[1, 0], Y[label], w[label] * (fold != f), PENALTIES[0])
        z = np.c_[X[1, 0], np.ones(B)] @ want
        np.testing.assert_allclose(spread.scores[1, 0, 0, label, 0, 0, fold == f], z[fold == f], atol=1e-3)


def test_iterative_fits_say_where_they_did_not_converge():
    """One step for all; balanced weights are those of repeated examples; bits of a coin that nobody can see."""
    y = (X[0, 0, :, 0] > 2.5).astype(float)
    splits = cross_validation(B, 2, strata=y)
    probe = logistic.PROBE._replace(fit=partial(logistic.fit, most_steps=1))
    short = everywhere(probe, Examples(X, y), splits, logistic.Hypers(1e-3), axes=AXES, labels=["above"])
    lines = short.unconverged()
    assert any(
        line.startswith("layer 0, position first, seed 0, label above, control true, hyper 0: 3 of 3")
        for line in lines
    )
    full = everywhere(logistic.PROBE, Examples(X[0, 0], y), splits, logistic.Hypers(1.0), weigh=balanced)
    assert full.unconverged() == [] and full.convergence.steps.shape == (1, 1, 3, 1, 3)
    w = np.asarray(balanced(jnp.float32(y), jnp.ones(B)))
    np.testing.assert_allclose([w[y == 1].sum(), w[y == 0].sum()], B / 2, rtol=1e-5)
    want = logistic.fit(None, jnp.array(X[0, 0]), jnp.float32(y), jnp.array(w), logistic.Hypers(1.0))
    np.testing.assert_allclose(full.params.weights[0, 0, 0], want.weights, atol=1e-4)
    assert full.measure("accuracy").item() > 0.85 and full.difference("accuracy").low.item() > 0.1
    each = full.each("accuracy")
    np.testing.assert_allclose(full.interval("accuracy").mean, each.mean(-1))
    right = (full.scores[0, 0, 0, 0] > 0) == (y > 0)
    np.testing.assert_array_equal(each[0, 0, 0], right)


class Means(NamedTuple):
    """A probe of rows at positions: what is read is the mean over them."""

    scale: float = 1.0


def test_positions_may_be_kept_and_targets_may_be_of_sites():
    """x [S B P D]; y of each site its own; one split that is given."""
    x, y = X.transpose(1, 2, 0, 3), np.stack([X[0, 0, :, :1].T, X[1, 1, :, 1:2].T])

    def fit(key, x, y, w, hypers):
        return ridge.fit(key, x.mean(1) * hypers.scale, y, w, ridge.Hypers(1e-3))

    probe = Probe(fit, lambda params, x: predict(Linear(*params[:2]), x.mean(1)), REAL)
    got = everywhere(probe, Examples(x, y), held_out(np.arange(B) >= 40), Means(), axes={"position": (0, 1)})
    assert got.scores.shape == (2, 1, 1, 3, 1, B) and np.isnan(got.scores[..., :40]).all()
    for site in range(2):
        want = least_squares(x[site].mean(1), y[site, 0], (np.arange(B) < 40).astype(float), 1e-3)
        z = np.c_[x[site].mean(1), np.ones(B)] @ want
        np.testing.assert_allclose(got.scores[site, 0, 0, 0, 0, 40:], z[40:], atol=1e-3)
        np.testing.assert_allclose(got.measures.r2[site, 0, 0, 0, 0], r2(z[40:], y[site, 0, 40:]), atol=1e-3)


def test_examples_of_another_distribution_are_measured_by_themselves(plain):
    """Neither intervals nor differences pool them with those of folds."""
    outside = plain.outside()
    np.testing.assert_array_equal(outside.measures.r2, plain.elsewhere.r2)
    for found, rows in ((plain, ~ELSEWHERE), (outside, ELSEWHERE)):
        each, z, y = found.each("error"), plain.scores[:, :, :, :, 0], plain.targets()[..., None, :]
        np.testing.assert_allclose(each[..., rows], np.square(z - y)[..., rows], rtol=1e-5)
        assert np.isnan(each[..., ~rows]).all()
        np.testing.assert_allclose(found.interval("error").mean, np.square(z - y)[..., rows].mean(-1), rtol=1e-5)
        np.testing.assert_allclose(
            found.interval("error").mean - found.interval("error", "shuffled").mean,
            found.difference("error").mean,
            atol=1e-4,
        )
    with pytest.raises(InputError, match="every example is of a fold; give `elsewhere`"):
        everywhere(ridge.PROBE, Examples(X[0, 0], Y[0]), cross_validation(B, 3), ridge.Hypers(1.0)).outside()


def fails_at(penalty, lost):
    """Ridge regression whose fits with one penalty fail: nothing is left of their scores."""

    def fit(key, x, y, w, hypers):
        fitted = ridge.fit(key, x, y, w, hypers)
        return fitted._replace(bias=jnp.where(hypers.penalty == np.float32(penalty), lost, fitted.bias))

    return Probe(fit, predict, REAL, factorises=True)


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_a_regularisation_whose_fits_fail_is_not_chosen(lost):
    """Not even where all others are worse than a constant, whose R² is 0; and there is no figure of it."""
    splits = cross_validation(B, 3, nested=True)
    examples = Examples(X[0, 0], RNG.normal(size=B))
    worse = ridge.Hypers(np.array([1e-3, 1e-2, 1e-1]))
    probe = fails_at(1e-3, lost)
    got = everywhere(probe, examples, splits, worse)
    assert got.measure("r2").item() < 0 and (got.chosen > 0).all() and np.isfinite(got.scores).all()
    plain = everywhere(probe, examples, splits._replace(nested=False), worse)
    assert np.isnan(plain.measures.r2[..., 0]).all() and np.isfinite(plain.measures.r2[..., 1:]).all()


LABELLED = {
    "logistic": (logistic.PROBE, logistic.Hypers(1.0)),
    "l1": (l1.PROBE._replace(fit=partial(l1.fit, loss="labels")), l1.Hypers(1.0)),
    "mlp": (mlp.PROBE._replace(fit=partial(mlp.fit, loss="labels", width=4, tolerance=1e-4)), mlp.Hypers(1.0)),
    "bilinear": (bilinear.PROBE._replace(fit=partial(bilinear.fit, loss="labels", rank=1)), bilinear.Hypers(1.0)),
}


@pytest.mark.parametrize("name", LABELLED)
def test_several_labels_of_one_probe(name):
    """Their figures are the means over labels, and a fit has converged where all of its labels have."""
    y, splits = (X[0, 0] > 2).astype(float), cross_validation(B, 2)
    probe, hypers = LABELLED[name]
    got = everywhere(probe._replace(target=LABELS), Examples(X[:, 0], y[None]), splits, hypers, axes={"layer": (0, 1)})
    assert got.scores.shape == (2, 1, 1, 3, 1, B, D) and got.convergence.steps.shape == (2, 1, 1, 3, 1, 3)
    assert got.unconverged() == [] and got.measure("accuracy")[0].item() > 0.75
    right = (got.scores[0, 0, 0, 0, 0] > 0) == (y > 0)
    np.testing.assert_allclose(got.interval("accuracy").mean[0].item(), right.mean(), rtol=1e-5)
    if name == "logistic":  # each label has the fit that it has alone
        alone = everywhere(probe, Examples(X[0, 0], y.T), splits, hypers)
        np.testing.assert_allclose(got.params.weights[0, 0, 0, 0], alone.params.weights[0, :, 0], atol=1e-4)
        steps = got.convergence.steps[0, 0, 0, 0, 0]
        np.testing.assert_array_equal(steps, alone.convergence.steps[0, :, 0, 0].max(0))
        worst = alone.convergence.gradient[0, :, 0, 0].max(0)
        np.testing.assert_allclose(got.convergence.gradient[0, 0, 0, 0, 0], worst, atol=1e-6)


def test_several_numbers_have_an_interval_of_their_error():
    y, splits = np.stack([Y[0], 3 * Y[0] + 1], 1)[None], cross_validation(B, 3)
    got = everywhere(ridge.PROBE, Examples(X[0, 0], y), splits, ridge.Hypers(PENALTIES))
    want = np.square(got.scores[0, 0, 0] - np.float32(y[0])).mean((-2, -1))
    np.testing.assert_allclose(got.interval("error").mean[0, 0], want, rtol=1e-4)
    assert (got.difference("error").mean < 0).all()


def test_what_there_is_not_is_named(plain):
    with pytest.raises(InputError, match="no measure 'accuracy'.*r2"):
        plain.measure("accuracy")
    with pytest.raises(InputError, match="no control 'shufled'; did you mean 'shuffled'"):
        plain.measure("r2", "shufled")
    with pytest.raises(InputError, match="'r2' is no mean over examples; known: error"):
        plain.interval("r2")
