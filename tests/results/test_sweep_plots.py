"""Parallel coordinates: runs lie where their values say, numbers, decades and names alike."""

import numpy as np
import pytest

from interp_jax.results.sweep_plots import Coordinate, parallel

LOSS = np.array([3.0, 1.0, np.nan])


def axes(*values):
    return parallel([Coordinate("<b>", one) for one in values], LOSS, "a <i> & b").data[0]


def test_each_axis_has_the_runs_values_and_ticks_where_they_are_few():
    few, many, names, truths = axes([1, 2, 2], list(range(1, 40)), ["b", "<a>", "b"], [True, False, None]).dimensions
    np.testing.assert_array_equal(few.values, [1, 2, 2])
    assert (few.label, few.ticktext) == ("&lt;b&gt;", ("1", "2"))
    assert many.tickvals is None
    assert list(names.values) == [1, 0, 1] and names.ticktext == ("&lt;a&gt;", "b")
    assert truths.ticktext == ("False", "None", "True") and list(truths.values) == [2, 0, 1]


def test_values_over_decades_lie_by_their_logarithm():
    few, many = axes([1e-4, 1e-2, 1e-3], np.geomspace(0.5, 2e4, 40).tolist()).dimensions
    np.testing.assert_allclose(few.values, [-4, -2, -3])
    assert few.ticktext == ("0.0001", "0.001", "0.01")
    assert [float(t) for t in many.ticktext] == pytest.approx([1, 10, 100, 1000, 10_000])
    np.testing.assert_allclose(many.tickvals, [0, 1, 2, 3, 4], atol=1e-12)


def test_colours_run_over_what_is_finite():
    line = axes([1, 2, 3]).line
    assert (line.cmin, line.cmax) == (1.0, 3.0) and line.colorbar.title.text == "a &lt;i&gt; &amp; b"
