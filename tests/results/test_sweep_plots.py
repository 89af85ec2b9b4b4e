"""Parallel coordinates: runs lie where their values say, numbers, decades and names alike."""

import numpy as np
import pytest

from interp_jax.results.plot_style import GREY, translucent
from interp_jax.results.sweep_plots import Coordinate, parallel, scale_of


def test_few_numbers_and_names_have_ticks_each():
    few = scale_of([1, 2, 4])
    np.testing.assert_allclose(few.place, [0, 1 / 3, 1])
    np.testing.assert_allclose(few.ticks, few.place)
    assert few.labels == ["1", "2", "4"]
    names = scale_of(["b", "<a>", "b"])
    np.testing.assert_array_equal(names.place, [1, 0, 1])
    assert names.labels == ["&lt;a&gt;", "b"]
    assert scale_of([True, False, None]).labels == ["False", "None", "True"]
    np.testing.assert_array_equal(scale_of([7.0, 7.0]).place, [0.5, 0.5])
    assert np.isnan(scale_of([1.0, np.nan, 3.0]).place[1])


def test_values_over_decades_lie_by_their_logarithm():
    few = scale_of([1e-4, 1e-2, 1e-3])
    np.testing.assert_allclose(few.place, [0, 1, 0.5])
    many = scale_of(np.geomspace(0.1, 1e4, 40).tolist())
    np.testing.assert_allclose(many.place, np.linspace(0, 1, 40))
    assert [float(t) for t in many.labels] == pytest.approx([0.1, 1, 10, 100, 1000, 10_000])
    np.testing.assert_allclose(many.ticks, np.linspace(0, 1, 6), atol=1e-12)
    plain = scale_of(np.linspace(3, 5, 40).tolist())
    np.testing.assert_allclose(plain.ticks, [0, 0.25, 0.5, 0.75, 1])


def test_runs_are_lines_of_their_shade_and_those_without_a_value_grey():
    loss = np.array([3.0, 1.0, np.nan, 1.01])
    figure = parallel([Coordinate("<b>", [1, 2, 3, 4]), Coordinate("n", [0, 1, 1, 0])], loss, "a <i> & b")
    grey, low, high, key = figure.data
    assert grey.line.color == translucent(GREY, 0.9) and low.line.color != high.line.color
    np.testing.assert_allclose(low.y, [1 / 3, 1, np.nan, 1, 0, np.nan])
    np.testing.assert_allclose(low.x, [0, 1, np.nan, 0, 1, np.nan])
    np.testing.assert_allclose(high.y, [0, 0, np.nan])
    assert (key.marker.cmin, key.marker.cmax) == (1.0, 3.0)
    assert key.marker.colorbar.title.text == "a &lt;i&gt; &amp; b"
    texts = [one.text for one in figure.layout.annotations]
    assert texts[0] == "&lt;b&gt;" and texts[1:5] == ["1", "2", "3", "4"] and "<b>" not in texts
