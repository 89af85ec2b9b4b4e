"""Bad input: one clear line for each, with the example and the site."""

import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.probes import lda, logistic, multinomial, ridge
from interp_jax.probes.everywhere import Examples, everywhere
from interp_jax.probes.inputs import check
from interp_jax.probes.splits import cross_validation
from interp_jax.probes.targets import LABELS

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 20, 4)).astype(np.float32)
Y = (np.arange(20) % 2).astype(float)
AXES = {"layer": (4, 5), "position": ("a", "b", "c")}


def checked(x=X, y=Y, axes=AXES, labels=("even",), probe=logistic.PROBE, folds=5, **more):
    return check(probe, Examples(x, y, **more), cross_validation(20, folds), axes, labels)


def changed(at, value):
    x = X.copy()
    x[at] = value
    return x


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"x": changed((1, 2, 7, 0), np.nan)},
            "x has a number that is not finite, in example 7 at layer 5, position c",
        ),
        ({"untrained": changed((0, 1, 3, 0), np.inf)}, "untrained x has .* in example 3 at layer 4, position b"),
        ({"x": changed((0, 1), 3.0)}, "x is the same for all examples at layer 4, position b; is the site read"),
        ({"y": np.zeros(20)}, "'even' has one class only in the 20 examples"),
        ({"y": np.arange(20) < 3}, "'even' has 3 examples of class 1, fewer than its 5 folds"),
        ({"y": np.where(np.arange(20) == 4, np.nan, Y)}, "'even' of example 4 is not finite"),
        (
            {"axes": {"layer": (4, 5), "position": ("a", "b", "c", "d")}},
            "4 names of axis 'position' .'d' the last., but x has 3",
        ),
        (
            {"axes": {"layer": (4, 5), "position": "abc", "head": (0,)}},
            "1 names of axis 'head' .* but x has none there",
        ),
        ({"y": 2 * Y - 1}, r"'even' of example 0 is -1.0; this probe's targets must be 0 or 1"),
        ({"y": 2 * Y}, r"'even' of example 1 is 2.0; this probe's targets must be 0 or 1"),
        ({"y": np.array(["no", "yes"] * 10)}, "targets such as .*'no'.*, of example 0; they must be numbers"),
        (
            {"y": np.eye(2)[np.arange(20) % 2][None]},
            r"'even' of example 0 is \[1.0, 0.0\]; this probe's targets must be 0 or 1",
        ),
        (
            {"y": np.arange(20) % 3, "probe": multinomial.PROBE},
            r"'even' of example 0 is 0.0; this probe's targets must be \[examples, classes\] of 0 and one 1, as jax.nn.one_hot",
        ),
        (
            {"y": np.eye(2)[np.arange(20) % 2][None] + 1, "probe": lda.EQUAL_PRIORS},
            r"'even' of example 0 is \[2.0, 1.0\]; this probe's targets must be \[examples, classes\]",
        ),
        (
            {"y": Y, "probe": logistic.PROBE._replace(target=LABELS)},
            r"this probe's targets must be \[examples, labels\] of 0 and 1",
        ),
        (
            {"y": np.stack([[[Y, 3 * Y, Y]] * 2]).transpose(1, 2, 0, 3)},
            "example 1 is 3.0 at layer 4, position b; this probe's",
        ),
        (
            {"y": np.full(20, 0.3), "probe": ridge.PROBE},
            "'even' has the same number in the 20 examples to be fitted on",
        ),
        ({"y": Y[:19]}, "targets .19,. must be .labels, examples, …., with 20 examples"),
        ({"x": X[:, :, :19]}, "x .* has 19 examples, splits have 20"),
        ({"labels": ("even", "odd")}, "2 names of 1 labels|targets"),
        ({"w": -np.ones(20)}, "weights .20,. must be finite, at least 0"),
        ({"untrained": X[:1]}, "untrained activations are"),
        ({"types": np.arange(3)}, "types .3,. must be one number for each of 20"),
        ({"texts": ["a", "b"]}, "2 texts of 20 examples"),
    ],
)
def test_it_is_one_clear_line(arguments, message):
    with pytest.raises(InputError, match=message) as raised:
        checked(**arguments)
    assert "\n" not in str(raised.value)


def test_the_same_text_on_both_sides_is_counted():
    with pytest.warns(UserWarning, match="20 of 20 examples are scored by a fit that saw the same text"):
        checked(texts=["one"] * 20)


def test_classes_are_counted_too():
    y = np.eye(3)[np.r_[np.zeros(10, int), np.ones(8, int), [2, 2]]]
    with pytest.raises(InputError, match="'kind' has 2 examples of class 2, fewer than its 3 folds"):
        checked(y=y[None], labels=("kind",), probe=multinomial.PROBE, folds=3)


ALONE = np.repeat([0, 0, 0, 0, 1], 4)  # what groups of four have: the last alone has it


@pytest.mark.parametrize(
    ("probe", "y", "what"),
    [
        (logistic.PROBE, ALONE, "one class only"),
        (lda.EQUAL_PRIORS, np.eye(2)[None, ALONE], "one class only"),
        (logistic.PROBE._replace(target=LABELS), np.stack([Y, ALONE], 1)[None], "one class only"),
        (ridge.PROBE, np.where(ALONE, np.arange(20), 7.0), "the same number"),
        (ridge.PROBE, np.where(ALONE, np.arange(20), 7.0)[None, :, None] * [1, 2], "the same number"),
    ],
)
def test_what_lies_in_one_group_is_not_there_for_the_fit_without_it(probe, y, what):
    splits = cross_validation(20, 4, groups=np.arange(20) // 4, seeds=2)
    fold = splits.fold[0, -1]
    n = (splits.fold[0] != fold).sum()
    where = f"'even' has {what} in the {n} examples to be fitted on without fold {fold} of seed 0$"
    with pytest.raises(InputError, match=where):
        check(probe, Examples(X, y), splits, AXES, ("even",))


def test_a_class_of_several_that_a_fit_does_not_see_is_warned_of():
    splits = cross_validation(20, 4, groups=np.arange(20) // 4)
    own, fold = np.where(ALONE, 2, np.arange(20) % 2), splits.fold[0, -1]
    with pytest.warns(
        UserWarning, match=f"no example of a class in 1 fits, such as of class 2 without fold {fold} of"
    ):
        check(multinomial.PROBE, Examples(X, np.eye(3)[None, own]), splits, AXES, ("kind",))


def test_constant_features_are_warned_of():
    with pytest.warns(UserWarning, match="1 of 4 features of x are constant at layer 4, position a"):
        checked(x=changed((0, 0, slice(None), 2), 1.0))


def test_what_has_weight_0_may_be_unknown():
    y = np.where(np.arange(20) == 4, np.nan, Y)
    assert checked(y=y, w=(np.arange(20) != 4).astype(float)).w.sum() == 19


def test_an_unknown_target_does_not_spoil_a_fit():
    y = np.where(np.arange(20) == 4, np.nan, Y)
    w = np.stack([np.arange(20) != 4])
    got = everywhere(logistic.PROBE, Examples(X[0, 0], y, w), cross_validation(20, 2), logistic.Hypers(1.0))
    assert np.isfinite(got.measures.accuracy).all() and np.isfinite(got.params.weights).all()
